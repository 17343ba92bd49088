"""`outage …`, as a person and a program see it."""

import csv
import io

from .conftest import Call, Service

OUTAGE = {
    "outage": 17,
    "kind": "nodes",
    "open": True,
    "since": "2026-11-20T10:00:00Z",
    "until": None,
    "opened_at": "2026-11-20T10:05:00Z",
    "opened_by": "system",
    "closed_at": None,
    "closed_by": "",
    "rack": "r7",
    "switch": "",
    "power": "",
    "pools": ["default"],
    "count": 2,
    "cause": "silent",
    "reason": "",
    "words": "a fuse\x1b[2J",
    "result": "",
    "told_at": None,
}
NOTICE = {
    "notice": 1,
    "to": "ann",
    "desk": False,
    "why": "hit",
    "pool": "",
    "due_at": "2026-11-20T10:06:00Z",
    "sent_at": "2026-11-20T10:06:10Z",
    "channels": ["mailtos"],
    "tries": 1,
    "next_at": None,
    "error": "",
}
JOB = {
    "job": 5,
    "attempt": 1,
    "node": "n1",
    "struck_at": "2026-11-20T10:05:00Z",
    "restartable": True,
    "lost_node_s": 3600.0,
    "effect": "requeued",
    "state": "running",
    "last": 2,
}
USER = {
    "user": "ann",
    "account": "physics",
    "hit": 1,
    "lost": 0,
    "requeued": 1,
    "needs_owner": 0,
    "lost_node_s": 3600.0,
    "told": [NOTICE],
    "jobs": [JOB],
}


def test_a_list(service: Service, call: Call) -> None:
    service.say("GET", "/v1/outages", {"outages": [OUTAGE], "next": None, "position": 9})
    (titles, row) = call("outage", "list", "--open").out.splitlines()
    assert titles.split() == ["OUTAGE", "KIND", "SINCE", "UNTIL", "NODES", "WHERE", "WHY"]
    assert row.split()[:2] == ["17", "nodes"]
    assert "rack r7" in row
    assert row.endswith("a fuse\\x1b[2J")
    assert service.requests[-1].url.params["open"] == "true"
    assert call("outage", "list", "-o", "name").out == "17\n"
    service.say("GET", "/v1/outages", {"outages": [], "next": None, "position": 9})
    assert call("outage", "list", "--open").err == "Nothing is out.\n"


def test_one(service: Service, call: Call) -> None:
    members = [
        {"node": "n1", "lost_at": "2026-11-20T10:05:00Z", "losses": 1, "back_at": None},
        {"node": "n2", "lost_at": None, "losses": 0, "back_at": None},
    ]
    causes = [{"at": "2026-11-20T11:00:00Z", "by": "olga", "cause": "a fuse"}]
    answer = OUTAGE | {"members": members, "causes": causes, "notices": [NOTICE], "position": 9}
    service.say("GET", "/v1/outages/17", answer)
    lines = call("outage", "show", "17").out.splitlines()
    assert lines[0].startswith("Outage 17: 2 nodes lost, since ")
    assert lines[1].split() == ["nodes", "n[1-2]"]
    assert lines[2].split() == ["not", "back", "n1"]
    assert lines[-1] == "As of position 9."


def test_whom_it_hit(service: Service, call: Call) -> None:
    answer = {"outage": OUTAGE, "users": [USER], "waiting": {"bob": 3}, "position": 9}
    service.say("GET", "/v1/outages/17/affected", answer)
    lines = call("outage", "affected", "17").out.splitlines()
    assert lines[0] == (
        "Outage 17 hit 1 user and 1 job: 1 queued again, 0 lost, 0 need their owner; "
        "1:00:00 of node time lost."
    )
    assert "(mailtos)" in lines[2]
    assert lines[-2:] == ["3 jobs of 1 user waited longer.", "As of position 9."]
    (row,) = csv.DictReader(io.StringIO(call("outage", "affected", "17", "--csv").out))
    assert (row["user"], row["job"], row["last"], row["told_at"][:10]) == (
        "ann",
        "5",
        "2",
        "2026-11-20",
    )


def test_what_operators_say(service: Service, call: Call) -> None:
    done = {"outage": 17, "changed": True, "position": 9}
    service.say("POST", "/v1/outages", done, 201)
    opened = call("outage", "open", "--nodes", "n[1-2]", "--since", "-2h", "--reason", "cooling")
    assert opened.err == "Outage 17 is open.\n"
    assert (service.body["nodes"], service.body["planned"]) == (["n1", "n2"], False)
    words = ("--from", "+1h", "--until", "+2h", "--reason", "disks")
    assert call("outage", "plan", *words).err == "Outage 17 is planned.\n"
    assert service.body["planned"] is True
    service.say("POST", "/v1/outages/17/cause", done)
    assert call("outage", "cause", "17", "a mouse").status == 0
    service.say("POST", "/v1/outages/17/close", done)
    assert call("outage", "close", "17", "--reason", "done").err == "Outage 17 is closed.\n"
    assert call("outage", "open", "--reason", " ").status == 64
