"""Who may do what, against a table that was written down apart from the code."""

from typing import Literal

import pytest

from ledger.commands import (
    Cancel,
    Change,
    Command,
    Configure,
    Contact,
    Down,
    Drain,
    Hold,
    IssueToken,
    Release,
    ReportEnded,
    ReportStarted,
    Requeue,
    Resume,
    Retire,
    RevokeToken,
    SetPolicy,
    SkipProjection,
    Subject,
    Submit,
)
from ledger.domain.errors import Forbidden, JobIsOver, UnknownJob, UnknownNode, UnknownToken
from ledger.domain.permissions import TABLE, may
from ledger.events import JobSpec
from ledger.testing.stories import OPERATOR, Story

# action: (user own, user other, operator own, operator other, node own, node other, join own,
# join other), as the API's contract has it
EXPECTED = """
    submit           yes yes yes yes no  no  no  no
    job.see          yes yes yes yes no  no  no  no
    job.details      yes no  yes yes no  no  no  no
    job.cancel       yes no  yes yes no  no  no  no
    job.hold         yes no  yes yes no  no  no  no
    job.release      yes no  yes yes no  no  no  no
    job.requeue      yes no  yes yes no  no  no  no
    job.change       yes no  yes yes no  no  no  no
    node.see         yes yes yes yes no  no  no  no
    node.manage      no  no  yes yes no  no  no  no
    node.enrol       no  no  yes yes no  no  yes no
    node.speak       no  no  no  no  yes no  no  no
    token.issue      yes no  yes yes no  no  no  no
    token.see        yes no  yes yes no  no  no  no
    token.revoke     yes no  yes yes no  no  no  no
    policy.set       no  no  yes yes no  no  no  no
    policy.see       yes yes yes yes no  no  no  no
    impact.see       yes no  yes yes no  no  no  no
    outage.see       yes yes yes yes no  no  no  no
    outage.manage    no  no  yes yes no  no  no  no
    contact.set      yes no  yes yes no  no  no  no
    contact.see      yes no  yes yes no  no  no  no
    notice.see       yes no  yes yes no  no  no  no
    usage.see        yes yes yes yes no  no  no  no
    abuse.see        yes no  yes yes no  no  no  no
    abuse.answer     no  no  yes yes no  no  no  no
    demand.see       yes yes yes yes no  no  no  no
    projection.ask   yes no  yes yes no  no  no  no
    log.read         no  no  yes yes no  no  no  no
    log.head         yes yes yes yes yes yes no  no
    service.see      yes yes yes yes yes yes yes yes
    service.metrics  no  no  yes yes no  no  no  no
    inner.see        no  no  yes yes no  no  no  no
    projection.see   yes yes yes yes no  no  no  no
    projection.skip  no  no  yes yes no  no  no  no
"""
ROWS = {line.split()[0]: line.split()[1:] for line in EXPECTED.strip().splitlines()}
Role = Literal["user", "operator", "node", "join"]
ROLES: tuple[Role, ...] = ("user", "operator", "node", "join")


def test_the_tables_speak_of_the_same_actions() -> None:
    assert list(ROWS) == list(TABLE)


@pytest.mark.parametrize("action", ROWS)
def test_every_role_may_what_the_table_says(action: str) -> None:
    asked = [
        "yes" if may(Subject("ann", role), action, owner) else "no"
        for role in ROLES
        for owner in ("ann", "bob")
    ]
    assert asked == ROWS[action]


@pytest.mark.parametrize("action", TABLE)
def test_what_belongs_to_nobody_belongs_to_no_nameless_one(action: str) -> None:
    for role in ROLES:
        assert may(Subject("", role), action, "") == (getattr(TABLE[action], role) == "any")


def story_with_job() -> tuple[Story, int]:
    """Job 1 of ann, placed on n1, and an idle node ann."""
    story = Story()
    story.node("n1")
    story.node("ann")
    job = story.submit("ann", restartable=True)
    story.place(job, "n1")
    return story, job


JOB_COMMANDS: list[Command] = [
    Cancel(job=1),
    Hold(job=1),
    Release(job=1),
    Requeue(job=1),
    Change(job=1, restartable=False),
]
STRANGERS = [
    Subject("bob", "user"),
    Subject("n1", "node"),
    Subject("ann", "node"),
    Subject("ann", "join"),
    Subject("system", "user"),
]


