"""Small disks that processes of a test can fill: a tmpfs in a mount namespace of its own.

Any account may make one, root or not, where the kernel has user namespaces. Nobody else sees it,
and it goes with the process that holds it, whatever becomes of the test. Processes of ours join
its namespace before they begin (`zygote.py`); the test reaches into it through `/proc`.
"""

import contextlib
import os
import subprocess
from pathlib import Path

OURSELVES = ("--user", "--map-current-user", "--keep-caps")


class Disk:
    """A file system of `size` bytes at `place`, an empty directory, for those who join it."""

    def __init__(self, place: Path, size: int) -> None:
        self.place = place
        words = ["unshare", *(OURSELVES if os.geteuid() else ()), "--mount", "sh"]
        self._holder = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        self._do(f"mount -t tmpfs -o size={size},mode=711 none {place}")

    @property
    def pid(self) -> int:
        """Whose namespace it is."""
        return self._holder.pid

    def seen(self, path: Path) -> Path:
        """A path on it, as the test can reach it."""
        return Path(f"/proc/{self.pid}/root{path}")

    @property
    def _ballast(self) -> Path:
        return self.seen(self.place / "ballast")

    def fill(self) -> None:
        """Leave not a byte."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def read_only(self, yes: bool) -> None:
        """Mount it anew so that it can't be written, or can; nobody may have it open to write."""
        self._do(f"mount -o remount,{'ro' if yes else 'rw'} {self.place}")

    def _do(self, command: str) -> None:
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(f"{command} 2>&1 | tr '\\n' ' '; echo .\n")
        self._holder.stdin.flush()
        said = self._holder.stdout.readline()
        assert said == ".\n", f"{command}: {said}"

    def close(self) -> None:
        """Let it go, once nobody is in its namespace."""
        self._holder.communicate()
