"""`node history`, `node failures` and `impact --master`, as a person and a program see them."""

import csv
import io
import json
from typing import Any

from .conftest import Call, Service

SAID = [
    {"cause": "operator", "reason": "new disk", "by": "root", "outage": 0},
    {"cause": "operator", "reason": "fan\x1b[2J", "by": "ops", "outage": 0},
]
DRAIN = [{"at": f"2026-11-20T10:0{n}:00Z", **one} for n, one in enumerate(SAID)]
DOWN = {"at": "2026-11-20T09:00:00Z", "cause": "silent", "reason": "", "by": "system", "outage": 7}


def state(word: str, since: str, until: str | None, causes: Any, drain: Any = ()) -> dict[str, Any]:
    return {
        "state": word,
        "since": f"2026-11-20T{since}Z",
        "until": f"2026-11-20T{until}Z" if until else None,
        "silent_since": None,
        "causes": causes,
        "drain": list(drain),
    }


MACHINE = {
    "since": "2026-11-01T00:00:00Z",
    "until": None,
    **dict.fromkeys(("pool", "serial", "rack", "switch", "power", "boot_id"), ""),
    "image": "debian-13",
    "kernel": "6.12",
    "packages_sha256": "c" * 64,
    "build": "0.1",
}
RUN = {
    "job": 5,
    "attempt": 1,
    "user": "ann",
    "account": "",
    "pool": "default",
    "placed_at": "2026-11-20T08:00:00Z",
    "left_at": "2026-11-20T09:00:00Z",
    "outcome": "failed",
    "next": "final",
    "failed": True,
    "outage": 0,
    "cause": "exit",
    "exit_code": 3,
    "signal": None,
    "elsewhere": {"job": 9, "attempt": 1, "at": "2026-11-20T12:00:00Z"},
}


def told(service: Service) -> None:
    states = [
        state("drained", "10:00:00", None, DRAIN, DRAIN),
        state("down", "09:00:00", "10:00:00", [DOWN], DRAIN[:1]),
    ]
    history = {"node": "n3", "states": states, "machines": [MACHINE], "next": None, "position": 40}
    service.say("GET", "/v1/nodes/n3/history", history)
    jobs = {"node": "n3", "attempts": [RUN], "next": None, "position": 40}
    service.say("GET", "/v1/nodes/n3/jobs", jobs)


def test_all_of_a_node(service: Service, call: Call) -> None:
    told(service)
    done = call("node", "history", "n3")
    assert (done.status, done.err) == (0, "")
    lines = [" ".join(text.split()) for text in done.out.splitlines()]
    assert lines == [
        "What happened on n3:",
        "SINCE UNTIL STATE WHY BY OUTAGE",
        "2026-11-20 10:00:00 still drained new disk; fan\\x1b[2J root, ops",
        "2026-11-20 09:00:00 2026-11-20 10:00:00 down silent (to take no jobs: new disk) system 7",
        "",
        "What it had installed:",
        "SINCE UNTIL IMAGE KERNEL PACKAGES BUILD",
        "2026-11-01 00:00:00 still debian-13 6.12 cccccccccccc 0.1",
        "",
        "What ran there:",
        "JOB ATTEMPT USER FROM UNTIL ENDED SUCCEEDED ELSEWHERE",
        "5 1 ann 2026-11-20 08:00:00 2026-11-20 09:00:00 failed (3) job 9, 2026-11-20 12:00:00",
        "As of position 40.",
    ]


def test_a_part_as_csv_and_json(service: Service, call: Call) -> None:
    told(service)
    rows = list(csv.DictReader(io.StringIO(call("node", "history", "n3", "-o", "csv").out)))
    assert [(r["state"], r["reason"], r["later"]) for r in rows] == [
        ("drained", "new disk", "fan\\x1b[2J"),
        ("down", "", ""),
    ]
    (row,) = csv.DictReader(
        io.StringIO(call("node", "history", "n3", "--only", "jobs", "-o", "csv").out)
    )
    assert (row["job"], row["exit_code"]) == ("5", "3")
    tree = json.loads(call("node", "history", "n3", "-o", "json").out)
    assert list(tree) == ["node", "states", "software", "jobs", "position"]


def test_what_failed_is_asked_of_the_jobs_alone(service: Service, call: Call) -> None:
    told(service)
    done = call("node", "history", "n3", "--failed", "--since", "2026-11-20")
    assert done.out.startswith("JOB")
    (request,) = service.requests
    assert request.url.path == "/v1/nodes/n3/jobs"
    assert request.url.params["failed"] == "true"


