"""The inner state: every part says what is so, for operators, in as many rows as were asked for."""

from typing import Any, get_args

import pytest

from ledger.master.inner import PARTS
from ledger.models import InnerPart
from ledger.projection.discover import discover
from live import Http, Live, until

from .acting import agent_of, cluster, has, placed


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Pools `still` and `busy`; a job that runs on b1, others that wait for every reason."""
    cluster(service)
    alice, bob = service.user("alice"), service.user("bob")
    running = alice.submit(pool="busy", name="first")
    placed(service, running)
    agent_of(service).sync("b1", has=[has(running, "running")])
    for _ in range(3):
        alice.submit(pool="busy")
    bob.submit(pool="busy", held=True)
    bob.submit(pool="busy", depends=[{"kind": "afterok", "job": running}])
    bob.submit(pool="busy", begin_at="2090-01-01T00:00:00Z")
    bob.ok("POST", "/v1/jobs", [{"argv": ["x"], "pool": "still"}] * 5)
    return service


def part(world: Live, name: str, limit: int = 100) -> Any:
    return world.operator.ok("GET", f"/v1/inner/{name}?limit={limit}")


def grouped(told: Any) -> dict[tuple[str, str, str], int]:
    return {(r["pool"], r["user"], r["reason"]): r["jobs"] for r in told["rows"]}


def test_parts_are_those_that_the_models_name() -> None:
    assert tuple(PARTS) == get_args(InnerPart)


def test_the_queue_by_pool_user_and_reason_as_why_has_it(world: Live) -> None:
    told = part(world, "queue")
    assert grouped(told) == {
        ("busy", "alice", "Resources"): 1,
        ("busy", "alice", "Priority"): 2,
        ("busy", "bob", "JobHeldUser"): 1,
        ("busy", "bob", "Dependency"): 1,
        ("busy", "bob", "BeginTime"): 1,
        ("still", "bob", "ReqNodeNotAvail"): 5,
    }
    listed = world.operator.ok("GET", "/v1/jobs")["jobs"]
    whys: dict[tuple[str, str, str], int] = {}
    for job in listed:
        if job["state"] == "pending":
            key = (job["pool"], job["user"], job["reason"])
            whys[key] = whys.get(key, 0) + 1
    assert grouped(told) == whys
    facts = told["facts"]
    assert (facts["pending"], facts["running"], facts["requests_waiting"]) == (11, 1, 0)
    assert facts["largest_batch_requests"] >= facts["last_batch_requests"] >= 1


def test_no_more_rows_than_asked_for_and_how_many_more_there_are(world: Live) -> None:
    told = part(world, "queue", limit=2)
    assert [row["jobs"] for row in told["rows"]] == [5, 2]
    assert told["more"] == 4
    for name in PARTS:
        all_of, none = part(world, name, 1000), part(world, name, 0)
        assert (none["rows"], none["more"]) == ([], len(all_of["rows"]))
    assert world.operator("GET", "/v1/inner/queue?limit=1001").status_code == 422
    assert world.operator("GET", "/v1/inner/nonsense").status_code == 422


def test_leases_tell_the_longest_silent_first(world: Live) -> None:
    told = part(world, "leases")
    assert {row["node"] for row in told["rows"]} == {"s1", "b1"}
    assert [row["last_sync_at"] for row in told["rows"]] == sorted(
        row["last_sync_at"] for row in told["rows"]
    )
    (b1,) = [row for row in told["rows"] if row["node"] == "b1"]
    assert (b1["epoch_told"], b1["jobs"], b1["outstanding"]) == (1, 1, 0)
    assert b1["last_sync_at"] < b1["lease_until_at"]
    assert (told["facts"]["silent"], told["facts"]["heard_in_this_epoch"]) == (0, 2)


def test_the_plan_tells_what_came_of_it_and_who_is_first(world: Live) -> None:
    told = part(world, "plan")
    assert told["facts"]["passes"] >= 1
    assert told["facts"]["proposals_so_far"] == 1
    assert "nothing that could start a job" in told["facts"]["now"]
    assert told["facts"]["view"] <= world.head


def test_the_log_and_what_was_last_written(world: Live) -> None:
    told = part(world, "log")
    head = world.operator.ok("GET", "/v1/log/head")
    for name in ("position", "commit", "hash", "epoch", "incarnation"):
        assert told["facts"][name] == head[name]
    assert told["facts"]["committed_at"] == head["at"]
    assert told["facts"]["last_events"] >= 1
    assert told["facts"]["last_bytes"] > 100
    assert told["facts"]["disk_bytes"] > 4096


def test_projections_keys_timers_and_memory(world: Live) -> None:
    rows = until(
        lambda: (
            (r := part(world, "projections")["rows"])
            and not any(row["lag_events"] for row in r)
            and r
        ),
        "caught",
    )
    states = {row["projection"]: row["state"] for row in rows}
    assert states == dict.fromkeys(discover().projections, "up to date")
    alice = world.user("alice")
    body = {"argv": ["x"], "pool": "still"}
    assert alice("POST", "/v1/jobs", body, headers={"Idempotency-Key": "k1"}).status_code == 201
    told = part(world, "keys")
    assert told["rows"] == [{"user": "alice", "keys": 1}]
    assert told["facts"]["with_live_jobs"] == 1
    due = part(world, "timers")["rows"]
    assert [row["due_at"] for row in due] == sorted(row["due_at"] for row in due)
    assert {row["what"] for row in due} == {"lease runs out", "may begin"}
    held = {row["what"]: row["count"] for row in part(world, "memory")["rows"]}
    assert held["live jobs"] == world.state(lambda c: len(c.jobs))
    assert part(world, "memory")["facts"]["resident_bytes"] > 10_000_000


def test_an_order_is_in_the_outbox_until_its_agent_obeys(fresh: Live) -> None:
    agent: Http = fresh.node("n1")
    alice = fresh.user("alice")
    job = alice.submit()
    placed(fresh, job)

    def orders() -> list[tuple[str, int, str]]:
        told = part(fresh, "outbox")
        found = [(row["node"], row["job"], row["order"]) for row in told["rows"]]
        assert told["facts"]["orders"] == len(found)
        assert part(fresh, "leases")["rows"][0]["outstanding"] == len(found)
        return found

    assert orders() == [("n1", job, "start")]
    agent.sync("n1", has=[has(job, "running")])
    assert orders() == []
    alice.ok("POST", f"/v1/jobs/{job}/cancel", {})
    assert orders() == [("n1", job, "stop")]
    agent.sync("n1", has=[has(job, "stopping")])
    assert orders() == []
    agent.sync("n1", has=[has(job, "stopping"), has(99, "running")])
    assert orders() == [("n1", 99, "forget")]


def test_checkpoints_and_what_keeps_them_from_being_written(fresh: Live) -> None:
    assert part(fresh, "checkpoints")["rows"] == []
    fresh.restart()
    told = part(fresh, "checkpoints")
    (row,) = told["rows"]
    assert row["position"] + row["behind"] == fresh.head
    assert row["size_bytes"] > 0
    kept = fresh.running.checkpoints
    folder, kept.folder = kept.folder, fresh.data / "log.db" / "no-folder"
    kept.save(fresh.running.master.head, fresh.running.master.cluster)
    kept.folder = folder
    told = part(fresh, "checkpoints")
    assert (told["facts"]["failures"], told["facts"]["saved"]) == (1, 0)
    assert "could not be written" in told["sentence"]
    assert "jobledger_checkpoint_failures_total 1.0" in fresh.operator("GET", "/metrics").text
