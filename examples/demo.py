"""A tour in two minutes: real jobs, a master killed while they run, a node lost, and the answers.

It starts a service of its own in a temporary directory, does what an operator and three users would
do with the `jobledger` command, says what it does and why, and leaves nothing running. Every line
that begins with `$` is a command one can type oneself.
"""

import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
USERS = ("anna", "ben", "carla")
LEASE_S = 10
PATIENCE_S = 60


class Demo:
    """One service, and the people who use it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "ledger"
        self.shared = place / "shared"
        self.tokens: dict[str, str] = {}
        self.acknowledged: dict[int, str] = {}
        self.service: subprocess.Popen[bytes] | None = None

    def jobledger(self, *words: str, user: str = "", show: bool = True) -> str:
        """Run a command as a user (by token) or as the operator (by the socket); its output."""
        environment = {
            **os.environ,
            "JOBLEDGER_URL": f"unix:{self.data}/jobledger.sock",
            "JOBLEDGER_DATA": str(self.data),
            "JOBLEDGER_TOKEN": self.tokens.get(user, ""),
            "COLUMNS": "110",
        }
        if show:
            prompt = f"{user} $" if user else "operator $"
            print(f"\n{prompt} jobledger {' '.join(shlex.quote(w) for w in words)}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "ledger", *words],
            env=environment,
            cwd=self.place,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode and not show:
            raise SystemExit(f"the demo failed: jobledger {' '.join(words)}: {done.returncode}")
        if show:
            print(done.stdout.rstrip(), flush=True)
        return done.stdout

    def data_of(self, *words: str) -> object:
        """A command's answer as data, without showing it."""
        return json.loads(self.jobledger(*words, "-o", "json", show=False))

    def start(self) -> None:
        """Start master, projections and four agents, and wait until the nodes are idle."""
        options = ["--data", str(self.data), "--agents", "4", "--lease", f"{LEASE_S}s"]
        if os.geteuid() == 0:
            options += ["--run-as", ordinary_account()]
        self.service = subprocess.Popen(
            [sys.executable, "-m", "ledger", "up", *options],
            start_new_session=True,
        )
        until("the nodes are idle", lambda: self._idle() == 4)

    def _idle(self) -> int:
        assert self.service is not None
        if self.service.poll() is not None:
            raise SystemExit("the demo failed: the service ended by itself")
        if not (self.data / "jobledger.sock").exists():
            return 0
        return sum(node["state"] == "idle" for node in self.nodes())

    def nodes(self) -> list[dict[str, object]]:
        """All nodes."""
        found = self.data_of("nodes")
        return list(found) if isinstance(found, list) else list(found["nodes"])  # type: ignore[index]

    def jobs(self) -> list[dict[str, object]]:
        """All jobs there ever were."""
        found = self.data_of("jobs", "--all")
        return list(found) if isinstance(found, list) else list(found["jobs"])  # type: ignore[index]

    def submit(self, user: str, *words: str) -> None:
        """Submit as a user, and remember what was acknowledged."""
        text = self.jobledger("submit", "-q", *words, user=user)
        for line in text.split():
            self.acknowledged[int(line)] = user

    def pid(self, name: str) -> int:
        """The process of a part of the service; 0 between two."""
        try:
            return int((self.data / "run" / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def stop(self) -> None:
        """End everything that was started."""
        if self.service is not None and self.service.poll() is None:
            self.service.send_signal(signal.SIGTERM)
            self.service.wait(30)


def ordinary_account() -> str:
    """An account that may run jobs: a root agent runs none as root."""
    for entry in (pwd.getpwnam("nobody"), *pwd.getpwall()):
        if entry.pw_uid >= 1000:
            return entry.pw_name
    raise SystemExit("This machine has no ordinary account to run jobs as: useradd demo")


def until(what: str, true: Callable[[], bool]) -> None:
    """Wait until something is so, for a minute at most."""
    deadline = time.monotonic() + PATIENCE_S
    pause = 0.05
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"the demo failed: waited {PATIENCE_S} s in vain until {what}")
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)


def say(text: str) -> None:
    """Tell the reader what is done, and why."""
    print(f"\n\033[1m── {text}\033[0m" if sys.stdout.isatty() else f"\n── {text}", flush=True)


def submit_work(demo: Demo) -> None:
    """Three users hand in real work."""
    say("Three users submit real work: it computes something and leaves a result.")
    for user in USERS:
        words = ("token", "issue", "--owner", user, "--ttl", "1h", "-q")
        demo.tokens[user] = demo.jobledger(*words, show=False).strip()
    results = str(demo.shared)
    demo.submit("anna", "--array", "0-5", str(EXAMPLES / "pi.sh"), results)
    demo.submit("ben", str(EXAMPLES / "primes.sh"), results)
    demo.submit("carla", str(EXAMPLES / "counter.sh"), results)
    demo.submit("ben", str(EXAMPLES / "words.sh"), results)
    until("jobs run", lambda: sum(n["state"] == "allocated" for n in demo.nodes()) == 4)
    demo.jobledger("jobs")


