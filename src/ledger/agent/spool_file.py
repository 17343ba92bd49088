"""What the spool needs of a disk: to be read, to grow by a line, to be replaced whole."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol

ROOM_BYTES = 64 << 10
"""Free space with which a spool that was full is used again."""


class SpoolFailed(Exception):
    """An fsync failed: nothing that was written can be relied on, so the agent ends."""


class SpoolFile(Protocol):
    """A file of lines. An OSError means: not written. `SpoolFailed` means: who knows."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def size(self) -> int:
        """Bytes in it."""

    def read(self) -> bytes:
        """All of it; nothing if it is not there."""

    def replace(self, data: bytes) -> None:
        """Make this all of it, durable when this returns; before that, what it was."""

    def append(self, data: bytes, sync: bool) -> None:
        """Add this at its end, durable when this returns if `sync`."""

    def keep(self) -> None:
        """Go on with what is there, behind its last whole line; OSError if there is nothing."""

    def has_room(self) -> bool:
        """Is there some room to spare?"""

    def close(self) -> None:
        """Let it go."""


class DiskFile:
    """A spool's file on disk. Its methods block for an fsync."""

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0
        self._fd = -1
        self._torn = False

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def read(self) -> bytes:
        """All of it; nothing if it is not there."""
        return self.path.read_bytes() if self.path.exists() else b""

    def append(self, data: bytes, sync: bool) -> None:
        """Add this at its end, whole or not at all, and behind no part of a line."""
        if self._torn:
            os.ftruncate(self._fd, self.size)
        self._torn = True
        if os.write(self._fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        if sync:
            self._sync(self._fd)
        self.size += len(data)

    def replace(self, data: bytes) -> None:
        """Write a new file and put it in the place of the old one."""
        temporary = self.path.with_name(self.path.name + ".new")
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(temporary, flags, 0o600)
        try:
            with os.fdopen(os.dup(fd), "wb") as f:
                f.write(data)
            self._sync(fd)
            temporary.rename(self.path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):  # it may be the disk that refuses
                temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._sync(folder)
        finally:
            os.close(folder)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self.size, self._torn = fd, len(data), False

    def keep(self) -> None:
        """Go on with what is there, behind its last whole line; OSError if there is nothing."""
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        data = self.read()
        self.size = data.rfind(b"\n") + 1
        self._torn = len(data) > self.size

    def has_room(self) -> bool:
        """Is there some room to spare?"""
        disk = os.statvfs(self.path.parent)
        return disk.f_bavail * disk.f_frsize >= ROOM_BYTES

    def close(self) -> None:
        """Let the file go."""
        os.close(self._fd)

    def _sync(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as e:  # what the disk has now is unknown, and a second fsync would not say
            raise SpoolFailed(f"{self.path}: {e.strerror}; the agent has to be started anew") from e
