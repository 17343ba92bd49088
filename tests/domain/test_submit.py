"""What becomes a job, under which ids, and what somebody is told who asks again."""

from typing import Any

import pytest

from ledger.commands import SetPolicy, Submit
from ledger.domain import submit
from ledger.domain.errors import Impossible, KeyReused, Malformed, TooManyJobs, UnknownJob
from ledger.domain.state import KEY_LIFETIME_US
from ledger.domain.submit import Submitted
from ledger.events import Dependency, JobSpec, JobsSubmitted
from ledger.testing.stories import OPERATOR, Story


@pytest.fixture
def story() -> Story:
    """One node."""
    made = Story()
    made.node("n1", features=("ssd",))
    return made


def ask(story: Story, *specs: JobSpec | str, user: str = "ann", **more: Any) -> Submitted:
    """Submit; what the user is told."""
    told = story.ask(user, Submit(specs=specs, **more)).reply
    assert isinstance(told, Submitted)
    return told


def limit(story: Story, jobs: int) -> None:
    """So many live jobs may a user have."""
    story.ask(OPERATOR, SetPolicy(max_jobs_per_user=jobs))


def submitted(story: Story) -> list[JobsSubmitted]:
    """The submissions on record."""
    return [r.event for r in story.events if isinstance(r.event, JobsSubmitted)]


# ── refusals, in order of precedence ─────────────────────────────────────────────────────────────

AFTER_NOTHING = (Dependency(kind="afterok", job=77),)


def test_refusals_come_in_order_of_precedence(story: Story) -> None:
    limit(story, 0)
    faults: dict[str, Any] = {"time_limit_s": 0}
    with pytest.raises(TooManyJobs):
        ask(story, JobSpec())
    with pytest.raises(Impossible):
        ask(story, JobSpec(**faults))
    faults["depends"] = AFTER_NOTHING
    with pytest.raises(UnknownJob):
        ask(story, JobSpec(**faults))
    faults["nodes"] = 0
    with pytest.raises(Malformed):
        ask(story, JobSpec(**faults))


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(nodes=2),
        JobSpec(pool="nowhere"),
        JobSpec(features=("gpu",)),
        JobSpec(exclude=("n1",)),
        JobSpec(time_limit_s=0),
        JobSpec(time_limit_s=10**9),
    ],
)
def test_what_could_never_run_here_is_refused(story: Story, spec: JobSpec) -> None:
    with pytest.raises(Impossible) as refused:
        ask(story, spec)
    assert refused.value.code == "bad_constraints"
    assert submitted(story) == []


def test_a_node_out_of_service_is_still_one_of_its_pool(story: Story) -> None:
    story.drain("n1")
    assert ask(story, JobSpec(features=("ssd",))).count == 1


def test_a_number_is_never_given_twice(story: Story) -> None:
    """Not even when no job is left, or when a submission that was refused asked for it."""
    first = ask(story, JobSpec()).first_job
    story.cancel(first)
    with pytest.raises(Impossible):
        ask(story, JobSpec(nodes=99))
    assert story.cluster.jobs == {}
    assert ask(story, JobSpec()).first_job == first + 1


@pytest.mark.parametrize("array", ["", "0-9"])
def test_a_request_has_something_to_ask_and_an_array_one_description(
    story: Story, array: str
) -> None:
    with pytest.raises(Malformed):
        ask(story, array=array)
    with pytest.raises(Malformed):
        ask(story, JobSpec(), JobSpec(), array="0-9")


def test_one_bad_item_refuses_the_whole_request(story: Story) -> None:
    with pytest.raises(Impossible):
        ask(story, JobSpec(), JobSpec(nodes=2))
    with pytest.raises(Malformed, match="no such field"):
        ask(story, JobSpec(), "no such field")
    assert submitted(story) == []


# ── the limit ────────────────────────────────────────────────────────────────────────────────────


def test_the_limit_may_be_reached_exactly_and_not_passed(story: Story) -> None:
    limit(story, 3)
    story.submit("ann", count=3)
    with pytest.raises(TooManyJobs) as refused:
        story.submit("ann")
    assert refused.value.details == {"limit": 3, "present": 3}
    story.submit("bob", count=3)
    story.cancel(1)
    assert story.submit("ann") == 7