@pytest.mark.parametrize("command", JOB_COMMANDS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("who", STRANGERS, ids=lambda s: f"{s.role} {s.name}")
def test_a_job_obeys_its_owner_and_operators_only(who: Subject, command: Command) -> None:
    story, _ = story_with_job()
    before = len(story.events)
    with pytest.raises(Forbidden):
        story.ask(who, command)
    assert len(story.events) == before


@pytest.mark.parametrize("command", JOB_COMMANDS, ids=lambda c: type(c).__name__)
def test_an_agent_learns_nothing_of_a_job_that_has_ended(command: Command) -> None:
    story, job = story_with_job()
    story.start(job)
    story.end(job)
    with pytest.raises(Forbidden):
        story.ask(Subject("n1", "node"), command)
    with pytest.raises(JobIsOver):
        story.ask("ann", command)


def test_cancelling_again_is_no_news_to_people_and_forbidden_to_agents() -> None:
    story = Story()
    story.node("n1")
    job = story.submit("ann")
    story.cancel(job)
    assert story.ask("ann", Cancel(job=job)).events == []
    with pytest.raises(Forbidden):
        story.ask(Subject("n1", "node"), Cancel(job=job))


NODE_COMMANDS: list[Command] = [
    Drain(node="n1"),
    Resume(node="n1"),
    Down(node="n1"),
    Retire(node="n1"),
    Configure(node="n1", rack="r2"),
]


@pytest.mark.parametrize("command", NODE_COMMANDS, ids=lambda c: type(c).__name__)
def test_nodes_obey_operators_only(command: Command) -> None:
    story, _ = story_with_job()
    for who in (Subject("ann", "user"), Subject("n1", "node"), Subject("n1", "join")):
        with pytest.raises(Forbidden):
            story.ask(who, command)


@pytest.mark.parametrize("kind", [Drain, Resume, Down, Retire, Configure])
def test_that_there_is_no_such_node_comes_before_that_one_may_not(kind: type[Command]) -> None:
    story, _ = story_with_job()
    with pytest.raises(UnknownNode):
        story.ask("ann", kind(node="n9"))


def test_that_there_is_no_such_job_comes_before_that_one_may_not() -> None:
    story, _ = story_with_job()
    with pytest.raises(UnknownJob):
        story.ask(Subject("n1", "node"), Cancel(job=99))


@pytest.mark.parametrize(
    "command",
    [
        Contact(node="n1", spool="s", boot_id="b", build="0", protocol=1),
        ReportStarted(node="n1", job=1, attempt=1),
        ReportEnded(node="n1", job=1, attempt=1, end="completed", cause="exit"),
    ],
    ids=lambda c: type(c).__name__,
)
def test_a_node_speaks_for_itself_only(command: Command) -> None:
    story, _ = story_with_job()
    others = [Subject("ann", "node"), Subject("n1", "user"), Subject("n1", "join"), OPERATOR]
    for who in others:
        with pytest.raises(Forbidden):
            story.ask(who, command)


def issue(owner: str, role: Role) -> IssueToken:
    """A request for a token."""
    return IssueToken(
        token=f"t-{owner}-{role}",
        sha256=f"d-{owner}-{role}",
        owner=owner,
        role=role,
        expires_at=0,
    )


def test_nobody_gets_more_by_a_token_than_he_has() -> None:
    story, _ = story_with_job()
    story.ask("ann", issue("ann", "user"))
    for role in ROLES[1:]:
        with pytest.raises(Forbidden):
            story.ask("ann", issue("ann", role))
    with pytest.raises(Forbidden):
        story.ask("ann", issue("bob", "user"))
    for who in (Subject("ann", "node"), Subject("ann", "join")):
        with pytest.raises(Forbidden):
            story.ask(who, issue("ann", "user"))


def test_a_user_has_no_power_over_the_token_of_a_node_that_bears_his_name() -> None:
    story, _ = story_with_job()
    of_node = next(t for t in story.cluster.tokens.values() if t.owner == "ann")
    assert of_node.role == "node"
    with pytest.raises(Forbidden):
        story.ask("ann", RevokeToken(token=of_node.id))
    story.ask("ann", issue("ann", "user"))
    own = RevokeToken(token=issue("ann", "user").token)
    story.ask("ann", own)
    with pytest.raises(UnknownToken):
        story.ask("ann", own)


def test_policy_and_projections_are_the_operators() -> None:
    story, _ = story_with_job()
    commands: list[Command] = [
        SetPolicy(job_lease_s=20),
        SkipProjection(projection="jobs", position=3, reason="broken"),
    ]
    for command in commands:
        with pytest.raises(Forbidden):
            story.ask("ann", command)
        assert story.ask(OPERATOR, command).events


def test_agents_submit_nothing() -> None:
    story, _ = story_with_job()
    for who in (Subject("n1", "node"), Subject("n1", "join")):
        with pytest.raises(Forbidden):
            story.ask(who, Submit(specs=(JobSpec(),)))
