"""What a dead agent or a killed warden leaves behind: processes found by their environment, files.

A process of a job carries the path of its scratch directory in its environment (`TMPDIR` and
`JOBLEDGER_SCRATCH`); a warden carries it too, under `JOBLEDGER_WARDEN`. A process that emptied its
environment *and* lost its warden is not found; the warden, which finds it, has to be killed first.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from ledger.agent.warden import Process, send, stat_of

WARDEN_VARIABLE = "JOBLEDGER_WARDEN"
WARDEN_PATIENCE_S = (
    10.0  # a warden whose agent died kills its job by itself; let it, it does it well
)


def marked(path: Path) -> tuple[set[Process], set[Process]]:
    """The wardens, and the other processes, whose environment names `path` or something in it."""
    wardens: set[Process] = set()
    others: set[Process] = set()
    exact, below = f"={path}\0".encode(), f"={path}/".encode()
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes() + b"\0"
        except OSError:
            continue  # another account's, or gone
        if exact not in environment and below not in environment:
            continue
        stat = stat_of(int(name))
        if stat is None or stat[0] in "ZX":
            continue
        is_warden = environment.startswith(f"{WARDEN_VARIABLE}=".encode())
        (wardens if is_warden else others).add((int(name), stat[2]))
    return wardens, others


def sweep(path: Path) -> int:
    """Kill every process that is marked with `path`; return how many there were. Blocks till done.

    A process that can't be killed (it waits for hardware) keeps this waiting: nothing may be said
    to be over while something of it runs.
    """
    seen: set[Process] = set()
    patient_until = time.monotonic() + WARDEN_PATIENCE_S
    while True:
        wardens, others = marked(path)
        if not wardens and not others:
            return len(seen)
        seen |= wardens | others
        send(others, signal.SIGSTOP)  # so that none can answer another's death with new processes
        send(others, signal.SIGKILL)
        if time.monotonic() > patient_until:
            send(wardens, signal.SIGKILL)
        time.sleep(0.02)


def wipe(path: Path) -> None:
    """Remove a directory and all in it, or OSError. Links are removed, never followed."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(path)
    if not path.exists():
        return
    # A job may have locked its own directories, or nested them deeper than rmtree can go.
    for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--one-file-system", "--"]):
        subprocess.run(  # noqa: S603 - fixed commands, and a path that we made
            [*command, str(path)],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    if path.exists():
        raise OSError(f"can't wipe {path}")