def test_every_task_of_an_array_counts(story: Story) -> None:
    limit(story, 3)
    with pytest.raises(TooManyJobs):
        story.submit("ann", array="0-3")
    assert story.submit("ann", array="0-2") == 1
    assert [story.cluster.jobs[job].index for job in (1, 2, 3)] == [0, 1, 2]


def test_item_by_item_as_many_are_accepted_as_the_limit_leaves_room_for(story: Story) -> None:
    limit(story, 2)
    told = ask(story, *[JobSpec()] * 4, each=True)
    assert (told.first_job, told.count, told.items) == (1, 2, (0, 1))
    assert [(n.item, n.code) for n in told.not_accepted] == [
        (2, "too_many_jobs"),
        (3, "too_many_jobs"),
    ]


# ── item by item ─────────────────────────────────────────────────────────────────────────────────


def test_item_by_item_the_good_ones_get_dense_ids(story: Story) -> None:
    told = ask(story, JobSpec(nodes=9), JobSpec(name="a"), "no", JobSpec(name="b"), each=True)
    assert (told.first_job, told.count, told.items) == (1, 2, (1, 3))
    assert [(n.item, n.code) for n in told.not_accepted] == [
        (0, "bad_constraints"),
        (2, "malformed"),
    ]
    assert [story.cluster.jobs[job].spec.name for job in (1, 2)] == ["a", "b"]


def test_where_nothing_is_accepted_the_first_refusal_is_the_answer_and_no_key_is_kept(
    story: Story,
) -> None:
    for _ in range(2):
        with pytest.raises(Impossible):
            ask(story, JobSpec(nodes=9), "no", each=True, key="k", body_sha256="1")
    assert story.cluster.keys == {}


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────


def test_asked_again_under_its_key_a_request_gets_its_first_answer(story: Story) -> None:
    first = ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1")
    again = ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1")
    assert (first.repeated, again.repeated) == (False, True)
    assert (again.first_job, again.count, again.items) == (1, 2, None)
    assert len(submitted(story)) == 1


def test_a_key_used_for_something_else_is_refused(story: Story) -> None:
    ask(story, JobSpec(), key="k", body_sha256="1")
    with pytest.raises(KeyReused):
        ask(story, JobSpec(name="other"), key="k", body_sha256="2")
    assert ask(story, JobSpec(), key="k", body_sha256="2", user="bob").first_job == 2
    assert len(submitted(story)) == 2


def test_item_by_item_nothing_is_decided_anew_under_the_same_key(story: Story) -> None:
    limit(story, 1)
    specs = (JobSpec(), JobSpec(), "no")
    ask(story, *specs, each=True, key="k", body_sha256="1")
    limit(story, 10)
    again = ask(story, *specs, each=True, key="k", body_sha256="1")
    assert (again.count, again.items, again.repeated) == (1, (0,), True)
    assert [(n.item, n.code) for n in again.not_accepted] == [
        (1, "not_accepted"),
        (2, "not_accepted"),
    ]
    assert len(submitted(story)) == 1


def test_a_key_is_kept_while_a_job_lives_and_seven_days_more(story: Story) -> None:
    ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1")
    story.cancel(1)
    story.now += 2 * KEY_LIFETIME_US
    story.submit("bob")
    assert ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1").repeated
    story.cancel(2)
    story.now += KEY_LIFETIME_US - 1
    story.submit("bob")
    assert ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1").repeated
    story.now += 1
    story.submit("bob")
    assert not ask(story, JobSpec(), JobSpec(), key="k", body_sha256="1").repeated


def test_a_request_of_several_events_is_one_request(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "MAX_EVENT_BYTES", 120)
    specs = [JobSpec(name=f"a-rather-long-name-{n}") for n in range(12)]
    items: list[JobSpec | str] = [*specs[:5], "no", *specs[5:]]
    told = ask(story, *items, each=True, key="k", body_sha256="1")
    parts = submitted(story)
    assert len(parts) > 2
    assert [(e.part, e.parts) for e in parts] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert [story.cluster.jobs[job].spec for job in range(1, 13)] == specs
    again = ask(story, *items, each=True, key="k", body_sha256="1")
    assert (again.first_job, again.count, again.items) == (told.first_job, 12, told.items)
    for job in range(1, 12):
        story.cancel(job)
    assert story.cluster.idle_keys == {}, "one of its jobs lives"
    story.cancel(12)
    assert list(story.cluster.idle_keys) == [("ann", "k")]
