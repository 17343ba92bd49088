"""What no two processes may do at once: a lock that ends with whoever holds it, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Held(Exception):
    """Another process holds the lock: the one with this `pid`, in words."""

    def __init__(self, pid: str) -> None:
        super().__init__(f"held by the process with pid {pid}")
        self.pid = pid


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Hold the lock in `file`, which is made, for as long as the block. Raises `Held` at once."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Held(os.pread(fd, 20, 0).decode().strip()) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, whatever is in the file
            os.pwrite(fd, f"{os.getpid()}".ljust(20).encode(), 0)
        yield
    finally:
        os.close(fd)
