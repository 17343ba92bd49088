"""Other people's programs: what the page on them says works as it stands there, and a client made
from the service's own description has every operation, with what it takes and what it answers.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from ledger.testing.evidence import Evidence

from .harness import ROOT, Site

PAGE = ROOT / "docs" / "how-to" / "use-the-api.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = Path(sys.executable).parent


@pytest.fixture
def shell(sqlite_site: Site) -> dict[str, str]:
    """The surroundings of a user's shell: a service with an agent, over TCP, and a token."""
    site = sqlite_site
    master = site.start("--listen", "127.0.0.1:0")
    site.run("follow", name="follow")
    site.agent("n1")
    site.nodes_ready(1)
    address = re.search(r"http://127\.0\.0\.1:\d+", master.words())
    assert address, master.words()
    token = site.web().json("POST", "/v1/tokens", {"owner": "alice", "ttl_s": 3600})["secret"]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    path = f"{TOOLS}:{kept['PATH']}"
    return {**kept, "PATH": path, "JOBLEDGER_URL": address[0], "JOBLEDGER_TOKEN": token}


def run(kind: str, words: str, shell: dict[str, str], where: Path) -> str:
    """What a block of the page prints. It must end well, and say nothing else."""
    command = ["sh", "-e", "-c", words] if kind == "sh" else [sys.executable, "-c", words]
    done = subprocess.run(
        command, cwd=where, env=shell, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{words}{done.stdout}{done.stderr}"
    return done.stdout


def test_what_the_page_says_works(
    shell: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: Evidence
) -> None:
    (place, own), (_, client), (_, made), (_, program) = BLOCK.findall(PAGE.read_text())
    assert (place, own.startswith("export JOBLEDGER_URL=")) == ("sh", True)
    assert run("python", client, shell, tmp_path) == "1 completed 6 times 7\n"
    said = run("sh", made, shell, tmp_path)
    assert "WARNING" not in said
    assert run("python", program, shell, tmp_path).splitlines() == [
        "2 completed 6 times 7",
        "job.submitted.v1",
        "attempt.placed.v1",
        "attempt.started.v1",
        "attempt.ended.v1",
        "job_ended",
    ]
    run("sh", "ruff check --quiet --isolated --select F,E9 jobs_client", shell, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    operations = whole(json.loads((tmp_path / "api.json").read_text()))
    evidence("generated client", f"{operations} operations, no warning, all answers typed")


def whole(document: dict[str, typing.Any]) -> int:
    """How many operations the generated client has: all of them, each with a typed answer."""
    from_page = importlib.import_module("jobs_client.models")
    response = importlib.import_module("jobs_client.types").Response
    count = 0
    for operations in document["paths"].values():
        for operation in operations.values():
            (tag,), name = operation["tags"], operation["operationId"]
            module = importlib.import_module(f"jobs_client.api.{tag}.{name}")
            for call in (module.sync_detailed, module.asyncio_detailed):
                answer = typing.get_type_hints(call)["return"]
                assert typing.get_origin(answer) is response, name
                kinds = set(typing.get_args(typing.get_args(answer)[0]))
                assert from_page.Problem in kinds, name
                assert len(kinds) == 2, (name, kinds)
                assert typing.Any not in kinds, name
            count += 1
    return count
