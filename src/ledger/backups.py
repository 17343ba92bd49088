"""Backups by themselves: a thread of `jobledger follow` that starts a process for each.

The process is a `jobledger backup create` of low priority, so that neither memory nor processor
time of it is taken from what follows the log. If this process is killed, so is that one.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

import ledger.tether
from ledger.store.location import open_log
from ledger.store.log import LogFailure
from ledger.store.shelf import newest

logger = structlog.get_logger("backups")

AGAIN_S = 60.0
"""After a backup that failed."""

NO_LOG_S = 2.0
"""Until it is looked again whether there is a log."""

NICE = 10
END_S = 5.0


class Schedule(NamedTuple):
    """Every so many seconds a backup of the log in `data` or `url` into `folder`."""

    data: Path
    url: str | None
    folder: Path
    every_s: int

    def due_in(self) -> float:
        """Seconds until the next backup is due. Raises `LogFailure` and OSError."""
        with contextlib.closing(open_log(self.data, self.url, write=False)) as log:
            last = newest(self.folder, log.incarnation)
        if last is None:
            return 0.0
        age = max(0.0, time.time() - last.created / 1_000_000)
        return max(0.0, self.every_s - age)


@contextlib.contextmanager
def scheduled(schedule: Schedule) -> Iterator[None]:
    """Make backups by the schedule for as long as the block runs."""
    stop = threading.Event()
    maker = threading.Thread(target=_keep, args=(schedule, stop), name="backups", daemon=True)
    maker.start()
    try:
        yield
    finally:
        stop.set()
        maker.join()


def _keep(schedule: Schedule, stop: threading.Event) -> None:
    pause = 0.0
    while not stop.wait(pause):
        try:
            pause = schedule.due_in()
        except (LogFailure, OSError) as error:
            logger.warning("no backup now", error=str(error))
            pause = NO_LOG_S
            continue
        if pause == 0.0 and not _make(schedule, stop):
            pause = AGAIN_S


def _make(schedule: Schedule, stop: threading.Event) -> bool:
    """Make one; whether it counts."""
    began = time.monotonic()
    words = ["backup", "create", "--data", str(schedule.data), "--to", str(schedule.folder)]
    tether = [sys.executable, "-I", "-S", ledger.tether.__file__, str(os.getpid())]
    try:
        process = subprocess.Popen(  # noqa: S603
            [*tether, sys.executable, "-m", "ledger", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        logger.error("backup failed", error=str(error))
        return False
    with process:
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        said = _said(process, stop)
    took = round(time.monotonic() - began, 3)
    if process.returncode == 0:
        logger.info("backup made", seconds=took, said=said)
    elif not stop.is_set():
        logger.error("backup failed", seconds=took, status=process.returncode, said=said)
    return process.returncode == 0


def _said(process: "subprocess.Popen[str]", stop: threading.Event) -> str:
    """What it says until it ends; it is ended when `stop` is set."""
    while True:
        try:
            return process.communicate(timeout=0.2)[0].strip()[-2000:]
        except subprocess.TimeoutExpired:
            if stop.is_set():
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.communicate(timeout=END_S)[0]
                process.kill()
