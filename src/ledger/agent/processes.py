"""The only module that knows processes: it starts an attempt, ends it, and says how it ended.

No shell of ours stands between an order and its command. Each attempt gets a fresh scratch
directory, a clean environment and a warden (`warden.py`), which is what really starts, watches and
kills; here is its other end. An attempt is over when no process of it is left and its scratch is
wiped, not before.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import structlog

from ledger.agent import warden
from ledger.agent.accounts import Account, NoSuchAccount, account_for
from ledger.agent.leftovers import WARDEN_VARIABLE, sweep, wipe
from ledger.wire import EndKind, Order

log = structlog.get_logger("agent")

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PIPE_BYTES = 1 << 20
READ_BYTES = 1 << 18
Sink = Callable[[bytes], None]


class Refused(Exception):
    """The attempt can't be started: `cause` as in `wire.Report`, the text for the job's owner."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause, self.detail = cause, detail


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, in the words of `wire.Report`; `cpu_us` None: nobody measured it."""

    end: EndKind
    cause: str
    exit_code: int | None = None
    signal: int | None = None
    ran_us: int = 0
    detail: str = ""
    cpu_us: int | None = None


class Running(Protocol):
    """An attempt that has been started."""

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all of it, SIGKILL after the grace. Again, with a shorter grace: hurries."""

    def kill(self) -> None:
        """SIGKILL to all of it, now."""

    def extend(self, lease_until: float) -> None:
        """It may run until then (a moment of CLOCK_BOOTTIME); it is killed even if we sleep."""

    async def wait(self) -> Ending:
        """When no process is left and the scratch is wiped. To be awaited once."""


class Runner(Protocol):
    """What the daemon needs of the operating system."""

    async def start(self, order: Order, sink: Sink, lease_until: float) -> Running:
        """Start the command; `Refused` if it could not be (then nothing of it is left)."""

    async def clear(self) -> int:
        """Kill and wipe whatever an earlier agent left; the number of processes there were."""


def environment(order: Order, account: Account, scratch: Path) -> dict[str, str]:
    """All that a job finds in its environment."""
    env = {
        "PATH": PATH,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "LANG": "C.UTF-8",
        "TMPDIR": str(scratch),
        "JOBLEDGER_SCRATCH": str(scratch),
        "JOBLEDGER_JOB_ID": str(order.job),
        "JOBLEDGER_ATTEMPT": str(order.attempt),
        "JOBLEDGER_NODES": ",".join(order.nodes),
        "JOBLEDGER_REQUEST": order.request,
    }
    if order.array_index >= 0:
        env["JOBLEDGER_ARRAY_JOB_ID"] = str(order.array_first)
        env["JOBLEDGER_ARRAY_TASK_ID"] = str(order.array_index)
    return env


class Processes:
    """The runner of a real node. `root` is a directory of ours alone, for scratch directories."""

    def __init__(self, root: Path, run_as: str = "") -> None:
        self.root, self.run_as = root.absolute(), run_as
        self.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        found = self.root.lstat()
        if not self.root.is_dir() or self.root.is_symlink() or found.st_uid != os.geteuid():
            raise OSError(f"{self.root} is not a directory of this account's own")
        self.root.chmod(0o711)  # jobs reach their own directory, and list no others

    async def start(self, order: Order, sink: Sink, lease_until: float) -> Running:
        """Start the command; `Refused` if it could not be (then nothing of it is left)."""
        try:
            account = await asyncio.to_thread(account_for, order.user, self.run_as)
        except NoSuchAccount as e:
            raise Refused("no_such_account", str(e)) from None
        scratch = self.root / f"{order.job}.{order.attempt}"
        try:
            argv, shown = await asyncio.to_thread(_prepare, order, account, scratch)
            task = _task(order, account, scratch, argv, shown, lease_until)
            attempt = await _Attempt.launch(task, scratch, sink)
        except (Refused, OSError) as e:
            await asyncio.to_thread(_clean, scratch, False)
            if isinstance(e, Refused):
                raise
            raise Refused("exec_failed", f"the node could not prepare the job: {e}") from e
        return attempt

    async def clear(self) -> int:
        """Kill and wipe whatever an earlier agent left; the number of processes there were."""
        killed = await asyncio.to_thread(sweep, self.root)
        for left in list(self.root.iterdir()):
            await asyncio.to_thread(wipe, left)
        return killed


def scratch_root(state_dir: Path, name: str) -> Path:
    """Where scratch directories lie by default: for root, where every account can reach its own."""
    if os.geteuid() != 0:
        return state_dir / "scratch"
    digest = hashlib.sha256(str(state_dir.absolute()).encode()).hexdigest()[:8]
    return Path("/var/tmp") / f"jobledger-{name}-{digest}"  # noqa: S108 - checked in Processes


def _prepare(order: Order, account: Account, scratch: Path) -> tuple[list[str], str]:
    """Make the scratch directory, with the script in it. What to execute, and how to name it."""
    wipe(scratch)
    scratch.mkdir(mode=0o700)
    argv, shown = list(order.argv), order.argv[0] if order.argv else ""
    if order.script:
        first = order.script.split("\n", 1)[0]
        if not first.startswith("#!"):
            raise Refused(
                "exec_failed",
                "the script does not say what runs it: make its first line, for example, "
                "#!/bin/bash",
            )
        path = scratch / "script"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o700)
        with os.fdopen(fd, "wb") as f:
            f.write(order.script.encode())
            if account.switch:
                os.fchown(fd, account.uid, account.gid)
        argv, shown = [str(path), *order.argv], f"the script, whose first line is {first[:200]}"
    if not argv:
        raise Refused("exec_failed", "there is neither a command nor a script")
    if account.switch:
        os.chown(scratch, account.uid, account.gid)
    return argv, shown


