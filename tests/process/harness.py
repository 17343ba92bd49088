"""Real masters and real agents as processes, and clients who write down what they were told."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from ledger.events import AttemptEnded, Recorded
from ledger.store.location import open_log
from ledger.store.verify import verify

from .disks import Disk
from .processes import Cold, Process, Zygote, until

ROOT = Path(__file__).resolve().parents[2]
RUN_AS = "nobody" if os.geteuid() == 0 else ""
"""The account of the jobs: root's agents need one, others run all as themselves."""


class Answer(NamedTuple):
    """What a master answered."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        """Was it a yes?"""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    """HTTP over the Unix socket of a service, or to `http://HOST:PORT`."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._path = url.removeprefix("unix:") if url.startswith("unix:") else ""
        host = "jobledger" if self._path else url.removeprefix("http://")
        super().__init__(host, timeout=timeout_s)

    def connect(self) -> None:
        """Connect, to the path if there is one."""
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


NO_ANSWER = (OSError, http.client.HTTPException)
"""What asking raises when there is no answer, or only a part of one."""


class Web:
    """One connection to a master, without any retry. For one thread at a time."""

    def __init__(self, url: str, token: str = "", timeout_s: float = 20.0) -> None:
        self._connection = _Connection(url, timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> Answer:
        """An answer, whatever it says. Raises one of `NO_ANSWER`."""
        headers = {**self._headers, "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.read())
        except NO_ANSWER:
            self.close()
            raise

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be a good one."""
        answer = self.ask(method, path, body)
        assert answer.good, answer.body
        return answer.json()

    def submit(self, *jobs: dict[str, Any], key: str = "") -> int:
        """The id of the first of these jobs, queued."""
        answer = self.ask("POST", "/v1/jobs", list(jobs), key)
        assert answer.good, answer.body
        return int(answer.json()["first_job"])

    def job(self, job: int) -> dict[str, Any]:
        """A job that lives, as the list of such jobs shows it: from the master's own state."""
        found: list[dict[str, Any]] = self.json("GET", "/v1/jobs")["jobs"]
        return next(one for one in found if one["job"] == job)

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


class Site:
    """A directory of a service, on a database, and the processes that were started for it."""

    def __init__(self, zygote: Zygote, database_url: str | None = None) -> None:
        # Jobs of any account must reach what lies here, and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="jl-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.database_url = database_url
        self.witness = self.folder / "witness"
        self.witness.touch()
        self.witness.chmod(0o666)
        self._zygote = zygote
        self._started: list[Process] = []
        self._webs: list[Web] = []
        self.settings: dict[str, str] = {}
        self.master: Process | None = None
        self.disk: Disk | None = None

    def small_disk(self, place: Path, size: int) -> Disk:
        """A disk of so many bytes at an empty directory, for all that is started from now on."""
        place.mkdir(mode=0o711, parents=True)
        self.disk = Disk(place, size)
        return self.disk

    @property
    def data(self) -> Path:
        """DIR."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """Where the master listens."""
        path = self.data / "jobledger.sock"
        return f"unix:{self.disk.seen(path) if self.disk else path}"

    def run(
        self,
        *words: str,
        name: str,
        data: Path | None = None,
        held: bool = False,
        cold: bool = False,
        log: Path | None = None,
    ) -> Process:
        """Start a command; one that is held waits for SIGCONT before its first step.

        `cold`: as a user would, by its name; else from what has been loaded already. `log`: where
        it speaks, if not to a file of its own beside the data.
        """
        env = {"JOBLEDGER_DATA": str(data or self.data), **self.settings}
        if self.database_url:
            env["JOBLEDGER_DATABASE_URL"] = self.database_url
        said = log or self.folder / f"{name}.log"
        kind = Cold if cold else Process
        within = self.disk.pid if self.disk else 0
        process = kind(self._zygote, list(words), said, env, held=held, within=within)
        self._started.append(process)
        return process

    def start(self, *options: str, cold: bool = False) -> Process:
        """Start the master and wait until it is ready."""
        self.master = self.run("master", *options, name="master", cold=cold)
        self.ready(self.master)
        return self.master

    def ready(self, master: Process, url: str = "", deadline_s: float = 30.0) -> None:
        """Wait until the master there answers that it is ready; fails at once if it ends."""
        web = Web(url or self.url, timeout_s=2)

        def look() -> bool:
            assert master.status is None, f"the master ended with {master.status}"
            with contextlib.suppress(*NO_ANSWER):
                answer = web.ask("GET", "/readyz")
                return answer.good and bool(answer.json()["ready"])
            return False

        try:
            until(look, deadline_s, "readiness")
        finally:
            web.close()

    def agent(self, name: str, *options: str) -> Process:
        """Start the agent of a node that runs real processes."""
        words = ["agent", "--name", name, *(["--run-as", RUN_AS] if RUN_AS else []), *options]
        return self.run(*words, name=f"agent-{name}")

    def simulated(self, count: int, pool: str) -> Process:
        """Start simulated nodes."""
        words = ("agent", "--simulate", str(count), "--name", f"{pool}-", "--pool", pool)
        return self.run(*words, name=f"agents-{pool}")

    def web(self, **rest: Any) -> Web:
        """A client of the master."""
        web = Web(self.url, **rest)
        self._webs.append(web)
        return web

    def nodes_ready(self, count: int) -> None:
        """Wait until so many nodes are idle."""
        web = self.web()

        def look() -> bool:
            nodes = web.json("GET", "/v1/nodes")["nodes"]
            return [node["state"] for node in nodes].count("idle") == count

        until(look, 30, f"{count} idle nodes")

    def events(self, after: int = 0) -> list[Recorded]:
        """What the log holds behind a position, read from the database itself."""
        with closing(open_log(self.data, self.database_url, write=False)) as log:
            return list(log.read(after))

    def ended(self, job: int, deadline_s: float = 30.0) -> AttemptEnded:
        """How a job's last attempt ended, once it has."""

        def look() -> AttemptEnded | None:
            found = [r.event for r in self.events() if isinstance(r.event, AttemptEnded)]
            return next((e for e in found if e.job == job and e.next == "final"), None)

        found = until(look, deadline_s, f"the end of job {job}")
        assert found is not None
        return found

    def verified(self) -> int:
        """The number of events in the log, every one of which is as it was written."""
        with closing(open_log(self.data, self.database_url, write=False)) as log:
            return verify(log).events

    def age_leadership(self) -> None:
        """Let the lease of a master that was killed run out, in the database, at once.

        What keeps two masters apart is the fence; the lease only spares them from meeting it.
        """
        if self.database_url:
            with psycopg.connect(self.database_url, autocommit=True) as connection:
                connection.execute("UPDATE leader SET renewed = renewed - interval '1 hour'")

    def job(self, words: str = "", **rest: Any) -> dict[str, Any]:
        """A job that writes one line of witness, then carries out `words` of shell."""
        line = 'echo "$JOBLEDGER_JOB_ID $JOBLEDGER_ATTEMPT $JOBLEDGER_NODES $$ $(date +%s.%N)"'
        script = f"{line} >> {self.witness}; {words or ':'}"
        return {"argv": ["/bin/sh", "-c", script], **rest}

    def witnessed(self) -> list[list[str]]:
        """The lines of the witness file: job, attempt, node, pid, time, and what a job adds."""
        return [line.split() for line in self.witness.read_text().splitlines()]

    def close(self, *, failed: bool = False) -> None:
        """End all that was started; show what it said if the test failed."""
        for web in self._webs:
            web.close()
        for process in reversed(self._started):
            process.tell(signal.SIGCONT)
            process.tell(signal.SIGKILL)
        for process in self._started:
            process.ends()
        if self.disk is not None:
            self.disk.close()
        if failed:
            for said in sorted(self.folder.glob("*.log")):
                sys.stderr.write(f"--- {said.name}\n{said.read_text()[-6000:]}\n")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def site(zygote: Zygote, database_url: str | None = None) -> Iterator[Site]:
    """A site that is cleared away, with what its processes said shown when the block fails."""
    made = Site(zygote, database_url)
    failed = True
    try:
        yield made
        failed = False
    finally:
        made.close(failed=failed)