def kill_master(demo: Demo) -> None:
    """The master dies without warning and comes back."""
    running = [job["job"] for job in demo.jobs() if job["state"] == "running"]
    say(
        f"The master is killed with SIGKILL while jobs {', '.join(map(str, running))} run. "
        "It comes back by replaying its log."
    )
    pid = demo.pid("master")
    print(f"\n$ kill -KILL {pid}", flush=True)
    os.kill(pid, signal.SIGKILL)
    until("another master is there", lambda: demo.pid("master") not in (0, pid))
    demo.jobledger("jobs", "--all")
    known = {job["job"]: job["user"] for job in demo.jobs()}
    lost = [job for job, user in demo.acknowledged.items() if known.get(job) != user]
    print(
        f"\nAcknowledged before the kill: {len(demo.acknowledged)} submissions; lost: {len(lost)}."
    )
    assert not lost, lost
    started_once(demo)


def started_once(demo: Demo) -> None:
    """Every job writes a line when it starts: the witness outside the ledger."""
    lines = (demo.shared / "witness").read_text().split("\n")
    starts = Counter(line for line in lines if line)
    twice = [line for line, count in starts.items() if count > 1]
    print(
        f"Starts that the jobs themselves have witnessed: {len(starts)}; "
        f"attempts started twice: {len(twice)}."
    )
    assert not twice, twice


def lose_node(demo: Demo) -> None:
    """A node falls silent under a job that may be restarted."""
    until("ben's primes run", lambda: node_of(demo, "primes") != "")
    name = node_of(demo, "primes")
    say(
        f"The agent of {name} is stopped, as if its machine had died. After {LEASE_S} s of silence "
        "the node is lost; what may be restarted is queued again, elsewhere."
    )
    until("its agent is there", lambda: demo.pid(f"agent-{name}") != 0)
    agent, tried = demo.pid(f"agent-{name}"), attempts_of(demo, "primes")
    print(f"\n$ kill -STOP {agent}", flush=True)
    os.kill(agent, signal.SIGSTOP)
    until("the node is down", lambda: state_of(demo, name) == "down")
    demo.jobledger("nodes")
    say("Who was hit is on record from the first silence.")
    demo.jobledger("impact", "--nodes", name)
    until("the job is tried elsewhere", lambda: attempts_of(demo, "primes") > tried)
    say(
        "After lease and margin it was safe to start it again, avoiding that node. Of what failed "
        "together the system made an outage by itself; whom it hit, and where their jobs stand:"
    )
    demo.jobledger("outage", "list")
    found = demo.data_of("outage", "list")
    assert isinstance(found, dict)
    demo.jobledger("outage", "affected", str(found["outages"][0]["outage"]))


def node_of(demo: Demo, name: str) -> str:
    """Where the job of this name runs now."""
    for job in demo.jobs():
        if job["name"] == name and job["state"] == "running":
            nodes = job["nodes"]
            assert isinstance(nodes, list)
            return str(nodes[0])
    return ""


def attempts_of(demo: Demo, name: str) -> int:
    """How often the job of this name was tried."""
    job = next(str(job["job"]) for job in demo.jobs() if job["name"] == name)
    found = demo.data_of("show", job)
    assert isinstance(found, dict)
    return len(found["attempts"])


def state_of(demo: Demo, name: str) -> str:
    """A node's state."""
    return next(str(node["state"]) for node in demo.nodes() if node["node"] == name)


def explain(demo: Demo) -> None:
    """Why does it wait?"""
    say("Why does a job wait? Carla asks for all four nodes, and one is down.")
    demo.submit("carla", "--nodes", "4", "--", "hostname")
    job = max(demo.acknowledged)
    demo.jobledger("why", str(job), user="carla")
    demo.jobledger("cancel", str(job), user="carla")


def end_well(demo: Demo) -> None:
    """Results, one job's history, and the proof that nobody touched the log."""
    until("all work is done", lambda: all(j["state"] not in LIVE for j in demo.jobs()))
    say("All work is done.")
    demo.jobledger("jobs", "--all")
    for result in sorted(demo.shared.glob("*.txt")):
        print(f"{result.name}: {result.read_text().strip()}")
    started_once(demo)
    primes = next(job for job in demo.jobs() if job["name"] == "primes")
    say("One job's whole history. Nothing in it was ever overwritten.")
    demo.jobledger("events", str(primes["job"]), user="ben")
    say("The log is one unbroken chain of hashes, from the first event to its head.")
    demo.jobledger("log", "verify")
    demo.jobledger("log", "head")


LIVE = ("pending", "running")


def main() -> None:
    """The tour."""
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix="jobledger-demo-"))
    place.chmod(0o755)
    demo = Demo(place)
    demo.shared.mkdir(mode=0o777)
    demo.shared.chmod(0o777)  # the jobs' account leaves its results here
    try:
        say("A service with four local nodes is started on a fresh SQLite ledger.")
        demo.start()
        submit_work(demo)
        kill_master(demo)
        lose_node(demo)
        explain(demo)
        end_well(demo)
        say(f"That was it: {time.monotonic() - began:.0f} s. Nothing is left running.")
    finally:
        demo.stop()
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
