"""Starts `jobledger` commands as processes of their own, a tenth of a second after being asked.

Run as a program, it imports all that the commands need, once, and forks for each command. It reads
JSON lines from its standard input and answers each with one on its standard output: a line
`{"start": [words …], "env": {…}, "stderr": path, "within": pid, "held": bool}` is answered by
`{"pid": …}`, and `{"ask": pid}` by `{"status": …}`, negative for a signal, null while the process
runs. It runs in the namespaces of the process `within`, if that is not 0. What is held stops before
its first step, until it gets SIGCONT. When its input ends it kills what it started and still runs.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from typing import Any

import ledger.agent.run
import ledger.api.app
import ledger.api.board
import ledger.api.server
import ledger.cli.app
import ledger.cli.exits
import ledger.cli.serve
import ledger.domain.cluster
import ledger.store.checkpoint
import ledger.store.postgres  # noqa: F401 - imported here so that no child has to
from ledger.cli import main as jobledger

PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)


CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000


def join(pid: int) -> None:
    """Enter the namespaces of the process that holds a small disk (`disks.py`)."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = [("user", CLONE_NEWUSER)] if os.geteuid() else []
    wanted.append(("mnt", CLONE_NEWNS))
    opened = [(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY), kind) for name, kind in wanted]
    for descriptor, kind in opened:
        if libc.setns(descriptor, kind) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)


def start(words: list[str], env: dict[str, str], stderr: str, within: int, *, held: bool) -> int:
    """Fork, and be `jobledger WORDS` in the child, which never returns from here."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        # Some systems let strace trace its own children only, unless a process asks for more.
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
        if within:
            join(within)
        nothing = os.open(os.devnull, os.O_RDWR)
        log = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(env)
        if held:
            os.kill(os.getpid(), signal.SIGSTOP)
        jobledger(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    gc.collect()
    gc.freeze()
    running: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        if "start" in asked:
            pid = start(
                asked["start"], asked["env"], asked["stderr"], asked["within"], held=asked["held"]
            )
            running.add(pid)
            ended.pop(pid, None)  # the number may have been another's before
            answer: dict[str, int | None] = {"pid": pid}
        else:
            pid = asked["ask"]
            if pid in running and (found := os.waitpid(pid, os.WNOHANG))[0]:
                running.discard(pid)
                ended[pid] = os.waitstatus_to_exitcode(found[1])
            answer = {"status": ended.get(pid)}
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
