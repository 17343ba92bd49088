"""The golden log: one story in which everything happens that can happen, kept for ever.

    python -m ledger.testing.golden FILE.ndjson     writes it, and what it comes to as FILE.json

It is written once for a release, into `tests/logs/<version>/`, and never again: every later release
must read it, verify its chain, and fold it to a state that says the same. It has the form of
`jobledger log export`, and its rows are the log's own, sealed by the chain.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from ledger.codec import CODEC
from ledger.commands import (
    SYSTEM,
    AnswerAbuse,
    CloseOutage,
    Configure,
    Contact,
    FindCause,
    IssueToken,
    NoteAbuse,
    OpenOutage,
    RecordFailed,
    RecordRefused,
    RecordSent,
    ReportEnded,
    Retire,
    RevokeToken,
    SetContact,
    SetPolicy,
    SkipProjection,
    StartMaster,
    StopMaster,
    Subject,
    Submit,
    Tell,
    TendOutages,
)
from ledger.domain.snapshot import STATE_VERSION, to_bytes
from ledger.domain.state import Cluster
from ledger.events import Blob, Dependency, JobSpec, NodeChecked, Output, Recorded
from ledger.store.chain import (
    COMMIT_STREAM,
    EMPTY,
    CommitHeader,
    Head,
    Row,
    decode_header,
    seal,
)
from ledger.testing.stories import OPERATOR, Story
from ledger.wire import EndKind

FORMAT = "jobledger-log"
_encode = msgspec.json.Encoder().encode


def blob(text: str) -> Blob:
    """A text as events speak of it."""
    return Blob(sha256=sha256(text.encode()).hexdigest(), bytes=len(text.encode()))


def told() -> Story:
    """The story."""
    story = Story(incarnation="golden")
    story.ask(OPERATOR, SetPolicy(job_lease_s=60, max_jobs_per_user=1000))
    for number in (1, 2, 3):
        story.node(f"n{number}", rack=f"r{number % 2}", features=("ssd",) if number == 1 else ())
    story.node("old", pool="attic")
    _jobs_come_and_go(story)
    _nodes_are_lost(story)
    _people_interfere(story)
    _rules_are_broken(story)
    _a_rack_is_lost(story)
    _the_service_lives(story)
    return story


def _jobs_come_and_go(story: Story) -> None:
    spec = JobSpec(
        name="prépare",
        account="physics",
        restartable=True,
        features=("ssd",),
        exclude=("n3",),
        script=blob("#!/bin/sh\necho prepared\n"),
        text=blob('{"argv":["--fast"]}'),
        env_names=("PATH", "LANG"),
    )
    story.ask("ann", Submit(specs=(spec,), key="k1", body_sha256="1" * 64))
    story.submit("bob", array="0-4:2,9", nodes=1, time_limit_s=600)
    mixed = (JobSpec(name="good"), "no such field", JobSpec(pool="nowhere"), JobSpec(held=True))
    story.ask("cleo", Submit(specs=mixed, each=True, key="k2", body_sha256="2" * 64))
    story.submit(
        "ann", depends=(Dependency(kind="afterok", job=1),), begin_at=story.now + 5_000_000
    )
    story.tick(1)
    story.plan()
    story.start(1)
    story.tick(2.5)
    report = ReportEnded(
        node="n1",
        job=1,
        attempt=1,
        end="completed",
        cause="exit",
        exit_code=0,
        ran_us=2_400_000,
        output=Output(bytes=10, kept=10, sha256="a" * 64),
    )
    story.ask(Subject("n1", "node"), report)
    story.plan()
    for job in sorted(story.cluster.running):
        story.start(job)
    story.end(2, "failed", 3)
    story.end(3, "timeout", None)


def _nodes_are_lost(story: Story) -> None:
    story.tick(10)
    lost = story.submit("dan", restartable=True)
    story.release(lost)
    for job in sorted(story.cluster.running):
        story.end(job)
    story.place(lost, "n2")
    story.start(lost)
    story.silence("n2")
    story.give_up(lost)
    late = ReportEnded(node="n2", job=lost, attempt=1, end="completed", cause="exit", ran_us=1)
    story.ask(Subject("n2", "node"), late)
    story.contact("n2", has=())
    story.place(lost, "n1")
    story.reboot("n1")
    wide = story.submit("dan", nodes=2)
    story.place(wide, "n1", "n3")
    story.start(wide)
    story.drain("n3")
    story.tick(5)
    story.end(wide, "out_of_memory", None)
    story.resume("n3")
    stuck = story.submit("ann")
    story.place(stuck, "n3")
    story.silence("n3")
    story.down("n3")
    story.give_up(stuck)


def _people_interfere(story: Story) -> None:
    first, second = story.submit("ann", restartable=True), story.submit("bob")
    story.hold(second)
    story.change(second, restartable=True, time_limit_s=7200)
    story.release(second)
    story.place(first, "n1")
    story.start(first)
    story.requeue(first)
    story.end(first, "stopped", None)
    story.place(first, "n1")
    story.cancel(first)
    story.end(first, "stopped", None)
    story.cancel(second)
    story.ask(OPERATOR, Configure(node="n1", rack="r7", switch="s1", power="p1"))
    story.ask(OPERATOR, Retire(node="old", reason="too slow"))
    token = IssueToken(
        token="t1",  # noqa: S106 - the public name of one
        sha256="b" * 64,
        owner="ann",
        role="user",
        expires_at=story.now + 3_600_000_000,
        note="laptop",
    )
    story.ask("ann", token)
    story.ask("ann", RevokeToken(token=token.token, reason="lost"))


def _rules_are_broken(story: Story) -> None:
    rules = SetPolicy(
        abuse_submissions_per_min=2,
        abuse_fail_percent=50,
        abuse_fail_jobs=2,
        abuse_idle_node_s=60,
    )
    story.ask(OPERATOR, rules)
    story.tick(60)
    tries: tuple[tuple[int, EndKind], ...] = ((2, "failed"), (3, "failed"), (70, "completed"))
    for length, end in tries:
        job = story.submit("eve", account="physics")
        story.place(job, "n1")
        story.start(job)
        story.tick(length)
        story.end(job, end, 1 if end == "failed" else 0, cpu_us=1_000)
    for _ in range(3):
        story.submit("eve", account="physics", held=True)
    for user, rule in sorted(story.cluster.watch.due):
        story.ask(SYSTEM, NoteAbuse(user=user, rule=rule))
    assert story.cluster.watch.findings == 3
    story.ask(OPERATOR, AnswerAbuse(finding=1, note=blob("a course on scripts; no harm meant")))


def _a_rack_is_lost(story: Story) -> None:
    for channel, owner, desk in (("mailtos", "dan", False), ("json", "helpdesk", True)):
        addresses = blob(f'["{channel}://example.org/{owner}"]')
        subject = OPERATOR if desk else Subject(owner, "user")
        command = SetContact(owner=owner, desk=desk, channels=(channel,), addresses=addresses)
        story.ask(subject, command)
    story.resume("n2")
    story.node("n4", rack="r7")
    story.tick(3600)
    story.ask(SYSTEM, TendOutages())
    jobs = {node: story.submit("dan", restartable=node == "n1") for node in ("n1", "n4")}
    for node, job in jobs.items():
        story.place(job, node)
        story.start(job)
    story.silence("n1", "n4")
    lost = max(story.cluster.outages)
    story.tick(60)
    story.ask(SYSTEM, Tell(outage=lost, why="hit", users=("dan",), as_of=story.cluster.position))
    story.ask(SYSTEM, Tell(outage=lost, why="pool", pool="default"))
    first, second = sorted(story.cluster.notices)[-2:]
    again_at = story.now + 60_000_000
    failed = RecordFailed(notice=first, error="connection refused", tries=1, next_at=again_at)
    story.ask(SYSTEM, failed)
    story.tick(60)
    story.ask(SYSTEM, RecordSent(notice=first, channels=("mailtos",), tries=2))
    story.ask(SYSTEM, RecordFailed(notice=second, error="no such host", tries=1, next_at=0))
    story.give_up(jobs["n1"])
    story.contact("n4")
    story.contact("n1", has=())
    story.tick(61)
    story.ask(SYSTEM, TendOutages())
    story.ask(OPERATOR, FindCause(outage=lost, cause="a fuse in rack 7 blew"))
    planned = OpenOutage(
        nodes=("n1", "n4"),
        since=story.now + 600_000_000,
        until=story.now + 4_200_000_000,
        reason="another fuse",
        planned=True,
    )
    number = story.ask(OPERATOR, planned).reply
    assert isinstance(number, int)
    story.ask(SYSTEM, Tell(outage=number, why="announced"))
    story.tick(700)
    story.ask(OPERATOR, CloseOutage(outage=number, reason="both feeds are fused with 32 A now"))


def _the_service_lives(story: Story) -> None:
    upgraded = Contact(
        node="n2",
        spool="n2-1",
        boot_id="boot-n2-1",
        build="1",
        protocol=1,
        image="debian-13",
        kernel="6.12",
        packages_sha256="c" * 64,
    )
    story.ask(Subject("n2", "node"), upgraded)
    story.record(NodeChecked(node="n2", passed=True, check="disk", detail="no errors"))
    story.ask(OPERATOR, SkipProjection(projection="jobs", position=7, reason="an example"))
    story.ask(
        SYSTEM,
        RecordRefused(
            minute=story.now // 60_000_000,
            user="bob",
            account="",
            pool="default",
            code="too_many_jobs",
            requests=2,
            jobs=20,
            node_seconds=72_000,
        ),
    )
    story.ask(SYSTEM, StopMaster(reason="the end of the story"))
    story.tick(3600)
    story.epoch += 1
    story.incarnation = "golden-restored"
    restored = StartMaster(
        incarnation="golden-restored", build="1", durability="full", recovered={"events": 100}
    )
    story.ask(SYSTEM, restored)


def rows(story: Story) -> tuple[list[Row], Head]:
    """The story as a log's rows, headers included, and its head."""
    head, found = EMPTY, []
    for draft in story.drafts:
        events = [
            Row(
                position := head.position + 1 + n,
                fact.event.stream,
                position,
                fact.event.name,
                CODEC.encode(fact.event, fact.envelope),
            )
            for n, fact in enumerate(draft.facts, 1)
        ]
        header, head = seal(head, draft.at, draft.epoch, events)
        found += [header, *events]
    return found, head


