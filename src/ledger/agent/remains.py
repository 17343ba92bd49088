"""What can still be read of a spool, whatever has become of its file."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from ledger.agent.spool import Memory


class Remains(NamedTuple):
    """A spool as far as it can be read: `lines` of it, written between `first` and `last` (µs by
    the node's clock, 0 if there is none); `damaged` are the numbers of lines that can't be."""

    memory: Memory
    lines: int
    first: int
    last: int
    damaged: tuple[int, ...]


def remains(path: Path) -> Remains:
    """Read a spool; what does not read is left out. A last line without its end was being written
    when the power went, and is no damage.

    Unlike an agent, which must not act on half a memory, whoever asks what happened takes the
    half. Raises OSError.
    """
    memory, damaged, times = Memory(), [], list[int]()
    *lines, _torn = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            times.append(memory.remember(line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            damaged.append(number)
    known = [at for at in times if at]
    return Remains(memory, len(times), min(known, default=0), max(known, default=0), tuple(damaged))
