"""Findings of abuse and the rules of use, as people see them on the command line."""

import csv
import io
import json
from typing import Any

import httpx2
import pytest

from .conftest import Call, Service


def finding(number: int, **more: Any) -> dict[str, Any]:
    """A finding as the service tells it."""
    return {
        "finding": number,
        "rule": "submissions",
        "user": "anna",
        "account": "physics",
        "sentence": "anna made 601 submissions within a minute; the rules of use allow 600.",
        "found_at": "2026-11-20T10:00:41Z",
        "since": "2026-11-20T10:00:00Z",
        "until": "2026-11-20T10:00:40Z",
        "found": 601,
        "limit": 600,
        "count": 601,
        "of": 601,
        "policy": 2,
        "terms": {"abuse_submissions_per_min": 600},
        "jobs": [17, 18],
        "answers": 0,
        "answered_at": None,
        "answered_by": "",
    } | more


ANSWERED = {"answers": 1, "answered_at": "2026-11-20T12:00:00Z", "answered_by": "olga"}
IDLE = {"rule": "idle", "found": 18_720, "limit": 14_400, "count": 2, "user": "bob"}


def page(*found: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"findings": list(found), "next": following, "position": 99}


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([finding(1)], "1 finding about anna, not answered."),
        ([finding(1, **ANSWERED)], "1 finding about anna, answered."),
        (
            [finding(3, **IDLE), finding(2), finding(1, **ANSWERED)],
            "3 findings about 2 users, 2 of them not answered.",
        ),
    ],
)
def test_a_list_begins_with_its_verdict(
    found: list[dict[str, Any]], verdict: str, service: Service, call: Call
) -> None:
    service.say("GET", "/v1/abuse", page(*found))
    done = call("abuse", "list")
    lines = done.out.splitlines()
    assert (done.status, lines[0], lines[-1]) == (0, verdict, "As of position 99.")
    assert " ".join(lines[1].split()) == "FINDING NOTICED USER RULE FOUND LIMIT ANSWERED"
    assert len(lines) == 3 + len(found)


def test_each_rule_has_its_unit(service: Service, call: Call) -> None:
    failing = {"rule": "failing", "found": 95, "limit": 80, "count": 57, "of": 60}
    service.say("GET", "/v1/abuse", page(finding(3, **IDLE), finding(2, **failing), finding(1)))
    rows = [line.split()[-4:] for line in call("abuse", "list").out.splitlines()[2:5]]
    assert rows == [
        ["idle", "5:12:00", "4:00:00", "no"],
        ["%", "80", "%", "no"],
        ["submissions", "601/min", "600/min", "no"],
    ]


def test_nothing_found_says_where_the_rules_are(service: Service, call: Call) -> None:
    service.say("GET", "/v1/abuse", page())
    done = call("abuse", "list", "--user", "anna", "--rule", "idle", "--unanswered")
    assert done.out == "As of position 99.\n"
    assert "No findings. `jobledger policy show`" in done.err
    asked = dict(service.requests[-1].url.params)
    assert asked == {"user": "anna", "rule": "idle", "unanswered": "true", "limit": "100"}


def test_programs_get_what_they_ask_for(service: Service, call: Call) -> None:
    service.say("GET", "/v1/abuse", page(finding(2, **IDLE), finding(1)))
    assert call("abuse", "list", "-o", "name").out == "2\n1\n"
    rows = list(csv.DictReader(io.StringIO(call("abuse", "list", "-o", "csv").out)))
    assert [(r["finding"], r["user"], r["jobs"]) for r in rows] == [
        ("2", "bob", "17,18"),
        ("1", "anna", "17,18"),
    ]
    told = json.loads(call("abuse", "list", "-o", "json").out)
    assert (told["position"], [f["finding"] for f in told["findings"]]) == (99, [2, 1])


