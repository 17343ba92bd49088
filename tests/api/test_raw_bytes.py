"""Bytes that no client sends: mutated requests, and a node that speaks for others."""

import json
import random
import re
import socket
from collections import Counter
from typing import Any

import pytest

from ledger.domain.state import Cluster
from ledger.testing.evidence import Evidence
from live import Http, Live, live, until

SENT, SENT_FULL = 300, 20_000
SYNC = {
    "protocol": 1,
    "spool": "spool-m1",
    "boot_id": "boot-1",
    "sent_ns": 10**12,
    "build": "test",
    "facts": {"cpus": 4, "memory_bytes": 1 << 30, "image": "i", "kernel": "k"},
    "seen": {"incarnation": "x", "epoch": 1, "position": 1, "hash": "0" * 64},
    "has": [{"job": 1, "attempt": 1, "phase": "running"}],
    "reports": [
        {"seq": 1, "kind": "started", "job": 1, "attempt": 1},
        {"seq": 2, "kind": "ended", "job": 1, "attempt": 1, "end": "completed", "cause": "exit"},
    ],
    "wait_s": 0,
}
ENROL = {"pool": "default", "serial": "s", "features": ["gpu"], "facts": {"cpus": 2}}
ODD: list[Any] = [0, -1, 1, 2, 3, 2**31, 2**53, 2**63, 2**64, -(2**63), 1.5, 1e308, True, None]
ODD += ["", "x", "\0", "n2", "\ud7ff", "\u202e", [], {}, [[]], {"": ""}, "9" * 400, [None] * 50]
PIECES = [
    b"\0",
    b"\r\n",
    b"\n\n",
    b": ",
    b"\xff\xfe",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"}",
    b'"',
]
PIECES += [b"Transfer-Encoding: chunked\r\n", b"HTTP/9.9", b" " * 200, b"%00", b"{", b"[" * 300]


@pytest.fixture
def world() -> Any:
    """Job 1 runs on n2, job 2 waits; m1 is a node of another pool that has nothing to do."""
    with live(follow=True) as service:
        service.node("m1", pool="mine")
        other = service.node("n2", pool="theirs")
        alice = service.user("alice")
        alice.submit(pool="theirs", restartable=True)
        until(lambda: service.state(lambda c: c.jobs[1].attempt), "job 1 is placed")
        assert other.sync("n2", reports=[{"seq": 1, "kind": "started", "job": 1, "attempt": 1}])
        assert alice.submit(pool="theirs") == 2
        yield service


def foreign(cluster: Cluster) -> Any:
    """What is not m1's business: jobs, their attempts, other nodes, tokens, the policy."""
    nodes = {n: (x.state, x.attempts, x.pool) for n, x in cluster.nodes.items() if n != "m1"}
    jobs = {j: (x.state, x.attempts, x.attempt) for j, x in cluster.jobs.items()}
    return repr((nodes, jobs, sorted(cluster.tokens), cluster.policy, cluster.next_job))


