"""What has been computed from the log up to a position, kept so that it need not be again.

A checkpoint is never trusted: it counts only if the log confirms its position and hash, its own
digest holds, and the reader's state version is the one that wrote it. Otherwise it is ignored
aloud, and the log is read from further back.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from ledger.store.chain import Head
from ledger.store.log import Log

KEPT = 2
SUFFIX = ".checkpoint"

_logger = logging.getLogger(__name__)


class Label(msgspec.Struct, frozen=True):
    """The first line of a checkpoint's file; the payload follows."""

    position: int
    hash: str
    state_version: int
    sha256: str


_label = msgspec.json.Decoder(Label).decode


def save(
    directory: Path, position: int, commit_hash: str, state_version: int, payload: bytes
) -> Path:
    """Keep a checkpoint, durable when this returns, and drop all but the two newest.

    Raises OSError, and leaves nothing behind then.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    label = Label(position, commit_hash, state_version, sha256(payload).hexdigest())
    path = directory / f"{position:020d}{SUFFIX}"
    unfinished = directory / "unfinished"
    try:
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(label) + b"\n")
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    except OSError:
        with contextlib.suppress(OSError):  # a full disk has better use for the room
            unfinished.unlink(missing_ok=True)
        raise
    for old in list(_newest_first(directory))[KEPT:]:
        old.unlink()
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def load(
    directory: Path, log: Log, state_version: int, ignored: list[str] | None = None
) -> tuple[Head, bytes] | None:
    """The newest checkpoint that the log confirms, with its commit; None if there is none.

    Why newer ones were not believed is logged, and added to `ignored`.
    """
    for path in _newest_first(directory):
        try:
            return _confirmed(path, log, state_version)
        except (ValueError, OSError, msgspec.MsgspecError) as error:
            _logger.warning("checkpoint %s ignored: %s", path.name, error)
            if ignored is not None:
                ignored.append(f"checkpoint {path.name}: {error}")
    return None


class Kept(NamedTuple):
    """A checkpoint's file: the position in its name, its size in bytes, when it was written, µs."""

    position: int
    size: int
    written: int


def kept(directory: Path) -> list[Kept]:
    """The checkpoints in a directory by their files alone, the newest first."""
    found = []
    for path in _newest_first(directory):
        with contextlib.suppress(FileNotFoundError, ValueError):  # dropped meanwhile; not ours
            status = path.stat()
            found.append(Kept(int(path.stem), status.st_size, status.st_mtime_ns // 1000))
    return found


def furthest(directory: Path) -> int:
    """The highest position of which a checkpoint was ever kept here: the log had it then."""
    newest = next(_newest_first(directory), None)
    stem = newest.stem if newest is not None else "0"
    return int(stem) if stem.isdigit() else 0


def _confirmed(path: Path, log: Log, state_version: int) -> tuple[Head, bytes]:
    first, _, payload = path.read_bytes().partition(b"\n")
    label = _label(first)
    if label.state_version != state_version:
        raise ValueError(f"made for state version {label.state_version}, not {state_version}")
    if sha256(payload).hexdigest() != label.sha256:
        raise ValueError("its payload is not what its label says")
    head = log.commit_at(label.position)
    if head is None or head.hash != label.hash:
        raise ValueError(f"the log has another commit at position {label.position}")
    return head, payload


def _newest_first(directory: Path) -> Iterator[Path]:
    return iter(sorted(directory.glob(f"*{SUFFIX}"), reverse=True))
