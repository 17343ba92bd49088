"""Secrets are planted wherever one may enter, and then looked for wherever none belongs."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil  # type: ignore[import-untyped]
import pytest

from ledger.testing.evidence import Evidence

from .canaries import Canaries, forms
from .harness import RUN_AS, Site
from .processes import until

JOB = {"argv": ["/bin/sleep", "600"], "pool": "out", "name": "sleeper"}
FORMS = {
    "a Basic login": {"Authorization": "Basic {}"},
    "a Negotiate ticket": {"Authorization": "Negotiate {}"},
    "an unknown token": {"Authorization": "Bearer {}"},
    "a token without its scheme": {"Authorization": "{}"},
    "a cookie": {"Cookie": "session={}"},
    "an API key's header": {"X-Api-Key": "{}"},
    "a proxy's login": {"Proxy-Authorization": "Basic {}"},
}
BODIES: dict[str, Any] = {
    "a value of a job's environment": {"argv": ["true"], "env": {"PASSWORD": "{}"}},
    "a field that is not known": {"argv": ["true"], "password": "{}"},
    "a number's place": {"argv": ["true"], "nodes": "{}"},
    "a list's place": {"argv": "{}"},
    "a job that can't be": {"argv": ["true"], "depends": [{"kind": "{}", "job": 1}]},
}
PATHS = {
    "a query": "/v1/jobs?limit=1&token={}",
    "a query's value": "/v1/jobs?limit={}",
    "a path": "/v1/jobs/{}",
    "a path that is none": "/{}",
}
SHOWN = (
    "/metrics", "/readyz", "/v1/tokens", "/v1/jobs?scope=all", "/v1/events", "/v1/nodes",
    "/v1/policy", "/v1/openapi.json", "/v1/whoami",
)  # fmt: skip


DATABASE, MAIL = "the database's password", "the mail server's password"
MAY_HAVE = {
    "up": [DATABASE, MAIL, "the token of another service"],
    "master": [DATABASE, MAIL],
    "follow": [DATABASE],
    "agent --name x1": ["a token of role join, of x1"],
}
"""What the environment of a process has been given because it needs it, or gives it on."""


class Up:
    """A whole service by `jobledger up`, an agent that came with a join token, and the secrets."""

    def __init__(self, site: Site) -> None:
        self.site, self.canaries = site, Canaries()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
        self.env = {**kept, "JOBLEDGER_DATA": str(site.data)}
        if site.database_url:
            secret = self.canaries.plant(DATABASE)
            site.database_url = site.database_url.replace("postgres:@", f"postgres:{secret}@")
            self.env["JOBLEDGER_DATABASE_URL"] = site.database_url
        self.outside = site.folder / "outside"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, name: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a command; what it says goes to a file below the folder that is searched."""
        self.site.data.mkdir(exist_ok=True)
        with open(self.site.data / f"{name}.said", "wb") as said:
            process = subprocess.Popen(  # noqa: RUF100, S603
                [sys.executable, "-m", "ledger", *words],
                env={k: v for k, v in (self.env | env).items() if v},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.processes.append(process)
        return process

    def run(self, *words: str, name: str, **env: str) -> None:
        """Run a command to its end, whatever it is."""
        self.start(*words, name=name, **env).wait(60)

    def client(self, token: str = "") -> httpx2.Client:
        """A client over TCP."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30, verify=False)

    def close(self) -> None:
        """End what runs."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@pytest.fixture
def up(any_site: Site) -> Iterator[Up]:
    """`jobledger up` with one agent, which also makes a backup by itself."""
    made = Up(any_site)
    account = ["--run-as", RUN_AS] if RUN_AS else []
    listen = made.url.removeprefix("http://")
    made.start(
        *("up", "--agents", "1", "--listen", listen, *account), name="up",
        JOBLEDGER_TOKEN=made.canaries.plant("the token of another service"),
        JOBLEDGER_BACKUP_EVERY="1d",
        JOBLEDGER_MAIL=f"mailtos://us:{made.canaries.plant(MAIL)}@127.0.0.1:9?from=us@example.org",
    )  # fmt: skip
    try:
        web = any_site.web()

        def ready() -> bool:
            with contextlib.suppress(OSError):
                return web.ask("GET", "/readyz").good
            return False

        until(ready, 60, "readiness")
        yield made
    finally:
        made.close()


def issue(up: Up, owner: str, role: str) -> str:
    """A real token, which is a secret as well."""
    asked = {"owner": owner, "role": role, "ttl_s": 3600}
    made = up.site.web().json("POST", "/v1/tokens", asked)
    up.canaries.know(f"a token of role {role}, of {owner}", made["secret"])
    return str(made["secret"])


def planted(value: Any, secret: str) -> Any:
    """A body with the secret in its place."""
    return json.loads(json.dumps(value).replace("{}", secret))


def plant(up: Up) -> str:
    """Put a secret wherever one may enter, most of them where they don't belong; an operator."""
    canaries, alice = up.canaries, issue(up, "alice", "user")
    revoked = issue(up, "bob", "user")
    web = up.site.web()
    for token in web.json("GET", "/v1/tokens")["tokens"]:
        if token["owner"] == "bob":
            web.json("DELETE", f"/v1/tokens/{token['token']}")
    with up.client() as nobody, up.client(alice) as user, up.client(revoked) as former:
        assert former.get("/v1/whoami").status_code == 401
        for place, headers in FORMS.items():
            secret = canaries.plant(place)
            said = {name: form.replace("{}", secret) for name, form in headers.items()}
            assert nobody.get("/v1/jobs", headers=said).status_code == 401
            assert nobody.post("/v1/agents/n9/enrol", headers=said, json={}).status_code == 401
        for place, body in BODIES.items():
            answer = user.post("/v1/jobs", json=planted(body, canaries.plant(place)))
            assert answer.status_code == 422, answer.text
        for place, path in PATHS.items():
            user.get(path.replace("{}", canaries.plant(place)))
    with socket.create_connection(up.url.removeprefix("http://").split(":")) as sock:  # type: ignore[arg-type]
        sock.sendall(f"\x16{canaries.plant('what is not HTTP')}\r\n\r\n".encode())
        sock.recv(1000)
    return issue(up, "olga", "operator")


def run_jobs(up: Up) -> None:
    """An agent joins from outside; a user submits to it by command, with secrets all around."""
    canaries, join = up.canaries, issue(up, "x1", "join")
    account = ["--run-as", RUN_AS] if RUN_AS else []
    at = {"JOBLEDGER_URL": up.url, "JOBLEDGER_TOKEN": join}
    words = ("agent", "--name", "x1", "--pool", "out", "--state", str(up.outside), *account)
    up.start(*words, name="agent-x1", JOBLEDGER_DATABASE_URL="", **at)
    until((up.outside / "token").exists, 60, "the agent's own token")
    canaries.know("a node's own token", (up.outside / "token").read_text().strip())
    up.site.nodes_ready(2)
    token = issue(up, "carol", "user")
    here = {"JOBLEDGER_URL": up.url, "JOBLEDGER_TOKEN": token}
    about = {"SECRET": canaries.plant("the environment of who submits")}
    up.run(*("submit", "--pool", "out", "--", "sleep", "600"), name="submit", **here, **about)
    up.run("doctor", name="doctor")
    up.run("token", "list", "-o", "json", name="tokens")
    up.run("jobs", name="jobs-bad", **{**here, "JOBLEDGER_TOKEN": canaries.plant("a wrong token")})
    gone = f"postgresql://u:{canaries.plant('the password of no database')}@127.0.0.1:1/none"
    up.run("log", "head", name="head-bad", JOBLEDGER_DATABASE_URL=gone)
    login = up.url.replace("http://", f"http://u:{canaries.plant('a login in a URL')}@")
    up.run("whoami", name="whoami-bad", JOBLEDGER_URL=login)


def family(up: Up) -> list[psutil.Process]:
    """All processes of the service, jobs too."""
    began = [psutil.Process(made.pid) for made in up.processes if made.poll() is None]
    found = [p for one in began for p in (one, *one.children(recursive=True))]
    return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]


