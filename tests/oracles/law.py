"""What no log may say, whatever happened: read event by event, by code that knows only events."""

from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    JobCancelRequested,
    JobChanged,
    JobEnded,
    JobEvent,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobSpec,
    JobsSubmitted,
    LogRestored,
    MasterStarted,
    NodeEnrolled,
    NodeStateChanged,
    PolicySet,
    Recorded,
)

KEY_LIFETIME_US = 7 * 86_400 * 1_000_000


class Law:
    """Takes the events of a log in their order, and fails at the first that may not be.

    `open`: the nodes of each job's present attempt; `over`: how each ended job ended; `keys`: what
    each key came to; `attempts`: how many attempts each job has had.
    """

    def __init__(self) -> None:
        self.last: Recorded | None = None
        self.attempts: dict[int, int] = {}
        self.open: dict[int, AttemptPlaced] = {}
        self.started: set[int] = set()
        self.stopping: dict[int, str] = {}
        self.over: dict[int, str] = {}
        self.held: set[int] = set()
        self.specs: dict[int, JobSpec] = {}
        self.restartable: dict[int, bool] = {}
        self.keys: dict[tuple[str, str], Recorded] = {}
        self.states: dict[str, str] = {}
        self.cpus: dict[str, int] = {}
        self.epochs: dict[int, str] = {}
        self.highest_job = 0
        self.changes: dict[str, NodeStateChanged] = {}
        self.policy: PolicySet | None = None

    def take(self, r: Recorded) -> None:
        """One more event."""
        self._order(r)
        match r.event:
            case JobsSubmitted() as e:
                self._submitted(r, e)
            case AttemptPlaced() as e:
                self._placed(r, e)
            case AttemptStarted() as e:
                assert self._is_open(e.job, e.attempt), f"I3: {e} of no open attempt"
                assert e.job not in self.started, f"I3: {e} twice"
                self.started.add(e.job)
            case AttemptEnded() as e:
                self._ended(r, e)
            case JobEnded() as e:
                assert e.job not in self.open, f"I6: {e} while it runs"
                self._end(e.job, e.state)
            case JobEvent() as e:
                self._about_a_job(e)
            case NodeEnrolled() as e:
                self.cpus[e.node] = e.cpus
            case NodeStateChanged() as e:
                self.states[e.node], self.changes[e.node] = e.to, e
            case PolicySet() as e:
                self.policy = e
            case LogRestored() as e:
                assert r.incarnation != e.origin_incarnation, "I27: the same incarnation"
                assert e.first_job > self.highest_job, "I27: a number might be given again"

    def _order(self, r: Recorded) -> None:
        """I7 and I8: positions, commits, times and epochs go on; each epoch has one beginning."""
        last = self.last
        if last is not None:
            assert r.position > last.position, f"I7: {r} after {last}"
            assert r.position - last.position == 1 + (r.commit != last.commit), f"I7: a gap at {r}"
            assert (r.commit, r.at, r.epoch) >= (last.commit, last.at, last.epoch), f"I8: {r}"
            assert r.at >= last.at, f"I7: time runs backwards at {r}"
            assert r.epoch >= last.epoch, f"I8: {r} after {last}"
        if r.epoch not in self.epochs:
            assert isinstance(r.event, MasterStarted | LogRestored), f"I8: {r} begins an epoch"
            assert last is None or r.epoch == last.epoch + 1, f"I8: {r} leaves out an epoch"
            self.epochs[r.epoch] = ""
        if isinstance(r.event, MasterStarted):
            assert not self.epochs[r.epoch], f"I8: {r} is the second beginning of its epoch"
            self.epochs[r.epoch] = r.event.incarnation
        self.last = r

    def _submitted(self, r: Recorded, e: JobsSubmitted) -> None:
        if e.key and e.part == 1:
            known = self.keys.get((e.user, e.key))
            assert known is None or r.at - known.at > KEY_LIFETIME_US, f"I2: {e.key} twice: {r}"
            self.keys[e.user, e.key] = r
        assert e.first_job > self.highest_job, f"I2: a number is given again by {r}"
        for i, job in enumerate(range(e.first_job, e.first_job + e.count)):
            self.attempts[job] = 0
            self.specs[job] = e.specs[min(i, len(e.specs) - 1)]
            self.restartable[job] = self.specs[job].restartable
            if self.specs[job].held:
                self.held.add(job)
        self.highest_job = e.first_job + e.count - 1

    def _placed(self, r: Recorded, e: AttemptPlaced) -> None:
        assert e.job in self.attempts, f"I3: {e} of no job"
        assert e.job not in self.over, f"I6: {e} after its end"
        assert e.job not in self.open, f"I3: {e} while attempt {self.attempts[e.job]} is open"
        assert e.job not in self.held, f"I3: {e} while it is held"
        assert e.attempt == self.attempts[e.job] + 1, f"I3: {e} follows {self.attempts[e.job]}"
        taken = {name for placed in self.open.values() for name in placed.nodes}
        assert taken.isdisjoint(e.nodes), f"I5: {e} on a node that has another"
        assert not set(self.specs[e.job].exclude) & set(e.nodes), f"I17: {e} on an excluded node"
        for name in e.nodes:
            assert self.states[name] in ("idle", "allocated"), f"I17: {e}: {self.states[name]}"
        self.attempts[e.job], self.open[e.job] = e.attempt, e

    def _is_open(self, job: int, attempt: int) -> bool:
        return job in self.open and self.attempts[job] == attempt

    def _ended(self, r: Recorded, e: AttemptEnded) -> None:
        assert self._is_open(e.job, e.attempt), f"I6: {e} of no open attempt"
        placed = self.open.pop(e.job)
        assert (e.nodes, e.placed_at) == (placed.nodes, placed.placed_at), f"I3: {e}, {placed}"
        if e.cause == "node_lost":
            self._lost(r, e, placed)
        assert 0 <= e.ran_us <= e.held_us == r.at - e.placed_at, f"I19: {e}"
        cpus = self.cpus.get(e.nodes[0], 0)
        assert not cpus or 0 <= (e.cpu_us or 0) <= e.held_us * cpus, f"I19: {e} on {cpus} of them"
        assert (e.started_at > 0) == (e.job in self.started), f"I3: {e}"
        assert (e.next == "final") == (e.state != "pending"), f"I6: {e}"
        if e.next != "final":
            assert self.restartable[e.job], f"E16: {e} of a job for one attempt"
        stop = self.stopping.pop(e.job, "")
        assert stop != "cancelled" or e.next == "final", f"E17: {e} of a cancelled job"
        assert e.outcome != "requeued" or stop == "requeued", f"I6: {e} was not asked for"
        self.started.discard(e.job)
        if e.next == "held":
            self.held.add(e.job)
        if e.next == "final":
            self._end(e.job, e.state)

    def _lost(self, r: Recorded, e: AttemptEnded, placed: AttemptPlaced) -> None:
        """E16: what may not begin again is given up late, unless its node was declared dead."""
        change, policy = self.changes[e.nodes[0]], self.policy
        assert change.silent_since, f"F2: {e} of a node that is not silent"
        assert policy is not None
        if change.cause != "declared_dead":
            wait_s = policy.job_lease_s + policy.lease_margin_s
            if not placed.restartable:
                wait_s = max(wait_s, policy.lost_after_s)
            assert r.at - change.silent_since >= wait_s * 1_000_000, f"F2: {e} is too early"

    def _end(self, job: int, state: str) -> None:
        assert job in self.attempts, f"I6: job {job} ends and never was"
        assert job not in self.over, f"I6: job {job} ends twice"
        self.over[job] = state

    def _about_a_job(self, e: JobEvent) -> None:
        assert e.job in self.attempts, f"I6: {e} of no job"
        assert e.job not in self.over, f"I6: {e} after its end"
        match e:
            case JobHeld():
                self.held.add(e.job)
            case JobReleased():
                self.held.discard(e.job)
            case JobChanged() if e.restartable is not None:
                self.restartable[e.job] = e.restartable
            case JobCancelRequested():
                assert self._is_open(e.job, e.attempt), f"I6: {e} of no open attempt"
                self.stopping[e.job] = "cancelled"
            case JobRequeued():
                assert self._is_open(e.job, e.attempt), f"I6: {e} of no open attempt"
                self.stopping[e.job] = "requeued"