def test_a_long_list_is_fetched_page_by_page(
    service: Service, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paged(_: Service, request: httpx2.Request) -> httpx2.Response:
        last = int(request.url.params.get("cursor", "901"))
        first = max(1, last - int(request.url.params["limit"]))
        found = [finding(n) for n in range(last - 1, first - 1, -1)]
        body = page(*found, following=str(first) if first > 1 else None)
        return httpx2.Response(200, json=body)

    monkeypatch.setattr(Service, "__call__", paged)
    assert len(call("abuse", "list", "--limit", "0", "-o", "name").out.split()) == 900
    done = call("abuse", "list", "-n", "7", "-o", "name")
    assert done.out.split() == ["900", "899", "898", "897", "896", "895", "894"]
    assert "There are more than 7; --limit 0 shows all." in done.err


DETAIL = {
    "evidence": [
        {
            "position": 41,
            "at": "2026-11-20T10:00:39Z",
            "event": "job.submitted.v1",
            "job": 17,
            "what": "submitted job 17",
        },
    ],
    "advice": ["Submit an array."],
    "note": "talked to anna\x1b[2J",
    "position": 99,
}


def test_a_finding_is_shown_with_its_evidence(service: Service, call: Call) -> None:
    service.say("GET", "/v1/abuse/1", finding(1, **ANSWERED, **DETAIL))
    done = call("abuse", "show", "1")
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == "anna made 601 submissions within a minute; the rules of use allow 600."
    assert lines[-1] == "As of position 99."
    for wanted in (
        "  rule      submissions, of policy 2",
        "  answered  2026-11-20 12:00:00 by olga",
        "  said      talked to anna\\x1b[2J",
        "The last 1 of 601 events:",
        "      41  2026-11-20 10:00:39   17  submitted job 17",
        "  Submit an array.",
    ):
        assert wanted in lines
    assert json.loads(call("abuse", "show", "1", "-o", "json").out)["evidence"][0]["job"] == 17


def test_an_answer_is_sent(service: Service, call: Call) -> None:
    service.say("POST", "/v1/abuse/3/answer", {"state": "answered", "position": 100})
    done = call("abuse", "answer", "3", "--note", "all well")
    assert (done.status, done.out, done.err) == (0, "", "Finding 3 is answered.\n")
    assert service.body == {"note": "all well"}
    assert call("abuse", "answer", "0").status == 64


POLICY = {
    "policy": 3,
    "job_lease_s": 300,
    "lease_margin_s": 10,
    "lost_after_s": 86_400,
    "outage_window_s": 60,
    "absence_s": 60,
    "notify": 1,
    "notice_delay_s": 60,
    "notice_jobs": 20,
    "kill_grace_s": 10,
    "max_jobs_per_user": 500_000,
    "max_time_limit_s": 604_800,
    "output_head_bytes": 1 << 20,
    "output_tail_bytes": 1 << 20,
    "abuse_submissions_per_min": 0,
    "abuse_fail_within_s": 10,
    "abuse_fail_percent": 80,
    "abuse_fail_jobs": 50,
    "abuse_idle_node_s": 14_400,
    "abuse_idle_percent": 5,
    "meanings": {"abuse_idle_percent": "What idle means."},
}


def test_the_policy_says_what_it_means(service: Service, call: Call) -> None:
    service.say("GET", "/v1/policy", POLICY)
    told = {line.split()[0]: line.split()[1:] for line in call("policy", "show").out.splitlines()}
    assert told["abuse_idle_percent"] == ["5", "%", "What", "idle", "means."]
    assert told["abuse_idle_node"] == ["4:00:00"]
    assert told["output_head_bytes"] == ["1,048,576", "B"]
    assert "meanings" not in told


HISTORY = [
    {
        "policy": 3,
        "position": 1204,
        "set_at": "2026-11-20T10:00:00Z",
        "set_by": "root",
        "machine": "login1",
        "changed": [
            {"field": "job_lease_s", "was": 300, "now": 30},
            {"field": "output_head_bytes", "was": 1 << 20, "now": 4096},
            {"field": "abuse_idle_percent", "was": 5, "now": 20},
        ],
    },
    {
        "policy": 2,
        "position": 9,
        "set_at": "2026-11-19T10:00:00Z",
        "set_by": "olga",
        "machine": "",
        "changed": [],
    },
]


def test_what_each_policy_changed_is_told_with_units(service: Service, call: Call) -> None:
    service.say("GET", "/v1/policy/history", {"policies": HISTORY, "next": None, "position": 1300})
    told = [line.split() for line in call("policy", "history").out.splitlines()]
    assert told == [
        ["POLICY", "SET", "BY", "POSITION", "WHAT", "WAS", "NOW"],
        ["3", "2026-11-20", "10:00:00", "root", "1204", "job_lease", "5:00", "0:30"],
        [
            "3",
            "2026-11-20",
            "10:00:00",
            "root",
            "1204",
            *["output_head_bytes", "1,048,576", "B", "4,096", "B"],
        ],
        ["3", "2026-11-20", "10:00:00", "root", "1204", "abuse_idle_percent", "5", "%", "20", "%"],
        ["2", "2026-11-19", "10:00:00", "olga", "9", "nothing"],
        ["As", "of", "position", "1300."],
    ]
    rows = list(csv.DictReader(io.StringIO(call("policy", "history", "-o", "csv").out)))
    assert [(row["policy"], row["field"], row["was"], row["now"]) for row in rows] == [
        ("3", "job_lease_s", "300", "30"),
        ("3", "output_head_bytes", "1048576", "4096"),
        ("3", "abuse_idle_percent", "5", "20"),
        ("2", "", "", ""),
    ]
    assert json.loads(call("policy", "history", "-o", "json").out)["policies"] == HISTORY
    assert call("policy", "history", "-o", "name").out == "3\n2\n"
    service.say("GET", "/v1/policy/history", {"policies": [], "next": None, "position": 1300})
    nothing = call("policy", "history")
    assert nothing.out == "As of position 1300.\n"
    assert nothing.err.startswith("No policy was ever set")


def test_a_policy_of_the_past_is_asked_for(service: Service, call: Call) -> None:
    service.say("GET", "/v1/policy", POLICY)
    assert call("policy", "show", "--at-position", "7").status == 0
    assert dict(service.requests[-1].url.params) == {"at_position": "7"}


def test_rules_of_use_are_set_with_their_units(service: Service, call: Call) -> None:
    service.say("PATCH", "/v1/policy", POLICY)
    words = ["--abuse-idle-node", "4h", "--abuse-fail-within", "1m", "--abuse-fail-percent", "0"]
    assert call("policy", "set", *words, "--kill-grace", "5").status == 0
    sent = {"abuse_idle_node_s": 14_400, "abuse_fail_within_s": 60, "abuse_fail_percent": 0}
    assert service.body == {"kill_grace_s": 5, **sent}
    assert call("policy", "set", "--abuse-idle-node", "long").status == 64
