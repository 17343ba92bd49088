"""What a node is and has installed. Each fact is found once, when the agent starts."""

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ledger.wire import Facts

PACKAGE_LISTS = (
    "var/lib/dpkg/status",
    "var/lib/rpm/rpmdb.sqlite",
    "usr/lib/sysimage/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages",
    "lib/apk/db/installed",
)
"""Where package managers write what is installed; the first that exists is digested."""


def find_facts(root: Path = Path("/")) -> Facts:
    """What this machine is. Reads files (the packages' may be 100 MB): call it in a thread."""
    return Facts(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        image=_image(root),
        kernel=platform.release(),
        packages_sha256=_packages(root),
    )


def boot_id(root: Path = Path("/")) -> str:
    """The kernel's name for the time since it started."""
    return (root / "proc/sys/kernel/random/boot_id").read_text().strip()


def build() -> str:
    """The agent's own release."""
    try:
        return f"jobledger {version('jobledger')}"
    except PackageNotFoundError:
        return "jobledger unpackaged"


def _image(root: Path) -> str:
    """PRETTY_NAME and, for images that have one, IMAGE_ID and IMAGE_VERSION of os-release."""
    values: dict[str, str] = {}
    for place in ("etc/os-release", "usr/lib/os-release"):
        try:
            text = (root / place).read_text()
        except OSError:
            continue
        for line in text.splitlines():
            key, found, value = line.partition("=")
            if found:
                values[key.strip()] = value.strip().strip("\"'")
        break
    parts = (values.get(k, "") for k in ("PRETTY_NAME", "IMAGE_ID", "IMAGE_VERSION"))
    return " ".join(p for p in parts if p)


def _packages(root: Path) -> str:
    for place in PACKAGE_LISTS:
        try:
            with (root / place).open("rb") as f:
                return hashlib.file_digest(f, "sha256").hexdigest()
        except OSError:
            continue
    return ""
