"""What was the case once: every question as of a time or a position, as it was answered then."""

import os
import signal
from datetime import UTC, datetime
from typing import Any

import pytest

from live import Http, Live, until

from .acting import agent_of, cluster, ended, placed, started


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """A pool in which one node works."""
    return cluster(service)


def written(micros: int) -> str:
    """A time as it stands in a query."""
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat().replace("+00:00", "Z")


def answers(http: Http, job: int, then: str = "") -> dict[str, Any]:
    """All that is asked about the past, as it was then or is now; without what only now has."""
    found: dict[str, Any] = {}
    for path in (
        "/v1/jobs?scope=live&user=alice",
        "/v1/jobs?scope=all&user=alice",
        "/v1/jobs?user=alice&state=running",
        f"/v1/jobs/{job}",
        "/v1/impact?nodes=b1",
        "/v1/usage?by=user",
    ):
        answer = http("GET", path + then if "?" in path else path + then.replace("&", "?", 1))
        assert answer.is_success, answer.text
        told = answer.json()
        if then:
            assert int(answer.headers["ledger-position"]) == told["position"]
            assert answer.headers["ledger-lag"] == "0"
        found[path] = plain(told)
    return found


def plain(told: Any) -> Any:
    """An answer without why a job waits, and who asked: what only the master's state knows."""
    if isinstance(told, list):
        return [plain(one) for one in told]
    if isinstance(told, dict):
        known = {"reason", "position", "until", "submitted_from", "machines"}
        return {key: plain(value) for key, value in told.items() if key not in known}
    return told


def test_a_job_is_shown_as_it_was(world: Live) -> None:
    alice = world.user("alice")
    job = alice.submit(pool="busy", name="then", restartable=True)
    story = []
    placed(world, job)
    for report in (started(1, job), ended(2, job, exit_code=3, end="failed")):
        before = world.head
        state = alice.ok("GET", f"/v1/jobs/{job}")
        story.append((before, state))
        world.clock.advance(60)
        assert agent_of(world).sync("b1", reports=[report]).is_success
    until(lambda: alice.ok("GET", f"/v1/jobs/{job}")["state"] == "failed", "it has ended")
    for position, state in story:
        then = alice.ok("GET", f"/v1/jobs/{job}?at_position={position}")
        assert plain(then) == plain(state), "the same, though it came out of the master's state"
        assert (then["position"], then["state"]) == (position, "running")
    first = next(r for r in world.events() if getattr(r.event, "first_job", 0) == job)
    waiting = alice.ok("GET", f"/v1/jobs/{job}?at_position={first.position}")
    assert (waiting["state"], waiting["nodes"], waiting["attempts"]) == ("pending", [], [])
    assert waiting["argv"] == ["/bin/true"]
    assert alice("GET", f"/v1/jobs/{job}?at_position={first.position - 2}").status_code == 404
    lines = alice("GET", f"/v1/jobs/{job}/events?at_position={story[0][0]}").text.splitlines()
    assert [line.split('"name":"')[1][:11] for line in lines] == ["job.submitt", "attempt.pla"]


def test_a_time_means_the_last_commit_until_then(world: Live) -> None:
    operator = world.operator
    alice = world.user("alice")
    job = alice.submit(pool="still")
    kept = world.head
    at = world.events()[-1].at
    then = answers(operator, job)
    world.clock.advance(60)
    alice.ok("POST", f"/v1/jobs/{job}/cancel", {})
    for asked in (f"&at={written(at)}", f"&at={written(at + 59_000_000)}", f"&at_position={kept}"):
        assert answers(operator, job, asked) == then
        head = operator.ok("GET", f"/v1/log/head?{asked[1:]}")
        assert (head["position"], head["at"]) == (kept, written(at))
    assert operator("GET", f"/v1/jobs/{job}?at={written(at - 1)}").status_code == 404
    ended = operator.ok("GET", f"/v1/jobs/{job}?at={written(world.events()[-1].at)}")
    assert ended["state"] == "cancelled", "what is written at that very time has happened"


