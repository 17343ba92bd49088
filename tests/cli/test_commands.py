"""Commands: what they ask for, what they print where, and how they end."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ledger.cli import arranged

from .conftest import Call, Service

MADE = {"first_job": 17, "count": 1, "position": 4}


def job(number: int, **more: Any) -> dict[str, Any]:
    return {
        "job": number,
        "user": "anna",
        "account": "physics",
        "pool": "default",
        "nodes_wanted": 1,
        "state": "pending",
        "reason": "Priority",
        "time_limit_s": 5400,
        "restartable": False,
        "submitted_at": "2026-11-20T10:00:00Z",
    } | more


JOBS = [
    job(17, name="日本\x1b[2J", state="running", reason="", nodes=["n1", "n2", "n3"]),
    job(18, array="17_1", name=None),
]


def test_every_question_can_be_asked_as_of_then(service: Service, call: Call) -> None:
    service.say("GET", "/v1/whoami", {"name": "anna", "role": "user", "how": "token"})
    service.say("GET", "/v1/jobs", {"jobs": JOBS, "next": None, "position": 40})
    done = call("jobs", "--me", "--at", "2026-11-20T12:00:00Z", "--all")
    who, asked = service.requests
    assert "at" not in who.url.params, "who one is, one is now"
    assert asked.url.params["at"] == "2026-11-20T12:00:00+00:00"
    assert done.err == "As of 2026-11-20 12:00:00, position 40.\n"
    head = {"position": 40, "commit": 3, "hash": "x", "epoch": 1, "incarnation": "i"}
    service.say("GET", "/v1/log/head", {**head, "at": "2026-11-20T12:00:00Z"})
    assert call("jobs", "--at-position", "41").err == done.err
    assert service.requests[-1].url.params["at_position"] == "41"
    both = call("jobs", "--at", "-2h", "--at-position", "7")
    assert (both.status, "not both" in both.err) == (64, True)


def test_a_script_is_submitted(service: Service, call: Call, tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH -t 90 -N 2 --mem=4G\necho $1\n")
    service.say("POST", "/v1/jobs", MADE, 201)
    done = call("submit", "-N", "3", str(script), "a", "b", "--", "-c")
    assert (done.status, done.out) == (0, "Submitted job 17\n")
    assert "--mem=4G" in done.err
    assert service.body == {
        "name": "job.sh",
        "argv": ["a", "b", "-c"],
        "script": script.read_text(),
        "nodes": 3,
        "time_limit_s": 5400,
    }


def used(**more: Any) -> dict[str, Any]:
    return {
        "day": None,
        "user": "anna",
        "account": "",
        "pool": "",
        "jobs_ended": 2,
        "attempts_ended": 3,
        "node_seconds": 7200.5,
        "cpu_seconds": 0,
        "measured_cpu_seconds": 0,
        "wasted": {},
    } | more


WASTED = ["failed_node_seconds", "outages_node_seconds", "cancelled_node_seconds"]


@pytest.mark.parametrize(
    ("words", "titles", "cells"),
    [
        ([], [], []),
        (["--measured", "--waste"], ["measured_cpu_seconds", *WASTED], ["5400", "3600", "0", "0"]),
    ],
)
def test_usage_has_the_columns_that_were_asked_for(
    words: list[str], titles: list[str], cells: list[str], service: Service, call: Call
) -> None:
    """Whatever is known: a program that reads them must not find others one day."""
    row = used(measured_cpu_seconds=5400.0, wasted={"failed": 3600.0})
    answer = {"since": None, "until": None, "zone": "UTC", "rows": [row], "position": 9}
    service.say("GET", "/v1/usage", answer)
    told = csv.reader(call("usage", "--by", "user", "-o", "csv", *words).out.splitlines())
    assert list(told) == [
        ["user", "jobs_ended", "node_seconds", "cpu_seconds", *titles],
        ["anna", "2", "7200.5", "0", *cells],
    ]


@pytest.mark.parametrize(
    ("known", "title"),
    [
        ({}, "USER JOBS ENDED NODE HOURS"),
        ({"cpu_seconds": 7201}, "USER JOBS ENDED NODE HOURS CPU HOURS"),
        ({"measured_cpu_seconds": 1}, "USER JOBS ENDED NODE HOURS CPU HOURS MEASURED"),
    ],
)
def test_usage_shows_what_is_known(
    known: dict[str, Any], title: str, service: Service, call: Call
) -> None:
    rows = [used(**known)]
    answer = {"since": None, "until": None, "zone": "UTC", "rows": rows, "position": 9}
    service.say("GET", "/v1/usage", answer)
    first = call("usage", "--by", "user").out.splitlines()[0]
    assert " ".join(first.split()) == title


def test_a_command_keeps_its_own_options(service: Service, call: Call) -> None:
    service.say("POST", "/v1/jobs", MADE, 201)
    done = call("submit", "-q", "--", "prog", "--url", "x", "-q", "--", "-")
    assert (done.status, done.out, done.err) == (0, "17\n", "")
    assert service.body["argv"] == ["prog", "--url", "x", "-q", "--", "-"]


def test_help_is_whole_where_one_command_is_asked_for(call: Call) -> None:
    assert "Wait until jobs have ended, and end as they did." in call("--help").out
    told = " ".join(call("wait", "--help").out.split())
    assert "124 for its time limit, 137 for too much memory, 143 if it was cancelled" in told


def test_what_is_missing_is_named(call: Call) -> None:
    done = call("outage", "plan", "--until", "+2h", "-m", "fans")
    assert done.status == 64
    assert done.err == (
        "jobledger: `jobledger outage plan` needs --from: When it begins: 18:00, +2h.\n"
        "  `jobledger outage plan --help` says what it takes.\n"
    )
    assert "`jobledger --help` lists the commands" in call("outrage").err


def test_an_array_says_its_numbers(service: Service, call: Call) -> None:
    service.say("POST", "/v1/jobs", MADE | {"count": 10}, 201)
    done = call("submit", "-a", "0-9", "--", "true")
    assert done.out == "Submitted job 17 (array of 10: 17_[0-9])\n"


def test_many_are_submitted(service: Service, call: Call, tmp_path: Path) -> None:
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"argv":["true"]}\n\n{"argv":["false"]}\n')
    refused = [{"item": 1, "code": "bad_constraints", "sentence": "Too wide.", "hint": ""}]
    answer = MADE | {"count": 1, "items": [0], "not_accepted": refused}
    service.say("POST", "/v1/jobs", answer, 201)
    done = call("submit", "--jsonl", str(lines), "--each")
    assert done.status == 65
    assert "Job 2 of the file (bad_constraints): Too wide." in done.err
    lines.write_text('{"argv":["true"]}\n{"argx":1}\n')
    done = call("submit", "--jsonl", str(lines))
    assert (done.status, "Line 2 is not a job: argx" in done.err) == (65, True)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["bogus"], 64),
        (["jobs", "--bogus"], 64),
        (["submit"], 64),
        (["submit", "--time", "soon", "--", "true"], 64),
        (["submit", "/nowhere/script.sh"], 66),
        (["submit", sys.executable], 65),
        (["show", "x"], 64),
        (["cancel"], 64),
        (["wait"], 64),
        (["policy", "set"], 64),
        (["node", "set", "n1"], 64),
        (["replay-trace", "/nowhere.swf"], 66),
        (["replay-trace", __file__], 65),
    ],
)
def test_a_wrong_command_line_is_told(
    words: list[str], status: int, service: Service, call: Call
) -> None:
    done = call(*words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith("jobledger: ")
    assert "Traceback" not in done.err
    assert service.requests == []


@pytest.mark.parametrize(
    ("http", "status"),
    [(401, 77), (403, 77), (404, 66), (409, 1), (413, 65), (422, 65), (429, 75), (507, 75)],
)
def test_a_refusal_has_its_status(http: int, status: int, service: Service, call: Call) -> None:
    service.refuse("GET", "/v1/jobs/17", http, "some_code")
    done = call("show", "17")
    assert (done.status, done.out) == (status, "")
    assert done.err == "jobledger: It is some_code.\n  Do this.\n  (request r1)\n"


def test_no_service_is_told(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JOBLEDGER_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = call("jobs")
    assert (done.status, "jobledger up" in done.err) == (69, True)
    monkeypatch.setenv("JOBLEDGER_TIMEOUT", "never")
    assert call("jobs", "--data", str(tmp_path)).status == 78


def test_jobs_are_shown(service: Service, call: Call) -> None:
    service.say("GET", "/v1/jobs", {"jobs": JOBS, "next": None, "position": 9})
    done = call("jobs")
    assert done.status == 0
    assert done.out.splitlines() == [
        "JOB   NAME         USER  POOL     STATE    TIME    LIMIT  NODES  NODELIST(REASON)",
        "17    日本\\x1b[2J  anna  default  running  0:00  1:30:00      1  n[1-3]",
        "17_1               anna  default  pending  0:00  1:30:00      1  (Priority)",
    ]


def test_tasks_that_wait_alike_are_a_row(service: Service, call: Call) -> None:
    tasks = [
        job(17 + n, array=f"17_{n}", state="running" if n < 2 else "pending", reason=reason)
        for n, reason in enumerate(["", "", "Resources", *["Priority"] * 3, "JobHeldUser"])
    ]
    other = [job(40, array="40_0", state="pending", reason="Priority"), job(50), job(51)]
    service.say("GET", "/v1/jobs", {"jobs": [*tasks, *other], "next": None, "position": 9})
    rows = [text.split()[0] for text in call("jobs").out.splitlines()[1:]]
    assert rows == ["17_0", "17_1", "17_2", "17_[3-5]", "17_6", "40_0", "50", "51"]
    for form in ("wide", "csv", "name"):
        assert len(call("jobs", "-o", form).out.splitlines()) == 10 + (form != "name")


def test_jobs_are_data(service: Service, call: Call) -> None:
    service.say("GET", "/v1/jobs", {"jobs": JOBS, "next": None, "position": 9})
    assert call("jobs", "-o", "name").out == "17\n18\n"
    assert json.loads(call("jobs", "-o", "json").out)["position"] == 9
    lines = call("jobs", "-o", "jsonl").out
    assert [json.loads(text)["name"] for text in lines.splitlines()] == ["日本\x1b[2J", None]
    assert "\x1b" not in lines
    rows = list(csv.DictReader(io.StringIO(call("jobs", "-o", "csv").out)))
    assert (rows[0]["nodes"], rows[0]["state"]) == ("n1,n2,n3", "running")


def test_no_jobs_is_an_answer(service: Service, call: Call) -> None:
    service.say("GET", "/v1/jobs", {"jobs": [], "next": None, "position": 9})
    done = call("jobs", "--url", "http://jobledger")
    assert (done.status, done.out, done.err) == (0, "", "No jobs.\n")
    assert json.loads(call("jobs", "-o", "json").out)["jobs"] == []


def test_pages_are_fetched_to_the_limit(service: Service, call: Call) -> None:
    service.say("GET", "/v1/jobs", {"jobs": JOBS, "next": "c1", "position": 9})
    done = call("jobs", "-a", "-o", "name", "--limit", "3", "--since", "-2h")
    assert (done.out, "more than 3" in done.err) == ("17\n18\n17\n", True)
    asked = service.requests[-1].url.params
    assert (asked["scope"], asked["cursor"]) == ("all", "c1")
    assert asked["since"].endswith("+00:00")


def test_why_is_one_sentence_first(service: Service, call: Call) -> None:
    answer = {
        "job": 18,
        "state": "pending",
        "reason": "Priority",
        "sentence": "Job 18 waits because 1 job was submitted before it.",
        "evidence": [{"what": "nodes free", "found": "0"}],
        "advice": ["Ask for less."],
        "ahead": 1,
        "ahead_jobs": [17],
        "ahead_node_s": 5400,
        "position": 9,
        "policy": 2,
        "at": "2026-11-20T10:00:00Z",
    }
    service.say("GET", "/v1/jobs/18/why", answer)
    lines = call("why", "18").out.splitlines()
    assert lines[0] == "Job 18 waits because 1 job was submitted before it. (Priority)"
    assert lines[1].split() == ["nodes", "free", "0"]
    assert "  Ask for less." in lines
    assert lines[-1].startswith("As of position 9 (")
    assert lines[-1].endswith(", under policy 2.")


@pytest.mark.parametrize(
    ("state", "exit_code", "signal", "status"),
    [
        ("completed", 0, None, 0),
        ("failed", 7, None, 7),
        ("failed", None, 9, 137),
        ("timeout", None, 15, 143),
        ("timeout", None, None, 124),
        ("out_of_memory", None, None, 137),
        ("cancelled", None, None, 143),
        ("node_fail", None, None, 1),
    ],
)
def test_wait_ends_as_the_job_did(
    state: str,
    exit_code: int | None,
    signal: int | None,
    status: int,
    service: Service,
    call: Call,
) -> None:
    attempt = {
        "attempt": 1,
        "nodes": ["n1"],
        "placed_at": "2026-11-20T10:00:00Z",
        "signal": signal,
    }
    ended = job(17, state=state, exit_code=exit_code, attempts=[attempt])
    service.say("GET", "/v1/jobs/17/wait", ended)
    service.say("GET", "/v1/jobs/17", ended)
    done = call("wait", "17")
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(f"Job 17 {state}")


def test_wait_gives_up(service: Service, call: Call) -> None:
    service.say("GET", "/v1/jobs/17/wait", job(17))
    assert call("wait", "17", "--timeout", "0").status == 75


def test_a_token_is_printed_alone(service: Service, call: Call) -> None:
    answer = {"token": "t1", "secret": "jl_x", "owner": "anna", "role": "user", "expires_at": None}
    service.say("POST", "/v1/tokens", answer, 201)
    done = call("token", "issue", "--owner", "anna", "--ttl", "1h", "-q")
    assert (done.out, done.err) == ("jl_x\n", "")
    assert service.body["ttl_s"] == 3600


def test_the_command_line_is_arranged() -> None:
    assert arranged(["--url", "u", "jobs", "-a"]) == ["jobs", "-a", "--url", "u"]
    assert arranged(["--data=d", "node", "show", "n1"]) == ["node", "show", "n1", "--data=d"]
    assert arranged(["jobs", "--", "17"]) == ["jobs", "--", "17"]
    assert arranged(["submit", "-"]) == ["submit", "/dev/stdin"]
    assert arranged(["submit", "-H", "--", "a", "--"]) == [
        *("submit", "-H", "--command-words", '["a", "--"]')
    ]


def test_it_starts_quickly_and_ends_quietly() -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("jobledger ")
    assert time.monotonic() - began < 5
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ledger", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    assert not any(f" {heavy}\n" in loaded for heavy in ("pydantic", "httpx2", "rich", "cyclopts"))
    broken = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m ledger --help | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert broken.stderr == ""


def test_a_shell_can_complete(call: Call) -> None:
    done = call("completion", "bash")
    assert (done.status, "complete -F _jobledger jobledger" in done.out) == (0, True)


def test_what_a_node_was_given_is_said(service: Service, call: Call) -> None:
    done = {"changed": True, "state": "idle", "position": 7}
    service.say("PATCH", "/v1/nodes/n1", done)
    assert call("node", "set", "n1", "--rack", "r7", "--features", "big, gpu").err == (
        "Node n1 has rack r7, features big,gpu now.\n"
    )
    service.say("PATCH", "/v1/nodes/n1", done | {"changed": False})
    assert call("node", "set", "n1", "--switch", "").err == "Node n1 has no switch already.\n"


def test_what_a_command_does_not_take_is_named(call: Call) -> None:
    done = call("policy", "set", "--notify", "5")
    assert done.status == 64
    assert "`jobledger policy set` does not take 5." in done.err