def lines(story: Story) -> Iterator[bytes]:
    """The story in the form of an export without texts."""
    found, head = rows(story)
    yield _encode({"format": FORMAT, "version": 1, "incarnation": story.incarnation, "head": head})
    for position, stream, version, name, data in found:
        yield _encode((position, stream, version, name, data.decode()))
    yield _encode({"rows": len(found), "blobs": 0})


def read(export: Iterable[bytes], incarnation: str = "golden") -> Iterator[Recorded]:
    """The events of an export, as every reader of a log sees them."""
    header: CommitHeader | None = None
    for line in export:
        if not line.startswith(b"["):
            continue
        position, stream, version, name, data = msgspec.json.decode(line)
        if stream == COMMIT_STREAM:
            header = decode_header(data.encode())
            continue
        assert header is not None, f"row {position} belongs to no commit"
        event, envelope = CODEC.decode(name, data.encode())
        place = (position, stream, version, header.n, header.at, header.epoch)
        yield Recorded(*place, incarnation, event, envelope)


def digest(c: Cluster) -> str:
    """What a state comes to, byte for byte. Differs as soon as the state has another shape."""
    return sha256(to_bytes(c)).hexdigest()


def said(c: Cluster) -> dict[str, Any]:
    """What a state says, whatever its shape: this stays as it is for ever."""
    ended = {str(job): outcome for job in range(1, c.next_job) if (outcome := c.outcome(job))}
    return {
        "position": c.position,
        "epoch": c.epoch,
        "incarnation": c.incarnation,
        "ended": ended,
        "live": {str(job.id): [job.user, job.state, job.attempts] for job in c.jobs.values()},
        "nodes": {n.name: [n.pool, n.state, n.rack, n.kernel] for n in c.nodes.values()},
        "keys": {f"{user} {key}": known.first_job for (user, key), known in c.keys.items()},
        "tokens": sorted(token.owner for token in c.tokens.values()),
        "policy": c.policy.number,
        **_said_of_outages(c),
    }


def _said_of_outages(c: Cluster) -> dict[str, Any]:
    """Nothing of a log that knows none."""
    there = [*c.past_outages.values(), *c.outages.values()]
    found = {
        "outages": {str(o.n): [o.kind, sorted(o.nodes), o.since, o.until] for o in there},
        "notices": {str(n): [notice.to, notice.why] for n, notice in c.notices.items()},
        "recipients": [[r.owner, r.desk, *r.channels] for r in c.recipients.values()],
    }
    return found if any(found.values()) else {}


def main(arguments: list[str]) -> None:
    """Write the golden log and what it comes to; an old one is never written over."""
    target = Path(arguments[0])
    if target.exists():
        sys.exit(f"{target} exists: a golden log is written once")
    target.parent.mkdir(parents=True, exist_ok=True)
    story = told()
    target.write_bytes(b"".join(line + b"\n" for line in lines(story)))
    outcome = {"said": said(story.cluster), "digests": {str(STATE_VERSION): digest(story.cluster)}}
    target.with_suffix(".json").write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
