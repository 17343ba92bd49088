"""Real services as processes: a master, its projections, simulated agents."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.load import Target
from benchmarks.logs import fill
from benchmarks.places import Place, environment

DEADLINE_S = 300.0


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE_S)
        self.sock.connect(str(self._path))


class Running:
    """A service that runs at `place`; loads go to `unix` or, with a token, to `tcp`."""

    def __init__(self, place: Place, port: int) -> None:
        self.place = place
        self.unix: Target = str(place.data / "jobledger.sock")
        self.tcp: Target = ("127.0.0.1", port)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request; its answer's JSON, which must be a good one."""
        return json.loads(self.text(method, path, body))

    def text(self, method: str, path: str, body: object = None) -> bytes:
        """One request; its answer, which must be a good one."""
        connection = Unix(Path(str(self.unix)))
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, f"{method} {path}: {answer.status} {said!r}"
        return said

    def ready(self) -> bool:
        """Does it reign?"""
        try:
            return bool(self.ask("GET", "/readyz")["ready"])
        except (OSError, AssertionError, http.client.HTTPException):
            return False

    def token(self, owner: str) -> str:
        """A new token of a user."""
        secret: str = self.ask("POST", "/v1/tokens", {"owner": owner})["secret"]
        return secret

    def settle(self) -> None:
        """Wait until every projection has taken the whole log: a rebuild would be measured too."""
        until(self._followed, "the projections have caught up")

    def _followed(self) -> bool:
        lines = self.text("GET", "/metrics").decode().splitlines()
        lags = [float(line.split()[-1]) for line in lines if "projection_lag_events{" in line]
        return bool(lags) and not any(lags)

    def queue(self, jobs: int, **job: object) -> None:
        """Submit so many jobs, by thousands."""
        for start in range(0, jobs, 1000):
            body = [{"argv": ["sleep", "86400"], **job}] * min(1000, jobs - start)
            self.ask("POST", "/v1/jobs", body)


def until(what: Any, saying: str, every_s: float = 0.05) -> None:
    """Wait until `what()` is true."""
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, f"{saying}: not within {DEADLINE_S:g} s"
        time.sleep(every_s)


@contextlib.contextmanager
def process(words: list[str], env: dict[str, str], said: Path) -> Iterator[None]:
    """A Python process for as long as the block runs."""
    with said.open("ab") as log:
        started = subprocess.Popen([sys.executable, *words], env=env, stdout=log, stderr=log)
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def past(place: Place, lives: int) -> None:
    """Write the log of a service where so many jobs have run and ended."""
    log = place.log()
    fill(log, lives=lives, pending=0)
    log.close()


@contextlib.contextmanager
def service(place: Place, *, agents: int) -> Iterator[Running]:
    """A master, `follow`, and so many simulated nodes, all in contact."""
    env, port = environment(place), free_port()
    where = ["--data", str(place.data)]
    said = place.data / "said"
    with contextlib.ExitStack() as stack:
        listen = ["--listen", f"127.0.0.1:{port}"]
        master = ["-m", "ledger", "master", *where, *listen, "--accept-clock"]
        stack.enter_context(process(master, env, said))
        running = Running(place, port)
        until(running.ready, f"the master reigns ({said.read_text()})")
        stack.enter_context(process(["-m", "ledger", "follow", *where], env, said))
        words = ["-m", "ledger", "agent", "--name", "s", "--simulate", str(agents)]
        env = {**env, "JOBLEDGER_URL": f"unix:{running.unix}"}
        stack.enter_context(process(words, env, said))
        until(lambda: _in_contact(running) == agents, "the nodes are in contact")
        yield running


def _in_contact(running: Running) -> int:
    nodes = running.ask("GET", "/v1/nodes")["nodes"]
    return sum(1 for node in nodes if node["state"] in ("idle", "allocated"))


@contextlib.contextmanager
def trivial(place: Place) -> Iterator[tuple[Target, Target]]:
    """The trivial service: where it listens, on a Unix socket and on TCP (two processes)."""
    port, path = free_port(), str(place.data / "trivial.sock")
    env, said = environment(place), place.data / "said-trivial"
    with (
        process(["-m", "benchmarks.trivial", path], env, said),
        process(["-m", "benchmarks.trivial", str(port)], env, said),
    ):
        until(lambda: Path(path).exists() and _listens(port), "the baseline listens")
        yield path, ("127.0.0.1", port)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
