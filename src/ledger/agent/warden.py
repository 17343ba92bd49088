"""The warden: the small parent of one attempt. Run as `python -I -S warden.py`, standard library.

It starts the job's command in a session of its own, as the job's account, and outlives every
process the command leaves behind: it is their reaper (PR_SET_CHILD_SUBREAPER), so a process that
leaves the session or is forked twice still becomes its child and is killed with the rest. It ends
the job at its time limit, when told to, when the lease it was given has run out, and when the
agent dies (the control socket closes; a parent-death signal says it again).

Control, JSON lines on the socket that is its standard input. From the agent: first the task
(`Task` as an object), then `["stop", grace_s]`, `["kill"]`, `["lease", s]` (a moment of
CLOCK_BOOTTIME, 0 for none). To the agent: `["started"]` once the command runs, or `["refused",
detail]` if it could not be; at last `["ended", by, wait status, ran_us, cpu_us]`, when no process
is left; `by` is what ended it: "" (itself), time_limit, stop, kill, lease or agent; `cpu_us` the
processor time of all that was reaped. Its standard output is the job's, and is closed here as soon
as the job has it.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LOOK_AGAIN_S = 1.0  # a suspended machine stops poll()'s clock, not CLOCK_BOOTTIME: look at it
Process = tuple[int, int]  # pid and start time: a pid alone may be a stranger by now


def prctl(option: int, value: int) -> None:
    """prctl(2), or OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def boottime() -> float:
    """Seconds since the machine started, the time it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


# ── the job's first process, between fork and exec ───────────────────────────────────────────────


class Refused(Exception):
    """The command can't be run; the text says why, for the job's owner."""


def become(task: dict[str, Any], output: int, warden: int) -> None:
    """Turn this freshly forked process into the job's command. Returns only by an exception."""
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.umask(0o077)
    drop_privilege(task)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which clears it
    if os.getppid() != warden:
        raise Refused("the process that watches over the job is gone")
    try:
        os.chdir(task["cwd"])
    except OSError as e:
        raise Refused(f"can't enter the working directory {task['cwd']}: {e.strerror}") from None
    if task["output_path"]:
        output = open_output(task["output_path"])
    os.dup2(output, 1)
    os.dup2(output, 2)
    argv, env = task["argv"], task["env"]
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 - to run what the user asked for is the task
    except OSError as e:
        raise Refused(f"can't run {task['shown']}: {e.strerror}") from None


def drop_privilege(task: dict[str, Any]) -> None:
    """Take the job's account, all of it and for good; check by reading back."""
    if task["uid"] is None:
        if os.getuid() == 0 or os.geteuid() == 0:
            raise Refused("a job is never run as root")
        return
    uid, gid, groups = int(task["uid"]), int(task["gid"]), [int(g) for g in task["groups"]]
    if uid == 0:
        raise Refused("a job is never run as root")
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if (
        os.getresuid() != (uid, uid, uid)
        or os.getresgid() != (gid, gid, gid)
        or set(os.getgroups()) != set(groups)
    ):
        raise Refused("could not take the account's identity")


def open_output(path: str) -> int:
    """Open the owner's own output file, as the owner, never through a symbolic link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o666)  # the umask leaves it to the owner alone
    except OSError as e:
        raise Refused(f"can't open the output file {path}: {e.strerror}") from None
    os.set_blocking(fd, True)  # O_NONBLOCK was there so that a FIFO can't hold us up
    return fd


# ── all that descends from the warden ────────────────────────────────────────────────────────────


def stat_of(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start time of a process; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def descendants() -> set[Process]:
    """Every living process below this one."""
    children: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := stat_of(int(name))) and stat[0] not in "ZX":
            children.setdefault(stat[1], []).append((int(name), stat[2]))
    found: set[Process] = set()
    below = [os.getpid()]
    while below:
        for process in children.get(below.pop(), ()):
            if process not in found:
                found.add(process)
                below.append(process[0])
    return found


def send(processes: set[Process], *numbers: int) -> None:
    """Send signals to these very processes and to none that has taken the number of one."""
    for pid, start in processes:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            stat = stat_of(pid)
            if stat is not None and stat[2] == start:
                for number in numbers:
                    signal.pidfd_send_signal(fd, number)
        except OSError:
            continue  # it went of itself
        finally:
            os.close(fd)


def kill_all() -> None:
    """SIGKILL to all below; stopped first, so that what forks as fast as we kill can't get away."""
    stopped: set[Process] = set()
    for _ in range(100):
        fresh = descendants() - stopped
        if not fresh:
            break
        send(fresh, signal.SIGSTOP)
        stopped |= fresh
    send(stopped, signal.SIGKILL)