def mutated(value: Any, draw: random.Random) -> Any:
    """A JSON value with something in it changed, taken away, doubled or made odd."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        made = {**value, key: mutated(value[key], draw)}
        if draw.random() < 0.15:
            del made[key]
        return made
    if isinstance(value, list) and value and draw.random() < 0.85:
        items = list(value)
        place = draw.randrange(len(items))
        items[place] = mutated(items[place], draw)
        return items * draw.choice([1, 1, 1, 2, 40])
    return draw.choice(ODD)


def spoiled(data: bytes, draw: random.Random) -> bytes:
    """Bytes with some turned, cut out, put in or repeated."""
    made = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, kind = draw.randrange(len(made) + 1), draw.randrange(4)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del made[at : at + draw.randint(1, 20)]
        elif kind == 2:
            made[at:at] = draw.choice(PIECES)
        else:
            made[at:at] = made[at : at + draw.randint(1, 60)]
    return bytes(made)


def requests(token: str) -> list[bytes]:
    """Whole, good requests as they go over the wire."""
    made = []
    for line, body in (
        (b"POST /v1/agents/m1/sync", json.dumps(SYNC).encode()),
        (b"POST /v1/agents/m1/enrol", json.dumps(ENROL).encode()),
        (b"POST /v1/agents/m1/output/1/1?offset=0", b"printed"),
        (b"POST /v1/jobs?items=each", b'{"argv":["x"]}\n{"argv":["y"]}\n'),
        (b"GET /v1/jobs?scope=all&limit=5", b""),
        (b"PATCH /v1/policy", b'{"kill_grace_s":7}'),
    ):
        head = b"%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % (line, token.encode())
        head += b"Content-Type: application/json\r\nIdempotency-Key: k\r\nConnection: close\r\n"
        made.append(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    return made


def answered(address: tuple[str, int], data: bytes) -> int:
    """The status of the answer to these bytes; 0 if the connection is closed without any."""
    with socket.create_connection(address, timeout=10) as wire:
        found = b""
        try:
            wire.sendall(data)
            wire.shutdown(socket.SHUT_WR)
            while piece := wire.recv(65536):
                found += piece
        except ConnectionError:
            pass
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", found)
    assert status or not found, found[:200]
    return int(status[1]) if status else 0


def test_spoiled_bytes_cost_one_answer_and_change_nothing_of_others(
    world: Live, full: bool, evidence: Evidence, capfd: pytest.CaptureFixture[str]
) -> None:
    draw = random.Random(11)  # noqa: S311 - it must repeat
    host, _, port = world.address.removeprefix("http://").rpartition(":")
    good = requests(world.user("m1", "node").token)
    before, statuses = world.state(foreign), Counter[int]()
    for _ in range(SENT_FULL if full else SENT):
        statuses[answered((host, int(port)), spoiled(draw.choice(good), draw))] += 1
    assert max(statuses) < 500, statuses
    assert world.state(foreign) == before
    told(world, evidence, "spoiled bytes at the HTTP port", statuses, capfd)


def test_a_node_that_speaks_for_others_changes_nothing(
    world: Live, full: bool, evidence: Evidence, capfd: pytest.CaptureFixture[str]
) -> None:
    draw, node = random.Random(12), world.user("m1", "node")  # noqa: S311 - it must repeat
    before, statuses = world.state(foreign), Counter[int]()
    for n in range(1, (SENT_FULL if full else SENT) + 1):
        statuses[speak(node, draw, n)] += 1
    assert max(statuses) < 500, statuses
    assert statuses[200], statuses
    assert world.state(foreign) == before
    told(world, evidence, "a node that speaks for others", statuses, capfd)


def speak(node: Http, draw: random.Random, n: int) -> int:
    """One call of a node gone wrong; the answer's status."""
    # Each from a boot of its own: after one from the far future, all others would be stale.
    body: Any = {**SYNC, "boot_id": f"boot-{n}"}
    for report in body["reports"]:
        report |= {"job": draw.choice([1, 1, 2, 3]), "attempt": draw.choice([1, 1, 2])}
    path, kind = "m1/sync", draw.random()
    if kind < 0.1:
        path = draw.choice(["n2/sync", "n2/enrol", "m1/enrol", "n2/output/1/1", "m1/output/1/1"])
        body = ENROL if path.endswith("enrol") else body
    elif kind < 0.7:
        body = mutated(body, draw)
        if isinstance(body, dict) and body.get("wait_s") != "x":
            body["wait_s"] = 0
    return node("POST", f"/v1/agents/{path}", body).status_code


def told(
    world: Live,
    evidence: Evidence,
    name: str,
    statuses: Counter[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The service still works, every event reads back, and the figure is noted."""
    assert world.fatal == []
    assert "Traceback" not in "".join(capfd.readouterr())
    assert world.operator.ok("GET", "/readyz")["ready"] is True
    assert len(world.events()) > 0
    shown = ", ".join(f"{n} x {status or 'closed'}" for status, n in sorted(statuses.items()))
    evidence(name, f"{statuses.total()} requests: {shown}; nothing of others' changed")
