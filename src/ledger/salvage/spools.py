"""What agents remember of attempts: how those that the log knows went on, and which came behind."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ledger.salvage.live import Job, Live
from ledger.salvage.sources import Spool
from ledger.wire import Report

Key = tuple[int, int, tuple[str, ...]]


class Said(NamedTuple):
    """What spools say of an attempt: whose, when it began (µs), and its end, None: not yet.

    `leads`: it is the leading node's spool that says so. `gone`: it was killed without a report.
    `known`: a master has acknowledged the end.
    """

    user: str
    restartable: bool
    began_at: int
    end: Report | None
    gone: bool
    known: bool
    leads: bool


class Witness(NamedTuple):
    """The highest position that an agent was shown, and the node, where it is known."""

    position: int
    node: str


class Spools:
    """All spools, read for one log: `said` of every attempt, by job, number and nodes.

    `used` are the spools of this service's agents, `last` when the last of them was written (µs).
    """

    def __init__(self, sources: Iterable[Spool], live: Live) -> None:
        self.used: list[Spool] = []
        self.said: dict[Key, Said] = {}
        self.last = 0
        self.witness = Witness(0, "")
        self._names = live.spools()
        self._shown: dict[str, int] = {}
        for source in sources:
            its = source.remains.memory.incarnations - {""}
            if live.incarnations and its and not its & live.incarnations:
                source.note("it is of an agent of another service")
                continue
            self.used.append(source)
            self._read(source, live)

    def _read(self, source: Spool, live: Live) -> None:
        memory = source.remains.memory
        node = self._names.get(memory.id, "")
        self.last = max(self.last, source.remains.last)
        if not live.incarnations or memory.seen.incarnation in live.incarnations:
            self.witness = max(self.witness, Witness(memory.seen.position, node))
            if node:
                self._shown[node] = max(self._shown.get(node, 0), memory.seen.position)
        unacked = {(report.job, report.attempt) for report in memory.unacked()}
        for key, begun in memory.begun.items():
            end = memory.ended.get(key)
            one = Said(
                begun.user,
                begun.restartable,
                begun.at,
                end,
                memory.forgot(key),
                end is not None and key not in unacked,
                bool(node) and node == begun.nodes[0],
            )
            known = self.said.get((*key, begun.nodes))
            if known is None or _weight(one) > _weight(known):
                self.said[*key, begun.nodes] = one

    def not_begun(self, job: Job) -> bool:
        """Does the spool of its leading node say that its attempt had not begun there, though its
        agent was shown the log as far as its placement?"""
        shown = self._shown.get(job.nodes[0], 0) if job.nodes else 0
        return bool(job.placed) and shown >= job.placed

    def of(self, job: Job) -> Said | None:
        """What is said of a job's last attempt."""
        return self.said.get((job.job, job.attempt, job.nodes))

    def behind(self, jobs: dict[int, Job], live: Live, *, blind: bool) -> Iterator[Job]:
        """Take in the attempts that came behind the log's end; the jobs that only spools know.

        What began before the log was last restored was lost by that. `blind`: nothing of the log is
        proven, so it can't tell what is old; then only those count that have not ended, or whose
        end no master has heard of.
        """
        for (number, attempt, nodes), said in sorted(self.said.items(), key=lambda i: i[0]):
            if said.began_at < live.restored_at or (blind and said.known) or live.ended(number):
                continue
            job = jobs.get(number)
            if job is None:
                job = jobs[number] = Job(number, said.user, "", "spool")
                yield job
            if job.attempt < attempt:
                job.attempt, job.nodes, job.running = attempt, nodes, True
                job.placed = job.placed_at = job.started_at = 0
                job.silent, job.restartable = False, said.restartable


def _weight(said: Said) -> tuple[bool, bool, bool]:
    """Whose word goes first: the leader's, then one that has the end with its code."""
    code = said.end is not None and said.end.exit_code is not None
    return said.leads, code, said.end is not None
