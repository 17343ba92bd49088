"""`queue` and `demand`: what they ask for, and how it looks."""

import csv
import json
from typing import Any

import pytest

from .conftest import Call, Service


def queued(pool: str = "", user: str = "", **more: Any) -> dict[str, Any]:
    return {
        "pool": pool,
        "user": user,
        "account": "",
        "queued_jobs": 0,
        "queued_nodes": 0,
        "held_jobs": 0,
        "held_nodes": 0,
        "running_jobs": 0,
        "nodes_in_use": 0,
        "nodes_in_service": None,
    } | more


def queue(*rows: dict[str, Any], **whole: Any) -> dict[str, Any]:
    at = "2026-11-20T10:00:00Z"
    return {"rows": rows, "whole": queued(**whole), "position": 9, "at": at}


ANN = queued("main", "ann\x1b[2J", queued_jobs=1200, queued_nodes=2400, held_jobs=7)
BOB = queued("gpu", "bob", running_jobs=1, nodes_in_use=3)
WHOLE = {"queued_jobs": 1200, "queued_nodes": 2400, "held_jobs": 7, "running_jobs": 1,
         "nodes_in_use": 3, "nodes_in_service": 64}  # fmt: skip


def test_the_queue_is_told(service: Service, call: Call) -> None:
    service.say("GET", "/v1/queue", queue(ANN, BOB, **WHOLE))
    done = call("queue")
    assert done.status == 0
    assert done.out.splitlines() == [
        "1,200 jobs wait for 2,400 nodes, 7 of them held; 1 job runs on 3 nodes of 64 in service.",
        "POOL  USER        ACCOUNT  WAITING  NODES WANTED  HELD  RUNNING  NODES IN USE",
        "main  ann\\x1b[2J             1,200         2,400     7        0             0",
        "gpu   bob                        0             0     0        1             3",
        "As of position 9, 2026-11-20 10:00:00.",
    ]
    assert service.requests[-1].url.params["by"] == "pool,user,account"


def test_the_queue_of_pools_has_their_service(service: Service, call: Call) -> None:
    row = queued("main", nodes_in_service=64)
    service.say("GET", "/v1/queue", queue(row, nodes_in_service=64))
    lines = call("queue", "--by", "pool", "-p", "main").out.splitlines()
    assert lines[1].split()[-2:] == ["IN", "SERVICE"]
    assert lines[2].split()[-1] == "64"
    assert service.requests[-1].url.params["pool"] == "main"


def test_an_empty_queue(service: Service, call: Call) -> None:
    service.say("GET", "/v1/queue", queue())
    lines = call("queue").out.splitlines()
    assert lines[0] == "0 jobs wait for 0 nodes; 0 jobs run on 0 nodes."
    assert len(lines) == 2
    assert call("queue", "-o", "jsonl").out == ""


def test_the_queue_is_data(service: Service, call: Call) -> None:
    service.say("GET", "/v1/queue", queue(ANN, BOB))
    assert json.loads(call("queue", "-o", "json").out)["whole"]["queued_jobs"] == 0
    assert call("queue", "-o", "name").out == "main\ngpu\n"
    assert call("queue", "--by", "user,pool", "-o", "name").out == "ann\\x1b[2J\nbob\n"
    rows = list(csv.DictReader(call("queue", "-o", "csv").out.splitlines()))
    assert (rows[0]["queued_jobs"], rows[0]["nodes_in_service"]) == ("1200", "")


def demanded(hour: int, **more: Any) -> dict[str, Any]:
    times = {"since": f"2026-11-20T{hour:02}:00:00Z", "until": f"2026-11-20T{hour + 1:02}:00:00Z"}
    lasted = ("queued_job", "queued_node", "held_job", "held_node", "running_job", "in_use_node",
              "in_service_node", "unmet_node")  # fmt: skip
    counted = ("asked", "started", "withdrawn", "refused")
    return {
        **queued(),
        **times,
        **{f"{name}_seconds": 0.0 for name in lasted},
        **{f"{kind}_{what}": 0 for kind in counted for what in ("jobs", "node_seconds")},
        **more,
    }


BUSY = demanded(
    10,
    asked_jobs=1500,
    asked_node_seconds=5_400_000,
    refused_jobs=2,
    queued_job_seconds=1800.0,
    queued_node_seconds=9000.5,
    in_use_node_seconds=7200.0,
    in_service_node_seconds=14400.0,
    unmet_node_seconds=1800.0,
)


