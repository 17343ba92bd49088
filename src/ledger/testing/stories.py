"""Stories: a cluster in memory under a clock that stands still unless told, driven by commands.

    story = Story()
    story.node("n1")
    job = story.submit("ann", restartable=True)
    story.plan()
    story.start(job)
    story.silence("n1")
    story.append_to(log)

Everything goes through `domain.cluster.decide` and `evolve`, so that what a story tells is a log
that a master could have written. Every command that comes to events makes one commit.
"""

from collections.abc import Iterable
from random import Random
from typing import Any, cast

from ledger.commands import (
    SYSTEM,
    Cancel,
    Change,
    Command,
    Contact,
    Down,
    Drain,
    Enrol,
    GiveUp,
    Hold,
    Place,
    Release,
    ReportEnded,
    ReportStarted,
    Requeue,
    Resume,
    Silence,
    StartMaster,
    Subject,
    Submit,
)
from ledger.domain import schedule
from ledger.domain.attempt import give_up_at
from ledger.domain.cluster import decide, evolve
from ledger.domain.errors import Refusal
from ledger.domain.state import Ask, Cluster, Job, Outcome
from ledger.domain.submit import Submitted
from ledger.events import AttemptPlaced, Decision, Envelope, Event, Fact, JobSpec, Recorded, Via
from ledger.store.log import Draft, Log
from ledger.testing import troubles
from ledger.wire import EndKind

START = 1_700_000_000_000_000
"""When a story begins: µs since 1970."""

OPERATOR = Subject("root", "operator")
COMMITS_AT_ONCE = 1000
CAUSES: dict[EndKind, str] = {
    "completed": "exit",
    "failed": "exit",
    "timeout": "time_limit",
    "out_of_memory": "out_of_memory",
    "node_fail": "lease_expired",
    "stopped": "stopped",
}
"""What an agent says of each end."""


