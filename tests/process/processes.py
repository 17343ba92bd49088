"""`jobledger` commands as processes: started quickly or as a user would, told, waited for."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Falsy = Literal[False] | None


# `...` and not `[]`: a lambda that is made in a loop has defaults, and is called without arguments.
def until(what: Callable[..., T | Falsy], deadline_s: float = 30.0, saying: str = "it") -> T:
    """Poll until `what()` is true; its value."""
    end = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < end, f"{saying} did not happen within {deadline_s:g} s"
        time.sleep(0.005)
    return value


def state_of(pid: int) -> str:
    """The kernel's letter for what a process does (`T` is stopped); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def without_ours() -> dict[str, str]:
    """The environment without what says which service is meant."""
    return {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}


class Zygote:
    """The program `zygote.py`, spoken to from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=without_ours() | {"JOBLEDGER_LOG_FORMAT": "text"},
        )

    def ask(self, **what: Any) -> dict[str, Any]:
        """One question, one answer."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        with self._lock:
            self._program.stdin.write(json.dumps(what) + "\n")
            self._program.stdin.flush()
            answer: dict[str, Any] = json.loads(self._program.stdout.readline())
        return answer

    def close(self) -> None:
        """End it and all that it started."""
        assert self._program.stdin is not None
        self._program.stdin.close()
        self._program.wait(30)


class Process:
    """A `jobledger` command that runs. What it says is kept in the file `said`."""

    def __init__(
        self,
        zygote: Zygote,
        words: list[str],
        said: Path,
        env: Mapping[str, str] | None = None,
        *,
        held: bool = False,
        within: int = 0,
    ) -> None:
        self._zygote, self.said, self._within = zygote, said, within
        self.pid = self._start(words, dict(env or {}), held)
        if held:
            until(lambda: state_of(self.pid) == "T", 10, "the stop before the first step")

    def _start(self, words: list[str], env: dict[str, str], held: bool) -> int:
        asked: dict[str, Any] = {"start": words, "env": env, "stderr": str(self.said), "held": held}
        asked["within"] = self._within
        pid: int = self._zygote.ask(**asked)["pid"]
        return pid

    @property
    def status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        status: int | None = self._zygote.ask(ask=self.pid)["status"]
        return status

    def tell(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.status is None:
            os.kill(self.pid, number)

    def ends(self, deadline_s: float = 30.0, by: str = "itself") -> int:
        """Wait for its end; its status."""
        until(lambda: self.status is not None, deadline_s, f"the end of {self.pid} by {by}")
        status = self.status
        assert status is not None
        return status

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it; its status."""
        self.tell(signal.SIGCONT)
        self.tell(number)
        return self.ends()

    def freeze(self) -> None:
        """Stop it, and wait until it is stopped."""
        self.tell(signal.SIGSTOP)
        until(lambda: state_of(self.pid) in "Tt", 10, "the stop")

    def words(self) -> str:
        """What it has said so far."""
        return self.said.read_text() if self.said.exists() else ""


class Cold(Process):
    """A command that is started as a user would, by its name and with nothing loaded."""

    def _start(self, words: list[str], env: dict[str, str], held: bool) -> int:
        command = [str(Path(sys.executable).with_name("jobledger")), *words]
        hold = ["/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh"] if held else []
        with self.said.open("ab") as said:
            self._program = subprocess.Popen(
                [*hold, *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd="/",
                env=without_ours() | env,
                start_new_session=True,
            )
        return self._program.pid

    @property
    def status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self._program.poll()