def in_processes(up: Up) -> list[str]:
    """The arguments and environments of all our processes."""
    found = []
    for process in family(up):
        words = " ".join(process.cmdline())
        found += up.canaries.found(f"arguments of {process.pid}", words.encode())
        part = next((p for p in MAY_HAVE if f" -m ledger {p}" in words), "")
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
        where = f"environment of {process.pid}, {words[:200]}"
        found += up.canaries.found(where, environ, MAY_HAVE.get(part, ()))
    return found


def test_secrets_are_found_nowhere_they_do_not_belong(
    up: Up, database: str, evidence: Evidence
) -> None:
    site, canaries = up.site, up.canaries
    operator = plant(up)
    run_jobs(up)
    until(lambda: any(p.name() == "sleep" for p in family(up)), 60, "the job")
    local = site.data / "agents" / "n1" / "token"
    canaries.know("the local node's own token", local.read_text().strip())
    tokens = {local: "the local node's own token"}
    found = in_processes(up)
    with up.client(operator) as client:
        for path in SHOWN:
            found += canaries.found(path, client.get(path).content)
    backups = site.data / "backups"
    until(lambda: [*backups.glob("*.verified.json")], 60, "the backup by itself")
    if database == "sqlite":
        found += canaries.in_files(site.data, tokens)  # as it lies while it is written
    up.close()
    assert [*site.data.glob("checkpoints/*.checkpoint")]
    assert [*site.data.glob("logs/*.log")]
    found += canaries.in_files(site.data, tokens)
    found += canaries.in_files(up.outside, {up.outside / "token": "a node's own token"})
    if site.database_url:
        found += canaries.in_database(site.database_url)
    assert found == []
    evidence(
        f"secret canaries, {database}",
        f"{len(canaries)} planted; {canaries.bytes / 1e6:.1f} MB of {canaries.sources} files, "
        "tables, answers, arguments and environments searched in 11 forms: 0 found",
    )


@pytest.mark.parametrize("form", range(7))
def test_the_search_finds_what_was_hidden(tmp_path: Path, form: int) -> None:
    canaries = Canaries()
    secret = canaries.plant("here")
    hidden = list(forms(secret))[form]
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(os.urandom(1000) + hidden + os.urandom(1000))
    assert canaries.in_files(tmp_path, {}) == [f"here in {tmp_path / 'deep' / 'file'}"]
    assert canaries.in_files(tmp_path, {tmp_path / "deep" / "file": "here"}) == []
