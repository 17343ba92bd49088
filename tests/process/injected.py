"""A system call of a running process that fails, and the proof that it did."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .processes import until
from .strace import STRACE, need_strace


@contextlib.contextmanager
def failing(
    pid: int, calls: str, error: str, path: Path, log: Path, *, which: str = "1"
) -> Iterator[None]:
    """While the block runs, the first of these calls on a file fails in each thread of a process;
    `which` says otherwise, as strace does (`1+`: all of them).

    At the end one must have: the process did not just do without.
    """
    need_strace()
    assert STRACE is not None
    words = [STRACE, "-f", "-y", "-o", str(log), "-P", str(path), "-e", f"trace={calls}"]
    inject = ["-e", f"inject={calls}:error={error}:when={which}", "-p", str(pid)]
    program = subprocess.Popen([*words, *inject], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def attached() -> bool:
        statuses = [path.read_text() for path in Path(f"/proc/{pid}").glob("task/*/status")]
        return all(re.search(r"^TracerPid:\t[1-9]", text, re.MULTILINE) for text in statuses)

    try:
        until(attached, 10, "strace's attachment")
        yield
    finally:
        program.terminate()
        program.communicate()
    assert "(INJECTED)" in log.read_text(), f"no {calls} on {path} failed"
