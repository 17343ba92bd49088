"""Findings of abuse: who sees which, on what they rest, and what was said to them."""

from typing import Any

import pytest

from live import Http, Live, until

from .acting import agent_of, cluster, ended, placed

RULES = {"abuse_submissions_per_min": 2, "abuse_fail_percent": 50, "abuse_fail_jobs": 2}


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """alice fails twice at once, then submits too much; bob submits too much."""
    cluster(service)
    service.operator.ok("PATCH", "/v1/policy", {"abuse_submissions_per_min": 0})
    service.operator.ok("PATCH", "/v1/policy", {**RULES, "abuse_submissions_per_min": 0})
    alice, bob = service.user("alice"), service.user("bob")
    for seq in (1, 2):
        job = alice.submit(pool="busy", account="physics")
        placed(service, job)
        service.clock.advance(2)
        report = ended(seq, job, end="failed", exit_code=3, ran_us=1_000_000, cpu_us=200_000)
        assert agent_of(service).sync("b1", reports=[report]).is_success
    noticed(service, 1)
    service.clock.advance(60)
    service.operator.ok("PATCH", "/v1/policy", RULES)
    for number, user in ((2, alice), (3, bob)):
        for _ in range(5):  # a minute may be over meanwhile
            user.ok("POST", "/v1/jobs", {"argv": ["/bin/true"], "pool": "still", "array": "0-9"})
        noticed(service, number)
    return service


def noticed(world: Live, number: int) -> None:
    until(lambda: world.state(lambda c: c.watch.findings) >= number, f"finding {number}")


def listed(http: Http, query: str = "") -> list[Any]:
    found: list[Any] = http.ok("GET", f"/v1/abuse{query}")["findings"]
    return found


def test_operators_see_all_and_users_themselves(world: Live) -> None:
    about = [(f["finding"], f["user"], f["rule"]) for f in listed(world.operator)]
    assert about == [
        (3, "bob", "submissions"),
        (2, "alice", "submissions"),
        (1, "alice", "failing"),
    ]
    assert [f["finding"] for f in listed(world.user("alice"))] == [2, 1]
    assert listed(world.user("carol")) == []
    assert world.user("alice")("GET", "/v1/abuse?user=bob").status_code == 403
    assert [f["finding"] for f in listed(world.user("bob"), "?user=bob")] == [3]


def test_a_list_is_narrowed_and_goes_on(world: Live) -> None:
    operator = world.operator
    assert [f["finding"] for f in listed(operator, "?rule=failing")] == [1]
    assert [f["finding"] for f in listed(operator, "?user=alice")] == [2, 1]
    page = operator.ok("GET", "/v1/abuse?limit=2")
    assert (len(page["findings"]), page["next"]) == (2, "2")
    page = operator.ok("GET", f"/v1/abuse?limit=2&cursor={page['next']}")
    assert ([f["finding"] for f in page["findings"]], page["next"]) == ([1], None)


def test_a_finding_shows_the_events_it_rests_on(world: Live) -> None:
    alice = world.user("alice")
    failing = alice.ok("GET", "/v1/abuse/1")
    assert failing["sentence"] == (
        "Of 2 attempts of alice that ended within an hour, 2 (100 %) failed in less than 10 s; "
        "the rules of use allow less than 50 %."
    )
    assert (failing["account"], failing["jobs"]) == ("physics", [1, 2])
    assert [proof["what"] for proof in failing["evidence"]] == [
        "attempt 1 on b1 ran 1.00 s, used 0.20 s of processor time: failed (exit code 3)"
    ] * 2
    assert failing["advice"][0].startswith("All of these ran on b1: ")
    many = alice.ok("GET", "/v1/abuse/2")
    assert many["sentence"] == (
        "alice made 3 submissions within a minute; the rules of use allow 2."
    )
    whats = [proof["what"] for proof in many["evidence"]]
    first = many["jobs"][0]
    assert len(whats) == 3
    assert whats[0] == f"submitted an array of 10 jobs, {first} to {first + 9}"
    events = {r.position: r for r in world.events()}
    assert [events[p["position"]].event.name for p in many["evidence"]] == ["job.submitted.v1"] * 3
    assert "--array" in many["advice"][0]


def test_an_answer_is_read_by_whom_it_is_about(world: Live) -> None:
    operator, bob = world.operator, world.user("bob")
    assert bob.ok("GET", "/v1/abuse/3")["answered_at"] is None
    operator.ok("POST", "/v1/abuse/3/answer", {"note": "please use arrays\nthank you"})
    shown = bob.ok("GET", "/v1/abuse/3")
    assert shown["note"] == "please use arrays\nthank you"
    assert (shown["answers"], shown["answered_by"]) == (1, "root")
    assert shown["answered_at"] is not None
    operator.ok("POST", "/v1/abuse/3/answer", {})
    assert operator.ok("GET", "/v1/abuse/3")["note"] == ""
    assert [f["finding"] for f in listed(operator, "?unanswered=true")] == [2, 1]
    assert bob("POST", "/v1/abuse/3/answer", {"note": "no"}).status_code == 403
    assert operator("POST", "/v1/abuse/4/answer", {}).json()["code"] == "unknown_finding"
    assert operator("GET", "/v1/abuse/4").json()["code"] == "unknown_finding"


def test_the_policy_says_what_each_field_means(world: Live) -> None:
    policy = world.user("alice").ok("GET", "/v1/policy")
    meanings = policy.pop("meanings")
    assert set(meanings) == set(policy) - {"policy"}
    assert "0: none are" in meanings["abuse_submissions_per_min"]
