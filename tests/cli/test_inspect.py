"""`inspect`: parts of the inner state as people and as programs read them."""

import json
from typing import Any, get_args

from ledger.models import InnerPart

from .conftest import Call, Service

LEASES = {
    "part": "leases",
    "sentence": "2 nodes, 2 heard in this epoch, 1 silent.",
    "facts": {"nodes": 2, "lease_s": 300, "oldest_sync_at": None, "took_s": 0.0021, "error": ""},
    "rows": [
        {"node": "n2", "lease_until_at": "2026-11-20T10:00:00Z", "size_bytes": 3 << 20},
        {"node": "n1\x1b[2J", "lease_until_at": None, "size_bytes": None},
    ],
    "more": 412,
    "position": 77,
    "at": "2026-11-20T10:05:00Z",
}


def test_a_part_for_people(service: Service, call: Call) -> None:
    service.say("GET", "/v1/inner/leases", LEASES)
    done = call("inspect", "leases", "-n", "2")
    assert done.status == 0
    assert str(service.requests[-1].url).endswith("?limit=2")
    said = done.out.splitlines()
    assert said[0] == LEASES["sentence"]
    assert "lease  5:00" in said
    assert "took   2.1 ms" in said
    assert said[-3].split() == ["NODE", "LEASE", "UNTIL", "SIZE"]
    assert said[-2].split() == ["n2", "2026-11-20", "10:00:00", "3.0", "MiB"]
    assert "\x1b" not in done.out
    assert "412 more" in done.err
    assert "position 77" in done.err


def test_a_part_for_programs(service: Service, call: Call) -> None:
    service.say("GET", "/v1/inner/leases", LEASES)
    assert json.loads(call("inspect", "leases", "-o", "json").out) == LEASES
    rows = [json.loads(row) for row in call("inspect", "leases", "-o", "jsonl").out.splitlines()]
    assert rows == LEASES["rows"]
    table = call("inspect", "leases", "-o", "csv").out.splitlines()
    assert table[:2] == ["node,lease_until_at,size_bytes", "n2,2026-11-20T10:00:00Z,3145728"]
    assert call("inspect", "leases", "-o", "name").out.startswith("n2\n")
    without: Any = LEASES | {"rows": [], "more": 0}
    service.say("GET", "/v1/inner/leases", without)
    (facts,) = call("inspect", "leases", "-o", "jsonl").out.splitlines()
    assert json.loads(facts) == LEASES["facts"]


def test_all_parts_in_a_line_each(service: Service, call: Call) -> None:
    for part in get_args(InnerPart):
        told = LEASES | {"part": part, "sentence": f"{part} is well."}
        service.say("GET", f"/v1/inner/{part}", told)
    said = call("inspect").out.splitlines()
    assert len(said) == 1 + len(get_args(InnerPart))
    assert said[1].endswith("queue is well.")


def test_who_may_not_or_asks_for_what_there_is_not(service: Service, call: Call) -> None:
    service.refuse("GET", "/v1/inner/queue", 403, "forbidden")
    assert call("inspect", "queue").status == 77
    assert call("inspect", "nonsense").status == 64
    assert call("inspect", "queue", "-n", "1001").status == 64