class Story:
    """A cluster and its log in memory; `now` is the log's clock in µs."""

    def __init__(self, *, now: int = START, incarnation: str = "story") -> None:
        self.cluster = Cluster()
        self.now = now
        self.epoch = 0
        self.incarnation = incarnation
        self.events: list[Recorded] = []
        self.drafts: list[Draft] = []
        self._position = 0
        self._requests = 0
        self._spools: dict[str, int] = {}
        self.restart()

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += round(seconds * 1_000_000)

    def ask(self, subject: Subject | str, command: Command) -> Outcome:
        """Decide a command and record what it comes to. A text is a user's name.

        Raises the `Refusal` that it earns; then nothing has changed.
        """
        who = Subject(subject, "user") if isinstance(subject, str) else subject
        self._requests += 1
        request = f"r{self._requests}"
        outcome = decide(self.cluster, Ask(who, self.now, request), command)
        if outcome.events:
            self.record(*outcome.events, by=who.name, request=request)
        return outcome

    def record(self, *events: Event, by: str = "system", request: str = "") -> list[Recorded]:
        """Put events into the log as one commit, without asking whether they may be."""
        envelope = Envelope(by=by, via=Via(machine=f"desk-{by}"), request=request)
        self.drafts.append(Draft(self.now, self.epoch, [Fact(e, envelope) for e in events]))
        self._position += 1  # the commit's header
        recorded = []
        for event in events:
            self._position += 1
            r = Recorded(
                self._position,
                event.stream,
                self._position,
                len(self.drafts),
                self.now,
                self.epoch,
                self.incarnation,
                event,
                envelope,
            )
            evolve(self.cluster, r)
            recorded.append(r)
        self.events += recorded
        return recorded

    def append_to(self, log: Log) -> None:
        """Append what the log does not have yet: it must hold nothing else than this story."""
        known = log.head().commit
        for start in range(known, len(self.drafts), COMMITS_AT_ONCE):
            log.append(self.drafts[start : start + COMMITS_AT_ONCE])

    def restart(self) -> None:
        """Another master takes over: the epoch goes up by one."""
        self.epoch += 1
        self.ask(
            SYSTEM,
            StartMaster(incarnation=self.incarnation, build="0", durability="full", recovered={}),
        )

    def submit(
        self, user: str, *, array: str = "", count: int = 1, key: str = "", **spec: Any
    ) -> int:
        """Queue `count` jobs alike, or one for each index of `array`; the first one's id.

        `spec` are fields of `JobSpec`; `depends` and the like as that takes them.
        """
        specs = (JobSpec(**spec),) * count
        command = Submit(specs=specs, array=array, key=key, body_sha256="0" * 64 if key else "")
        return cast(Submitted, self.ask(user, command).reply).first_job

    def cancel(self, job: int) -> None:
        """The owner cancels a job."""
        self.ask(self._owner(job), Cancel(job=job))

    def hold(self, job: int) -> None:
        """The owner holds a pending job."""
        self.ask(self._owner(job), Hold(job=job))

    def release(self, job: int) -> None:
        """The operator releases a job."""
        self.ask(OPERATOR, Release(job=job))

    def requeue(self, job: int) -> None:
        """The owner asks that a running job stop and wait again."""
        self.ask(self._owner(job), Requeue(job=job))

    def change(self, job: int, **fields: Any) -> None:
        """The owner changes a live job: `restartable`, `time_limit_s`."""
        self.ask(self._owner(job), Change(job=job, **fields))

    def drain(self, node: str) -> None:
        """The operator drains a node."""
        self.ask(OPERATOR, Drain(node=node))

    def resume(self, node: str) -> None:
        """The operator lets a node take jobs again."""
        self.ask(OPERATOR, Resume(node=node))

    def down(self, node: str) -> None:
        """The operator declares a node dead."""
        self.ask(OPERATOR, Down(node=node))

    def node(
        self, name: str, pool: str = "default", rack: str = "", features: Iterable[str] = ()
    ) -> None:
        """A node joins and reports itself empty."""
        enrol = Enrol(
            node=name,
            pool=pool,
            rack=rack,
            serial=f"serial-{name}",
            features=tuple(features),
            token=f"t-{name}-{len(self.events)}",
            sha256=f"digest-{name}-{len(self.events)}",
        )
        self.ask(OPERATOR, enrol)
        self.contact(name, has=())

    def contact(self, node: str, has: Iterable[tuple[int, int]] | None = None) -> None:
        """An agent speaks; `has` are its attempts (job, number): without it, all it should have."""
        spool = self._spools.setdefault(node, 1)
        present = self.cluster.nodes[node].attempts if has is None else has
        command = Contact(
            node=node,
            spool=f"{node}-{spool}",
            boot_id=f"boot-{node}-{spool}",
            build="0",
            protocol=1,
            kernel="6.1",
            has=frozenset(present),
        )
        self.ask(Subject(node, "node"), command)

    def reboot(self, node: str) -> None:
        """An agent comes back as a new one that has nothing."""
        self._spools[node] = self._spools.get(node, 0) + 1
        self.contact(node, has=())

    def silence(self, *nodes: str) -> None:
        """Nodes are silent from now on, and their lease passes: the clock goes on by that."""
        since = self.now
        self.tick(self.cluster.policy.job_lease_s)
        for node in nodes:
            self.ask(SYSTEM, Silence(node=node, since=since))

    def give_up(self, job: int) -> None:
        """The clock goes on until the attempt of a job on a silent node may be given up.

        Nothing happens to a job whose leader is in contact.
        """
        running = self.cluster.jobs[job]
        due = give_up_at(self.cluster, running)
        if due is not None and running.attempt is not None:
            self.now = max(self.now, due)
            self.ask(SYSTEM, GiveUp(job=job, attempt=running.attempt.n))

    def start(self, job: int) -> None:
        """The leading node says that the job's command runs."""
        n, leader, _ = self._running(job)
        self.ask(Subject(leader, "node"), ReportStarted(node=leader, job=job, attempt=n))

    def end(
        self,
        job: int,
        end: EndKind = "completed",
        exit_code: int | None = 0,
        cpu_us: int | None = None,
    ) -> None:
        """The leading node says that the job's attempt is over, and what it measured, if it did."""
        n, leader, started_at = self._running(job)
        report = ReportEnded(
            node=leader,
            job=job,
            attempt=n,
            end=end,
            cause=CAUSES[end],
            exit_code=exit_code,
            ran_us=self.now - started_at if started_at else 0,
            cpu_us=cpu_us,
        )
        self.ask(Subject(leader, "node"), report)

    def plan(self) -> list[AttemptPlaced]:
        """Place everything that can be placed now."""
        plan = schedule.plan(schedule.view(self.cluster, self.now))
        return [placed for place in plan.places for placed in self._placed(place)]

    def place(self, job: int, *nodes: str) -> AttemptPlaced:
        """Place a job on these nodes, whatever its turn. Raises `StaleProposal`."""
        plan = schedule.plan(schedule.view(self.cluster, self.now))
        decision = next((p.decision for p in plan.places if p.job == job), None)
        decision = decision or Decision(
            view=self._position, now=self.now, rules=1, policy=0, rank=1, of=1, how="in_order"
        )
        return self._placed(Place(job=job, nodes=nodes, decision=decision))[0]

    def _placed(self, place: Place) -> list[AttemptPlaced]:
        outcome = self.ask(SYSTEM, place)
        return [event for event in outcome.events if isinstance(event, AttemptPlaced)]

    def _owner(self, job: int) -> str:
        found = self.cluster.jobs.get(job)
        return found.user if found else "nobody"

    def _running(self, job: int) -> tuple[int, str, int]:
        attempt = self.cluster.jobs[job].attempt
        assert attempt is not None, f"job {job} is not running"
        return attempt.n, attempt.nodes[0], attempt.started_at


