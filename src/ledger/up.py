"""A whole service on one machine: a supervisor without rules of its own.

It starts processes, each in a session of its own and with a log file, starts again what dies, and
ends what it started. It knows nothing of jobs: that the master may die at any moment is what the
log is for. If `up` itself is killed, the kernel kills its children (`tether.py`).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import ledger.tether

FAST_S = 5.0
"""A process that dies sooner after its start has crashed fast."""

MAX_FAST_CRASHES = 3
BACK_OFF_S = 0.25
REST_S = 10.0
"""Between two attempts at a process that has crashed fast so often."""

TERM_S = 8.0
"""How long a process has to end after TERM."""

SECRETS = ("JOBLEDGER_DATABASE_URL", "JOBLEDGER_MAIL")
"""An agent never speaks to the database or to a mail server, and may be one account with the jobs
that it runs."""

MAX_LOG_BYTES = 32 << 20
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Part(NamedTuple):
    """A process to be kept running. Parts of a lower `stage` are ended first; `without` names what
    is not for it of the environment."""

    name: str
    command: tuple[str, ...]
    stage: int = 0
    without: tuple[str, ...] = ()


@dataclass
class _Child:
    part: Part
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    fast_crashes: int = 0
    start_again_at: float | None = None


@dataclass
class Supervisor:
    """Keeps `parts` running. `say` is told what a person at the terminal wants to know.

    `logs` gets a file for each part, `pids` its process id for as long as it runs.
    """

    parts: Sequence[Part]
    logs: Path
    pids: Path
    say: Callable[[str], None]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    term_s: float = TERM_S
    fast_s: float = FAST_S
    rest_s: float = REST_S

    def run(self, started: Callable[[], None] = lambda: None) -> int:
        """Run until SIGTERM, SIGINT or SIGHUP; `started` is called once all processes are.

        Always 0: what happened to a part was said, and the others ran on.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        children = [_Child(part) for part in self.parts]
        for folder in (self.logs, self.pids):
            with contextlib.suppress(OSError):  # where there is no room, it is said soon enough
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for child in children:
                self._start(child)
            started()
            self._keep(children)
        finally:
            try:
                self._end(children)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return 0

    def _keep(self, children: list[_Child]) -> None:
        while True:
            due = [c.start_again_at for c in children if c.start_again_at is not None]
            pause = max(0.0, min(due) - time.monotonic()) if due else 3600.0
            told = signal.sigtimedwait(SIGNALS, pause)
            if told is not None and told.si_signo != signal.SIGCHLD:
                return
            for child in children:
                if child.process is not None and child.process.poll() is not None:
                    self._died(child, child.process.returncode)
                due_at = child.start_again_at
                if due_at is not None and due_at <= time.monotonic():
                    self._start(child)

    def _start(self, child: _Child) -> None:
        part = child.part
        tether = [sys.executable, "-I", "-S", ledger.tether.__file__, str(os.getpid())]
        child.started_at, child.start_again_at = time.monotonic(), None
        try:
            with self._open_log(part) as log:
                child.process = subprocess.Popen(  # noqa: S603
                    [*tether, *part.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={k: v for k, v in self.environment.items() if k not in part.without},
                    start_new_session=True,
                )
        except OSError as error:
            self._crashed(child, f"can't be started: {error}")
            return
        with contextlib.suppress(OSError):  # a full disk: whoever looks there finds no number
            (self.pids / f"{part.name}.pid").write_text(f"{child.process.pid}\n")

    def _open_log(self, part: Part) -> IO[bytes]:
        """The part's log file, or nowhere if its disk takes none; one that has grown large is put
        aside, over the one before it."""
        path = self._log(part)
        try:
            if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
                path.rename(path.with_suffix(".log.1"))
            return open(path, "ab", opener=_private)
        except OSError as error:
            self.say(f"The log of {part.name} can't be opened, and goes nowhere: {error}.")
            return open(os.devnull, "ab")

    def _log(self, part: Part) -> Path:
        return self.logs / f"{part.name}.log"

    def _died(self, child: _Child, status: int) -> None:
        """Start it again, after a pause if it has crashed fast."""
        child.process = None
        self._forget(child)
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        self._crashed(child, how)

    def _crashed(self, child: _Child, how: str) -> None:
        """A pause that grows; and a long one for what crashes again and again, since the cause, a
        full disk or a database that is away, may go as it came."""
        name = child.part.name
        fast = time.monotonic() - child.started_at < self.fast_s
        child.fast_crashes = child.fast_crashes + 1 if fast else 0
        if child.fast_crashes >= MAX_FAST_CRASHES:
            child.start_again_at = time.monotonic() + self.rest_s
            if child.fast_crashes == MAX_FAST_CRASHES:
                self.say(
                    f"{name} {how}, {child.fast_crashes} times at once: it is tried again every "
                    f"{self.rest_s:g} s; the others run on. Its last words, in "
                    f"{self._log(child.part)}:\n" + _last_words(self._log(child.part))
                )
            return
        pause = BACK_OFF_S * 2**child.fast_crashes if child.fast_crashes else 0.0
        child.start_again_at = time.monotonic() + pause
        self.say(f"{name} {how}; starting it again.")

    def _end(self, children: list[_Child]) -> None:
        """End all, stage by stage: agents report to a master that still lives."""
        for stage in sorted({child.part.stage for child in children}):
            alive = [c for c in children if c.part.stage == stage and c.process is not None]
            for child in alive:
                _signal(child, signal.SIGTERM)
                _signal(child, signal.SIGCONT)  # one that was stopped can't obey otherwise
            deadline = time.monotonic() + self.term_s
            for child in alive:
                assert child.process is not None
                try:
                    child.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self.say(f"{child.part.name} did not end within {self.term_s:g} s: killed.")
                    _signal(child, signal.SIGKILL)
                    child.process.wait()
                self._forget(child)

    def _forget(self, child: _Child) -> None:
        with contextlib.suppress(OSError):  # a disk that takes nothing gives nothing up either
            (self.pids / f"{child.part.name}.pid").unlink(missing_ok=True)


def _signal(child: _Child, number: signal.Signals) -> None:
    """Send a signal to the process that we started, and not to what it has started itself."""
    if child.process is not None and child.process.poll() is None:
        child.process.send_signal(number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _last_words(path: Path, lines: int = 3) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            text = file.read().decode(errors="backslashreplace").splitlines()
    except OSError as error:
        return f"  {error}"
    return "\n".join(f"  {line[:300]}" for line in text[-lines:])


def parts(
    data: Path,
    *,
    agents: int,
    listen: str = "",
    status_listen: str = "",
    run_as: str = "",
    insecure: bool = False,
    master_options: Sequence[str] = (),
    program: Sequence[str] = (sys.executable, "-m", "ledger"),
) -> list[Part]:
    """The processes of a whole service with nodes `n1`, `n2` …"""
    where = ("--data", str(data))
    anywhere = ("--insecure-listen",) if insecure else ()
    heard = (*(("--listen", listen) if listen else ()), *anywhere)
    told = (*(("--status-listen", status_listen) if status_listen else ()), *anywhere)
    account = ("--run-as", run_as) if run_as else ()
    found = [Part("master", (*program, "master", *where, *heard, *master_options), stage=2)]
    follow = (*program, "follow", *where, *told)
    found.append(Part("follow", follow, stage=1, without=("JOBLEDGER_MAIL",)))
    for number in range(1, agents + 1):
        name = f"n{number}"
        command = (*program, "agent", *where, "--name", name, *account)
        found.append(Part(f"agent-{name}", command, stage=0, without=SECRETS))
    return found
