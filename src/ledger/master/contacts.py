"""Agents: the long poll that hears what a node has and tells it what to have.

Nothing here is remembered in the log but what `domain` decides from it. Who was heard when, and
which holds were reported, is this process's own memory: after a restart it is empty, every agent
gets a full lease from the start of the reign, and the agents' next calls fill it again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from ledger.commands import Command, Contact, Subject
from ledger.domain.errors import LogBehind, NotRecorded, Refusal, StaleSync, TooOld, UnknownNode
from ledger.domain.orders import Untold, Wanted, untold, wanted
from ledger.domain.state import Cluster, Job, Outcome
from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    JobCancelRequested,
    JobRequeued,
    NodeEnrolled,
    NodeRetired,
    NodeStateChanged,
    Recorded,
    Via,
)
from ledger.master.loop import Master
from ledger.master.reader import LogReader
from ledger.master.said import contact as contacted
from ledger.master.said import reported
from ledger.master.texts import Texts, parsed
from ledger.store.chain import Head
from ledger.wire import PROTOCOL, Order, Seen, SyncReply, SyncRequest

logger = structlog.get_logger("contacts")

OLDEST_PROTOCOL = 1

UNRECORDED_WAIT_S = 1.0
"""How long a poll is kept whose reports could not be recorded: the agent sends them again."""


@dataclass
class Heard:
    """What this master has heard of one node: when last (µs on the log's clock), what it said then,
    and when it was last answered; 0 and None if not in this reign; `confirmed`: in the log."""

    last: int
    boot_id: str = ""
    former: set[str] = field(default_factory=set)
    sent_ns: int = 0
    said: SyncRequest | None = None
    answered: int = 0
    held: frozenset[tuple[int, int]] = frozenset()
    told: Contact | None = None
    confirmed: Seen = field(default_factory=Seen)
    members_lost: set[tuple[int, int]] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Contacts:
    """Answers `sync`. `still_master` says whether this process may still speak for the log."""

    def __init__(
        self,
        master: Master,
        texts: Texts,
        still_master: Callable[[], bool],
        reader: LogReader,
    ) -> None:
        self._master = master
        self._texts = texts
        self._still_master = still_master
        self._reader = reader
        self._began = master.now()
        self._heard: dict[str, Heard] = {}
        self.behind = 0

    def last(self, node: str) -> int:
        """When a node was last heard, µs; the start of this reign if it was not."""
        heard = self._heard.get(node)
        return heard.last if heard is not None else self._began

    def listen_again(self) -> None:
        """This process was stopped, or hung, and heard nobody meanwhile: that was no silence, and
        each lease is counted from now on."""
        self._began = self._master.now()
        for heard in self._heard.values():
            heard.last = self._began

    def wake(self, nodes: set[str]) -> None:
        """Let the polls of these nodes look at their orders again."""
        for name in sorted(nodes):  # in one order, whatever the hash seed
            if (heard := self._heard.get(name)) is not None:
                heard.wake.set()

    def heard(self, recorded: Sequence[Recorded]) -> None:
        """Wake the polls of every node that the events of a commit touch."""
        nodes: set[str] = set() if recorded else set(self._heard)  # none: the master goes
        for r in recorded:
            e = r.event
            if isinstance(e, NodeEnrolled):  # another machine, perhaps, and not heard yet
                self.wake({e.node})
                self._heard[e.node] = Heard(r.at)
            elif isinstance(e, AttemptPlaced | AttemptStarted | AttemptEnded):
                nodes.update(e.nodes)
            elif isinstance(e, JobCancelRequested | JobRequeued):
                nodes.update(self._nodes_of(e.job))
            elif isinstance(e, NodeStateChanged | NodeRetired):
                nodes.add(e.node)
                for struck in e.struck if isinstance(e, NodeStateChanged) else ():
                    nodes.update(self._nodes_of(struck.job))
        self.wake(nodes)

    def _nodes_of(self, job_id: int) -> tuple[str, ...]:
        job = self._master.cluster.jobs.get(job_id)
        return job.attempt.nodes if job is not None and job.attempt is not None else ()

    async def sync(
        self, subject: Subject, node: str, sync: SyncRequest, via: Via, request: str
    ) -> SyncReply:
        """Take an agent's reports, and answer with its orders once they differ from what it has."""
        heard = self._admit(node, sync)
        await self._check(node, heard, sync.seen)
        acked, later = await self._take(subject, node, heard, sync, via, request)
        patience_s = min(self._patience(sync), UNRECORDED_WAIT_S if later else 60.0)
        deadline = asyncio.get_running_loop().time() + patience_s
        while True:
            heard.wake.clear()
            cluster = await self._master.settled()
            self._demand_whole_log()
            if node not in cluster.nodes:
                raise UnknownNode(f"There is no node {node}.")
            if cluster.nodes[node].silent_since:
                # Its silence was decided while its call was here: no order may go out to a node
                # whose attempts the master is about to give up.
                await self._spoke(subject, node, heard, sync, via, request)
                continue
            wants = self._wants(cluster, node)
            left = deadline - asyncio.get_running_loop().time()
            if acked or left <= 0 or not self._master.accepting or self._news(sync, wants):
                break
            try:
                await asyncio.wait_for(heard.wake.wait(), left)
            except TimeoutError:
                continue
        reply = await self._reply(node, acked)
        self._demand_whole_log()
        if not self._still_master():
            raise StaleSync("This master no longer speaks for the log.")
        heard.answered = self._master.now()
        heard.confirmed = reply.seen
        return reply

    def of(self, node: str) -> Heard:
        """What was heard of a node; of one that was not, since this reign began."""
        return self._heard.get(node) or Heard(self._began)

    def outstanding(self, cluster: Cluster, node: str) -> list[Untold]:
        """What a node's agent is to do and has not said that it does."""
        said = self.of(node).said
        has, reports = (said.has, said.reports) if said is not None else ((), ())
        return list(untold(self._wants(cluster, node), has, reports, self._goes))

    def _news(self, sync: SyncRequest, wants: list[Wanted]) -> bool:
        return any(True for _ in untold(wants, sync.has, sync.reports, self._goes))

    def _admit(self, node: str, sync: SyncRequest) -> Heard:
        if sync.protocol < OLDEST_PROTOCOL:
            raise TooOld(f"The agent speaks protocol {sync.protocol}; {OLDEST_PROTOCOL} is needed.")
        heard = self._heard.setdefault(node, Heard(self._began))
        if heard.boot_id == sync.boot_id and sync.sent_ns <= heard.sent_ns:
            raise StaleSync("A later call of this agent was taken before this one.")
        if sync.boot_id in heard.former:
            raise StaleSync("The machine was started anew since this call was sent.")
        if heard.boot_id not in ("", sync.boot_id):
            heard.former.add(heard.boot_id)
        heard.boot_id, heard.sent_ns, heard.said = sync.boot_id, sync.sent_ns, sync
        heard.last = self._master.now()
        held = frozenset((h.job, h.attempt) for h in sync.has if h.phase == "held")
        if held != heard.held:
            heard.held = held
            self._wake_leaders(node)
        return heard

    def _wake_leaders(self, node: str) -> None:
        """A hold was reported: whoever leads the attempt may now go."""
        if (known := self._master.cluster.nodes.get(node)) is not None:
            for job_id, _ in known.attempts:
                self.wake(set(self._nodes_of(job_id)[:1]))

    async def _check(self, node: str, heard: Heard, seen: Seen) -> None:
        """The node is enrolled, and the head it was shown is in the log. If it is not, nothing is
        decided any more: what the log has lost could be done a second time."""
        cluster = await self._master.settled()
        if node not in cluster.nodes:
            raise UnknownNode(f"There is no node {node}.")
        ours = seen.incarnation == self._master.log.incarnation and seen.position > 0
        if ours and seen != heard.confirmed:
            found = await self._reader.call(lambda log: log.commit_at(seen.position))
            if found is None or (found.hash, found.epoch) != (seen.hash, seen.epoch):
                self._halt(node, seen, found)
            elif seen.epoch > self._master.epoch:
                raise StaleSync("Another master has spoken for this log since.")
            heard.confirmed = seen
        self._demand_whole_log()

    def _halt(self, node: str, seen: Seen, found: Head | None) -> None:
        self.behind = max(self.behind, seen.position)
        end = self._master.head.position
        other = found is not None or seen.position <= end
        instead = "another commit is there" if other else f"it ends at {end}"
        self._master.halt(
            f"The agent of {node} was shown position {seen.position}, in epoch {seen.epoch}, and "
            f"{instead}: a part of the log is missing or was changed."
        )

    def _demand_whole_log(self) -> None:
        if self._master.halted:
            raise LogBehind(self._master.halted)

    async def _take(
        self,
        subject: Subject,
        node: str,
        heard: Heard,
        sync: SyncRequest,
        via: Via,
        request: str,
    ) -> tuple[list[int], bool]:
        """Have the reports recorded; the `seq` of those that are dealt with, and whether there are
        others, which the log does not take for now."""
        commands: list[Command] = [
            reported(node, sync.boot_id, report, self._lost_members(report.job, report.attempt))
            for report in sync.reports
        ]
        contact = contacted(node, sync)
        if contact != heard.told or self._master.cluster.nodes[node].health != "ok":
            commands.append(contact)
        if not commands:
            return [], False
        answers = await self._master.ask(subject, commands, via=via, request=request)
        return self._dealt_with(heard, sync, answers, contact)

    async def _spoke(
        self,
        subject: Subject,
        node: str,
        heard: Heard,
        sync: SyncRequest,
        via: Via,
        request: str,
    ) -> None:
        """Have it recorded that a node taken for silent is in contact."""
        heard.last = self._master.now()
        contact = contacted(node, sync)
        await self._master.ask_one(subject, contact, via=via, request=request)
        heard.told = contact

    def _dealt_with(
        self,
        heard: Heard,
        sync: SyncRequest,
        answers: list[Outcome | Refusal],
        contact: Contact,
    ) -> tuple[list[int], bool]:
        acked: list[int] = []
        later = False
        for report, answer in zip(sync.reports, answers, strict=False):
            if isinstance(answer, NotRecorded):
                later = True  # the agent keeps it, and its lease must go on
                continue
            if isinstance(answer, Refusal):
                raise answer
            key = (report.job, report.attempt)
            if answer.reply:
                acked.append(report.seq)
                heard.members_lost.discard(key)
            elif report.kind == "ended" and key not in heard.members_lost:
                heard.members_lost.add(key)
                self.wake(set(self._nodes_of(report.job)[:1]))
        if len(answers) > len(sync.reports):
            if isinstance(answers[-1], Refusal):
                raise answers[-1]
            heard.told = contact
        return acked, later

    def _lost_members(self, job: int, attempt: int) -> tuple[str, ...]:
        """The nodes of an attempt that are down, or have reported its end before their leader."""
        live = self._master.cluster.jobs.get(job)
        if live is None or live.attempt is None:
            return ()
        nodes = self._master.cluster.nodes
        return tuple(
            name
            for name in live.attempt.nodes[1:]
            if name not in nodes
            or nodes[name].health == "down"
            or (job, attempt) in self._members_lost(name)
        )

    def _members_lost(self, node: str) -> set[tuple[int, int]]:
        heard = self._heard.get(node)
        return heard.members_lost if heard is not None else set()

    def _wants(self, cluster: Cluster, node: str) -> list[Wanted]:
        lost = set()
        for job_id, n in cluster.nodes[node].attempts:
            job = cluster.jobs.get(job_id)
            if job is None or job.attempt is None:
                continue
            if any((job_id, n) in self._members_lost(member) for member in job.attempt.nodes[1:]):
                lost.add((job_id, n))
        return wanted(cluster, node, frozenset(lost))

    def _goes(self, job: Job, attempt: int) -> bool:
        """Has every node but the leader reported its hold?"""
        assert job.attempt is not None
        return all(
            name in self._heard and (job.id, attempt) in self._heard[name].held
            for name in job.attempt.nodes[1:]
        )

    def _patience(self, sync: SyncRequest) -> float:
        """A poll must end well before the lease, or the waiting itself would look like silence."""
        lease = self._master.cluster.policy.job_lease_s
        return max(0.0, min(sync.wait_s, lease / 3, 60.0))

    async def _reply(self, node: str, acked: list[int]) -> SyncReply:
        texts: dict[str, bytes] = {}
        while True:  # orders and head are of one settled state: nothing is awaited between them
            cluster = await self._master.settled()
            if node not in cluster.nodes:
                raise UnknownNode(f"There is no node {node}.")
            wants = self._wants(cluster, node)
            missing = {d for want in wants for d in _digests(want.job)} - texts.keys()
            if not missing:
                break
            for digest in sorted(missing):
                texts[digest] = await self._texts.text(digest)
        orders = [self._order(want, texts) for want in wants]
        head = self._master.head
        return SyncReply(
            protocol=PROTOCOL,
            seen=Seen(
                incarnation=self._master.log.incarnation,
                epoch=self._master.epoch,
                position=head.position,
                hash=head.hash,
            ),
            lease_s=self._master.cluster.policy.job_lease_s,
            orders=tuple(orders),
            acked=tuple(acked),
        )

    def _order(self, want: Wanted, texts: Mapping[str, bytes]) -> Order:
        job, policy = want.job, self._master.cluster.policy
        assert job.attempt is not None
        words = parsed(texts[job.spec.text.sha256] if job.spec.text else b"")
        script = texts[job.spec.script.sha256] if job.spec.script else b""
        return Order(
            job=job.id,
            attempt=want.attempt,
            user=job.user,
            nodes=job.attempt.nodes,
            restartable=job.attempt.restartable,
            time_limit_s=job.time_limit_s,
            kill_grace_s=policy.kill_grace_s,
            go=want.leads and self._goes(job, want.attempt),
            stop=want.stop,
            name=job.spec.name,
            argv=words.argv,
            script=script.decode(),
            workdir=words.workdir,
            output_path=words.output_path,
            array_first=job.first if job.index >= 0 else 0,
            array_index=job.index,
            request=job.request,
            output_head_bytes=policy.output_head_bytes,
            output_tail_bytes=policy.output_tail_bytes,
        )


def _digests(job: Job) -> set[str]:
    return {blob.sha256 for blob in (job.spec.text, job.spec.script) if blob is not None}