USERS = ("ann", "bob", "cleo", "dan")
ENDS: tuple[EndKind, ...] = ("completed", "failed", "timeout", "out_of_memory", "node_fail")


class Wanderer:
    """Lets a story take its course: each step is an act that a cluster might see next.

    What the cluster refuses is left out; the same `rng` gives the same story.
    """

    def __init__(self, story: Story, rng: Random, nodes: int = 4) -> None:
        self.story, self.rng = story, rng
        for number in range(1, nodes + 1):
            story.node(f"n{number}", rack=f"r{number % 2}")

    def walk(self, steps: int) -> Story:
        """Take so many steps."""
        acts = (
            [self._submit] * 4
            + [self.story.plan] * 4
            + [self._start] * 4
            + [self._end] * 5
            + [self._ask_about_a_job] * 3
            + [self._silence, self._node_speaks, self._node_speaks, self._reboot, self._give_up]
            + [self._operate, self.story.restart]
            + troubles.acts(self.story, self.rng)
        )
        for _ in range(steps):
            self.story.tick(self.rng.choice((0, 0.25, 1, 30, 400)))
            try:
                self.rng.choice(acts)()
            except Refusal:
                continue
        return self.story

    def _submit(self) -> None:
        rng, user = self.rng, self.rng.choice(USERS)
        spec: dict[str, Any] = {
            "name": f"work-{rng.randrange(5)}",
            "account": rng.choice(("", "physics")),
            "nodes": rng.choice((1, 1, 1, 2, 3)),
            "restartable": rng.random() < 0.6,
            "held": rng.random() < 0.1,
        }
        if rng.random() < 0.2:
            self.story.submit(user, array=rng.choice(("0-3", "1-9:4,20")), **spec)
        else:
            self.story.submit(user, count=rng.choice((1, 1, 3)), **spec)

    def _start(self) -> None:
        if job := self._some(
            j for j in self._on_nodes("ok") if j.attempt and not j.attempt.started_at
        ):
            self.story.start(job)

    def _end(self) -> None:
        if job := self._some(self._on_nodes("ok")):
            attempt = self.story.cluster.jobs[job].attempt
            end: EndKind = "stopped" if attempt and attempt.stop else self.rng.choice(ENDS)
            used = (None, 0, 1_500_000, 2**40)[job % 4]
            self.story.end(job, end, self.rng.choice((0, 1, None)), used)

    def _ask_about_a_job(self) -> None:
        if job := self._some(self.story.cluster.jobs.values()):
            story = self.story
            act = self.rng.choice((story.cancel, story.hold, story.release, story.requeue))
            if self.rng.random() < 0.2:
                story.change(job, restartable=self.rng.random() < 0.5)
            else:
                act(job)

    def _silence(self) -> None:
        """One node, or now and then all of a rack."""
        nodes, name = self.story.cluster.nodes, self._node()
        rack = [other for other in sorted(nodes) if nodes[other].rack == nodes[name].rack]
        self.story.silence(*(rack if self.rng.random() < 0.3 else (name,)))

    def _node_speaks(self) -> None:
        """It may have lost what it had."""
        has = () if self.rng.random() < 0.2 else None
        self.story.contact(self._node(), has)

    def _reboot(self) -> None:
        self.story.reboot(self._node())

    def _give_up(self) -> None:
        if job := self._some(self._on_nodes("down")):
            self.story.give_up(job)

    def _operate(self) -> None:
        act = self.rng.choice(
            (self.story.drain, self.story.resume, self.story.resume, self.story.down)
        )
        act(self._node())

    def _node(self) -> str:
        return self.rng.choice(sorted(self.story.cluster.nodes))

    def _on_nodes(self, health: str) -> list[Job]:
        c = self.story.cluster
        return [
            job
            for job in map(c.jobs.__getitem__, sorted(c.running))
            if job.attempt and c.nodes[job.attempt.nodes[0]].health == health
        ]

    def _some(self, jobs: Iterable[Job]) -> int:
        found = sorted(job.id for job in jobs)
        return self.rng.choice(found) if found else 0