def reaped_us() -> int:
    """Processor time, µs, of every process that was waited for: by us, or by one that was in turn.

    What a process's own children used is lost where it ignores SIGCHLD: the kernel reaps them then.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1_000_000)


# ── the watch ────────────────────────────────────────────────────────────────────────────────────


class Warden:
    """One attempt from its start until nothing of it is left."""

    def __init__(self, control: socket.socket, task: dict[str, Any], rest: bytes) -> None:
        self.control, self.task, self.rest = control, task, rest
        self.by = ""
        self.kill_at: float | None = None
        self.limit_at: float | None = None
        self.lease_until = float(task["lease_until"])
        self.main = 0
        self.status: int | None = None
        self.refused = b""
        self.began = self.ended = boottime()
        self.wake, wake_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.end("agent", 0.0))
        self.poll = select.poll()
        for fd in (self.wake, control.fileno()):
            self.poll.register(fd, select.POLLIN)

    def launch(self, output: int) -> None:
        """Fork the job's first process; `self.errors` tells when it has become the command."""
        self.errors, errors_end = os.pipe2(os.O_CLOEXEC)
        me = os.getpid()
        self.main = os.fork()
        if self.main == 0:
            try:
                signal.set_wakeup_fd(-1)
                become(self.task, output, me)
            except BaseException as e:
                os.write(errors_end, str(e).encode(errors="replace")[:4000] or b"unknown error")
            finally:
                os._exit(127)
        os.close(errors_end)
        os.close(output)
        self.poll.register(self.errors, select.POLLIN)

    def watch(self) -> None:
        """Until the job is over and every process of it is gone."""
        self.obey(b"")
        rounds = 0
        while not (self.reap() and self.errors < 0):
            now = boottime()
            if self.limit_at is not None and now >= self.limit_at:
                self.end("time_limit", self.task["kill_grace_s"])
            if self.lease_until and now >= self.lease_until:
                self.end("lease", 0.0)
            over = self.status is not None or (self.kill_at is not None and now >= self.kill_at)
            if over:
                kill_all()
                rounds += 1
            self.listen(min(1.0, 0.005 * 2**rounds) if over else self.patience(now))

    def patience(self, now: float) -> float:
        moments = [t for t in (self.limit_at, self.lease_until, self.kill_at) if t]
        if not moments:
            return 3600.0
        return min(LOOK_AGAIN_S, max(0.0, min(moments) - now))

    def listen(self, timeout_s: float) -> None:
        for fd, _ in self.poll.poll(int(timeout_s * 1000) + 1):
            if fd == self.wake:
                os.read(self.wake, 4096)
            elif fd == self.errors:
                self.hear_of_exec()
            else:
                self.hear_agent()

    def hear_of_exec(self) -> None:
        detail = os.read(self.errors, 4096)
        self.refused += detail
        if detail:
            return
        self.poll.unregister(self.errors)
        os.close(self.errors)
        self.errors = -1
        if not self.refused:
            self.began = boottime()
            if self.task["time_limit_s"]:
                self.limit_at = self.began + self.task["time_limit_s"]
            self.tell("started")

    def hear_agent(self) -> None:
        try:
            data = self.control.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.poll.unregister(self.control.fileno())
            self.end("agent", 0.0)
            return
        self.obey(data)

    def obey(self, data: bytes) -> None:
        """Do what the whole lines received so far say."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            word, *values = json.loads(line)
            if word == "stop":
                self.end("stop", values[0])
            elif word == "kill":
                self.end("kill", 0.0)
            elif word == "lease":
                self.lease_until = float(values[0])

    def end(self, by: str, grace_s: float) -> None:
        """End the job: SIGTERM now, SIGKILL after the grace. The first reason is the one told."""
        if self.status is not None:
            return
        self.by = self.by or by
        self.limit_at = None
        if by == "lease":
            self.lease_until = 0.0
        due = boottime() + grace_s
        if self.kill_at is None and grace_s > 0:
            send(descendants(), signal.SIGTERM, signal.SIGCONT)
        self.kill_at = due if self.kill_at is None else min(self.kill_at, due)

    def reap(self) -> bool:
        """Collect what has died; True when nothing is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.main:
                self.status, self.ended = status, boottime()

    def tell(self, *words: object) -> None:
        with contextlib.suppress(OSError):  # an agent that is gone needs no answer
            self.control.sendall(json.dumps(words).encode() + b"\n")


def main() -> None:
    """Read the task, run it, tell how it ended."""
    control, output = socket.socket(fileno=os.dup(0)), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    data = b""
    while b"\n" not in data:
        part = control.recv(1 << 20)
        if not part:
            sys.exit(1)
        data += part
    line, _, rest = data.partition(b"\n")
    warden = Warden(control, json.loads(line), rest)
    if os.getppid() != warden.task["agent"]:
        sys.exit(1)
    warden.launch(output)
    warden.watch()
    if warden.refused:
        warden.tell("refused", warden.refused.decode(errors="replace"))
    else:
        ran_us = max(0, int((warden.ended - warden.began) * 1_000_000))
        warden.tell("ended", warden.by, warden.status, ran_us, reaped_us())


if __name__ == "__main__":
    main()