def _task(
    order: Order, account: Account, scratch: Path, argv: list[str], shown: str, lease: float
) -> dict[str, object]:
    """What the warden is told."""
    return {
        "agent": os.getpid(),
        "argv": argv,
        "shown": shown,
        "env": environment(order, account, scratch),
        "cwd": order.workdir or str(scratch),
        "output_path": order.output_path,
        "uid": account.uid if account.switch else None,
        "gid": account.gid,
        "groups": list(account.groups),
        "time_limit_s": order.time_limit_s,
        "kill_grace_s": order.kill_grace_s,
        "lease_until": lease,
    }


def _clean(scratch: Path, watched: bool) -> None:
    """Nothing of the attempt stays: no file, and no process if its warden did not see to that."""
    if not watched:
        sweep(scratch)
    wipe(scratch)


class _Attempt:
    """Our end of a warden."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        out: int,
        scratch: Path,
        sink: Sink,
    ) -> None:
        self._process, self._control, self._out = process, control, out
        self._scratch, self._sink = scratch, sink
        self._heard = b""

    @classmethod
    async def launch(cls, task: Mapping[str, object], scratch: Path, sink: Sink) -> "_Attempt":
        """Start the warden with its task and wait until it says that the command runs."""
        ours, theirs = socket.socketpair()
        out, out_end = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # fewer wake-ups; an account may have used up its quota
            fcntl.fcntl(out_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own file; 2 ms
                    [sys.executable, "-I", "-S", warden.__file__],
                    stdin=theirs.fileno(),
                    stdout=out_end,
                    stderr=subprocess.DEVNULL,
                    env={WARDEN_VARIABLE: str(scratch)},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                os.close(out)
                raise
            finally:
                os.close(out_end)
        attempt = cls(process, ours, out, scratch, sink)
        ours.setblocking(False)
        os.set_blocking(out, False)
        loop = asyncio.get_running_loop()
        loop.add_reader(out, attempt._take_output)
        with contextlib.suppress(OSError):  # what it then says, or does not, tells more
            await loop.sock_sendall(ours, json.dumps(task).encode() + b"\n")
        word, *values = await attempt._hear()
        if word == "started":
            return attempt
        await attempt._finish()
        detail = str(values[0]) if values else "the process that watches over the job was killed"
        raise Refused("exec_failed", detail)

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all of it, SIGKILL after the grace."""
        self._say(["stop", grace_s])

    def kill(self) -> None:
        """SIGKILL to all of it, now."""
        self._say(["kill"])

    def extend(self, lease_until: float) -> None:
        """It may run until then."""
        self._say(["lease", lease_until])

    async def wait(self) -> Ending:
        """When no process is left and the scratch is wiped."""
        word, *values = await self._hear()
        await self._finish()
        while True:
            try:
                await asyncio.to_thread(_clean, self._scratch, word == "ended")
                break
            except OSError as e:
                log.error("scratch_not_wiped", scratch=str(self._scratch), error=str(e))
                await asyncio.sleep(1)
        if word != "ended":
            detail = "the process that watched over the job was killed, and the job with it"
            return Ending("failed", "signal", signal=int(signal.SIGKILL), detail=detail)
        by, status, ran_us, cpu_us = values
        return replace(ending(str(by), int(status)), ran_us=int(ran_us), cpu_us=int(cpu_us))

    def _say(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it is gone, or going
            self._control.send(json.dumps(message).encode() + b"\n")

    async def _hear(self) -> list[Any]:
        """The warden's next word; `["gone"]` if there is no warden any more."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._heard:
            try:
                data = await loop.sock_recv(self._control, 65536)
            except OSError:
                data = b""
            if not data:
                return ["gone"]
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return list(json.loads(line))

    async def _finish(self) -> None:
        """The warden has said its last word: collect it, and the rest of the output."""
        self._control.close()
        await asyncio.to_thread(self._process.wait)
        asyncio.get_running_loop().remove_reader(self._out)
        for _ in range(2 * PIPE_BYTES // READ_BYTES):  # not for ever: a stranger may hold the pipe
            if not self._take_output():
                break
        os.close(self._out)

    def _take_output(self) -> bool:
        try:
            data = os.read(self._out, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._out)
            return False
        self._sink(data)
        return True


def ending(by: str, status: int) -> Ending:
    """What a warden's last word means. `by`: what ended the job, `status`: as of waitpid(2)."""
    code = os.waitstatus_to_exitcode(status)
    exit_code, number = (code, None) if code >= 0 else (None, -code)
    if by == "time_limit":
        return Ending("timeout", "time_limit", exit_code, number)
    if by == "lease":
        return Ending("node_fail", "lease_expired", exit_code, number)
    if by == "agent":
        return Ending("node_fail", "agent_restarted", exit_code, number)
    if by in ("stop", "kill"):
        return Ending("stopped", "stopped", exit_code, number)
    if number is not None:
        return Ending("failed", "signal", None, number)
    return Ending("completed" if code == 0 else "failed", "exit", code)