def test_a_position_within_a_commit_means_the_commit_before(world: Live) -> None:
    operator, alice = world.operator, world.user("alice")
    before = world.head
    wanted = operator.ok("GET", "/v1/jobs?scope=all")
    alice.ok("POST", "/v1/jobs", [{"argv": ["x"], "pool": "still"}] * 3)
    assert world.head == before + 2, "a header, and one event"
    for position in (before, before + 1):
        told = operator.ok("GET", f"/v1/jobs?scope=all&at_position={position}")
        assert plain(told) == plain(wanted)
        assert told["position"] == before
    after = operator.ok("GET", f"/v1/jobs?scope=all&at_position={before + 2}")["jobs"]
    assert len(after) == len(wanted["jobs"]) + 3


def test_before_anything_nothing_was(world: Live) -> None:
    operator = world.operator
    for then in ("at_position=0", "at=1970-01-01T00:00:00Z", "at=2001-01-01T00:00:00%2B02:00"):
        told = operator.ok("GET", f"/v1/jobs?scope=all&{then}")
        assert (told["jobs"], told["position"]) == ([], 0)
        assert operator.ok("GET", f"/v1/usage?{then}")["rows"] == []
        assert operator.ok("GET", f"/v1/log/head?{then}")["position"] == 0
        assert operator("GET", f"/v1/jobs/1?{then}").json()["code"] == "unknown_job"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/jobs?at_position=999999999", "not_yet"),
        ("/v1/usage?at=2999-01-01T00:00:00Z", "not_yet"),
        ("/v1/jobs?at=yesterday", "malformed"),
        ("/v1/jobs?at=2026-01-01T00:00:00", "malformed"),
        ("/v1/jobs?at_position=-1", "malformed"),
        ("/v1/jobs?at_position=1&at=2026-01-01T00:00:00Z", "malformed"),
        ("/v1/jobs/1/why?at_position=1", "present_only"),
        ("/v1/jobs/1/wait?at=2026-01-01T00:00:00Z", "present_only"),
        ("/v1/jobs/1/output?at_position=1", "present_only"),
        ("/v1/policy/history?at_position=999999999", "not_yet"),
    ],
)
def test_what_can_not_be_asked_says_so(world: Live, path: str, code: str) -> None:
    answer = world.operator("GET", path)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_what_one_may_see_of_the_past_one_may_see_now(world: Live) -> None:
    alice, bob = world.user("alice"), world.user("bob")
    job = alice.submit(pool="still", name="secret")
    then = f"at_position={world.head}"
    assert alice.ok("GET", f"/v1/jobs/{job}?{then}")["name"] == "secret"
    assert bob.ok("GET", f"/v1/jobs/{job}?{then}")["name"] is None
    assert bob("GET", f"/v1/jobs/{job}/events?{then}").status_code == 403
    assert bob.ok("GET", f"/v1/jobs?scope=all&name=secret&{then}")["jobs"] == []


def test_the_process_that_looks_back_may_die(world: Live) -> None:
    operator = world.operator
    wanted = operator.ok("GET", "/v1/jobs?scope=all&at_position=40")
    child = world.running.past._child  # type: ignore[attr-defined]
    os.kill(child._process.pid, signal.SIGKILL)
    assert operator.ok("GET", "/v1/jobs?scope=all&at_position=40") == wanted
    other = world.running.past._child  # type: ignore[attr-defined]
    assert other._process.pid != child._process.pid


def test_on_each_database(either: Live) -> None:
    either.node("n1")
    either.operator.ok("POST", "/v1/nodes/n1/drain", {})
    alice = either.user("alice")
    alice.submit()
    then = either.head
    until(lambda: alice("GET", "/v1/jobs?scope=all").is_success, "the tables are made")
    wanted = plain(alice.ok("GET", "/v1/jobs?scope=all"))
    alice.submit()
    told = alice.ok("GET", f"/v1/jobs?at_position={then}")
    assert (plain(told), told["position"]) == (wanted, then)