def test_nothing_then(service: Service, call: Call) -> None:
    service.say(
        "GET", "/v1/nodes/n3/jobs", {"node": "n3", "attempts": [], "next": None, "position": 4}
    )
    done = call("node", "history", "n3", "--only", "jobs")
    assert (done.out, done.err) == ("As of position 4.\n", "Nothing ran there then.\n")


def test_who_is_suspect(service: Service, call: Call) -> None:
    row = {"node": "n3", "ended": 1200, "failed": 12, "elsewhere": 9, "users": 4}
    found = {"since": None, "until": None, "nodes": [row], "position": 4}
    service.say("GET", "/v1/node-failures", found)
    done = call("node", "failures")
    assert done.out.splitlines()[0] == (
        "n3 comes first: of 12 that failed there, 9 succeeded elsewhere later, of 4 users."
    )
    assert "1,200" in done.out
    service.say("GET", "/v1/node-failures", found | {"nodes": []})
    assert call("node", "failures").err == "No job failed ever.\n"


def test_whom_the_master_hit_by_being_away(service: Service, call: Call) -> None:
    job = {
        "job": 5,
        "attempt": 1,
        "node": "n1",
        "struck_at": "2026-11-20T10:05:00Z",
        "restartable": True,
        "lost_node_s": 3600.0,
        "effect": "requeued",
        "state": "running",
    }
    user = {"user": "ann", "account": "physics", "jobs": [job], "lost_node_s": 3600.0}
    answer = {
        "nodes": [],
        "since": None,
        "until": None,
        "users": [user | {"requeued": 1, "needs_owner": 0}],
        "absences": [
            {"outage": 3, "since": "2026-11-20T10:00:00Z", "until": "2026-11-20T10:04:00Z"}
        ],
        "waiting": {"bob": 2},
        "position": 40,
    }
    service.say("GET", "/v1/impact", answer)
    done = call("impact", "--master")
    lines = [" ".join(text.split()) for text in done.out.splitlines()]
    assert lines[:2] == [
        "The master was away once so far, 4:00 in all.",
        "1 user and 1 job were hit by that: 1 queued again, 1:00:00 of node time lost.",
    ]
    assert lines[-4:] == [
        "Longer waited 2 jobs of 1 user:",
        "USER JOBS",
        "bob 2",
        "As of position 40.",
    ]
    assert service.requests[-1].url.params["master"] == "true"
    service.say("GET", "/v1/impact", answer | {"users": [], "absences": [], "waiting": {}})
    assert call("impact", "--master").err == "The master was not away so far.\n"
    assert call("impact", "--master", "--nodes", "n1").status == 64


def test_questions_of_projections_take_a_past(service: Service, call: Call) -> None:
    told(service)
    service.say("GET", "/v1/outages", {"outages": [], "next": None, "position": 4})
    service.say("GET", "/v1/abuse", {"findings": [], "next": None, "position": 4})
    level = dict.fromkeys(("queued_jobs", "queued_nodes", "held_jobs", "held_nodes"), 0)
    whole = {**level, "running_jobs": 0, "nodes_in_use": 0, "nodes_in_service": 0}
    queue = {"rows": [], "whole": whole, "position": 4, "at": "2026-11-20T10:00:00Z"}
    service.say("GET", "/v1/queue", queue)
    for words in (("queue",), ("outage", "list"), ("abuse", "list"), ("node", "history", "n3")):
        assert call(*words, "--at-position", "4").status == 0
        assert service.requests[-1].url.params["at_position"] == "4", words


def test_why_a_node_drains_is_all_that_was_said(service: Service, call: Call) -> None:
    said = [{name: one[name] for name in ("at", "by", "cause", "reason")} for one in DRAIN]
    node = {
        "node": "n3",
        "state": "drained",
        "pool": "default",
        "since": "2026-11-20T10:00:00Z",
        "cause": "operator",
        "reason": "new disk",
        "drain": True,
        "said": said,
    }
    service.say("GET", "/v1/nodes", {"nodes": [node], "position": 40})
    service.say("GET", "/v1/nodes/n3", node)
    assert "  new disk; fan\\x1b[2J\n" in call("nodes").out
    assert [line for line in call("node", "show", "n3").out.splitlines() if "why" in line] == [
        "why     new disk (root, 2026-11-20 10:00:00)",
        "why     fan\\x1b[2J (ops, 2026-11-20 10:01:00)",
    ]