def answer(*rows: dict[str, Any], zone: str = "UTC") -> dict[str, Any]:
    times = {"since": "2026-11-20T10:00:00Z", "until": "2026-11-20T12:00:00Z"}
    return {**times, "zone": zone, "rows": rows, "position": 9}


def test_demand_is_told(service: Service, call: Call) -> None:
    service.say("GET", "/v1/demand", answer(BUSY, demanded(11), zone="Europe/Berlin"))
    done = call("demand", "--by", "hour", "--zone", "Europe/Berlin", "--since", "-2h")
    assert done.out.splitlines() == [
        "Between 2026-11-20 10:00:00 and 2026-11-20 12:00:00, 1,500 jobs asked for 1,500.0 node "
        "hours; 2 were refused, 0 withdrawn, 0 started.",
        "HOUR              ASKED  REFUSED  WITHDRAWN  STARTED  QUEUED  WANTED  IN USE  SERVING  "
        "UNMET",
        "2026-11-20 11:00  1,500        2          0        0     0.5     2.5     2.0      4.0    "
        "0.5",
        "2026-11-20 12:00      0        0          0        0     0.0     0.0     0.0      0.0    "
        "0.0",
        "QUEUED: jobs on average; WANTED, IN USE, SERVING: nodes on average; UNMET: node hours.",
        "As of position 9; hours begin in Europe/Berlin.",
    ]
    asked = service.requests[-1].url.params
    assert (asked["by"], asked["zone"], "until" in asked) == ("hour", "Europe/Berlin", False)
    assert asked["since"].endswith("+00:00")


def test_demand_of_users_has_no_service(service: Service, call: Call) -> None:
    row = BUSY | {"user": "ann", "in_service_node_seconds": None, "unmet_node_seconds": None}
    service.say("GET", "/v1/demand", answer(row))
    lines = call("demand", "--by", "user", "-o", "wide").out.splitlines()
    assert "UNMET" not in lines[1]
    assert lines[1].split()[:3] == ["USER", "ASKED", "NODE"]
    assert lines[2].split()[:3] == ["ann", "1,500", "1,500.0"]
    assert lines[-1] == "As of position 9."


def test_demand_is_data(service: Service, call: Call) -> None:
    service.say("GET", "/v1/demand", answer(BUSY | {"pool": "main"}))
    (row,) = csv.DictReader(call("demand", "--by", "hour,pool", "-o", "csv").out.splitlines())
    assert (row["hour"], row["pool"]) == ("2026-11-20T10:00:00Z", "main")
    assert (row["asked_node_seconds"], row["queued_node_seconds"]) == ("5400000", "9000.5")
    assert row["in_service_node_seconds"] == "14400"
    (row,) = csv.DictReader(call("demand", "--by", "day", "-o", "csv").out.splitlines())
    assert row["day"] == "2026-11-20"
    assert call("demand", "--by", "day", "-o", "name").out == "2026-11-20T10:00:00Z\n"
    assert json.loads(call("demand", "-o", "json").out)["zone"] == "UTC"
    assert call("demand", "-o", "name").out == "all\n"


def test_no_demand_is_an_answer(service: Service, call: Call) -> None:
    service.say("GET", "/v1/demand", answer())
    assert call("demand")[1:] == ("", "Nothing was asked for.\n")
    assert call("demand", "-o", "csv").out.startswith("asked_jobs,asked_node_seconds,")


@pytest.mark.parametrize(
    "words",
    [
        ["queue", "--by", "day"],
        ["demand", "--by", "hour,day"],
        ["demand", "--by", "week"],
        ["demand", "--since", "soon"],
    ],
)
def test_what_can_not_be_asked_is_told(words: list[str], service: Service, call: Call) -> None:
    done = call(*words)
    assert (done.status, done.out, service.requests) == (64, "", [])


def test_ten_thousand_rows(service: Service, call: Call) -> None:
    rows = [demanded(10) | {"user": f"u{n}", "unmet_node_seconds": None} for n in range(10_000)]
    service.say("GET", "/v1/demand", answer(*rows))
    lines = call("demand", "--by", "user").out.splitlines()
    assert len(lines) == 10_004
    assert lines[9_999].startswith("u9997 ")
