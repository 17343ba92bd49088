"""Metrics in Prometheus' text format, computed when they are asked for."""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ledger.master.service import Running
from ledger.projection.reader import Status
from ledger.sink import dropped as lines_dropped
from ledger.store.chain import Head
from ledger.store.shelf import Freshness


class _Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families, each with its present value."""
        yield from self._families


def render(families: Iterable[Metric]) -> bytes:
    """Metrics as Prometheus reads them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(tuple(families)))
    return generate_latest(registry)


def of_master(running: Running) -> Iterator[Metric]:
    """What a running master tells of itself, from the settled state."""
    c = running.master.cluster
    pending = len(c.jobs) - len(c.running)
    yield gauge("log_position", "Position of the log's head", running.master.head.position)
    yield gauge("epoch", "Number of this master's reign", running.master.epoch)
    jobs = GaugeMetricFamily("jobledger_jobs", "Live jobs by state", labels=["state"])
    jobs.add_metric(["pending"], pending)
    jobs.add_metric(["running"], len(c.running))
    yield jobs
    nodes = GaugeMetricFamily("jobledger_nodes", "Nodes by pool, state", labels=["pool", "state"])
    for (pool, state), n in sorted(Tally((n.pool, n.state) for n in c.nodes.values()).items()):
        nodes.add_metric([pool, state], n)
    yield nodes
    yield gauge("agents_ahead", "Position an agent saw beyond the log", running.contacts.behind)
    yield gauge("keys", "Idempotency keys remembered", len(c.keys))
    yield gauge("abuse_findings", "Number of the last finding of abuse", c.watch.findings)
    yield from _writing(running)
    yield from _planning(running)
    yield from _telling(running)


def _telling(running: Running) -> Iterator[Metric]:
    c, counts = running.master.cluster, running.outbox.counts
    now = running.master.now()
    unreachable = sum(not running.outbox.reachable(c, n.to, n.desk) for n in c.notices.values())
    oldest = min((n.due_at for n in c.notices.values()), default=now)
    yield gauge("notices_waiting", "Notices that are due and not sent", len(c.notices))
    yield gauge("notices_unreachable", "Those of them to whom no contact is known", unreachable)
    text = "How long the oldest of the waiting notices has been due"
    yield gauge("notice_oldest_seconds", text, max(0, now - oldest) / 1e6)
    yield counter("notices_sent", "Notices sent by this master", counts.sent)
    yield counter("notice_failures", "Tries to send a notice that failed", counts.failed)


def _writing(running: Running) -> Iterator[Metric]:
    master = running.master
    counters = master.counters
    yield counter("commits", "Commits appended by this master", counters.commits)
    yield counter("events", "Events appended by this master", counters.events)
    seconds = counters.append_micros / 1e6
    yield counter("append_seconds", "Time that commits took to be durable", seconds)
    yield counter("requests", "Requests decided", counters.requests)
    yield counter("refusals", "Commands refused", counters.refused)
    yield counter("storage_full", "Batches dropped for want of room", counters.storage_full)
    yield counter("log_locked", "Batches dropped at a lock of others", counters.log_locked)
    writable = int(master.trouble is None)
    yield gauge("log_writable", "1 while the log takes events, else 0", writable)
    text = "Chunks of output that could not be kept; agents send them again"
    yield counter("output_failures", text, running.outputs.failed)
    text = "Lines of the master's own log that nobody took"
    yield counter("log_lines_dropped", text, lines_dropped())
    yield gauge("requests_waiting", "Requests that wait to be decided", len(master.queued))
    yield gauge("batch_requests", "Requests in the last commit", master.last.requests)
    kept = running.checkpoints
    yield counter("checkpoints", "Checkpoints written by this master", kept.saved)
    yield counter("checkpoint_failures", "Checkpoints that could not be written", kept.failures)
    yield gauge("checkpoint_seconds", "How long the last checkpoint took", kept.micros / 1e6)


def _planning(running: Running) -> Iterator[Metric]:
    planner = running.planner
    latest = planner.latest
    yield counter("plans", "Planning passes", planner.passes)
    took = latest.micros / 1e6 if latest else 0.0
    yield gauge("plan_seconds", "How long the last plan took to make", took)
    seen = latest.looked_at if latest else 0
    yield gauge("plan_looked_at", "Jobs that the last plan looked at", seen)
    yield counter("proposals", "Placements that plans proposed", planner.proposals)
    dropped = CounterMetricFamily(
        "jobledger_proposals_dropped", "Placements that no longer held, by refusal", labels=["code"]
    )
    for code, n in sorted(planner.dropped.items()):
        dropped.add_metric([code], n)
    yield dropped


def of_backups(backups: Freshness) -> Iterator[Metric]:
    """How old the newest backup is, and how old it may become."""
    age = inf if backups.age_s is None else backups.age_s
    text = "Age of the newest verified backup of this log, +Inf if there is none"
    yield gauge("backup_age_seconds", text, age)
    text = "How often a backup is to be made, 0 for never by itself"
    yield gauge("backup_every_seconds", text, backups.every_s)
    late = int(bool(backups.warning))
    yield gauge("backup_late", "1 while the newest verified backup is too old or missing", late)


def of_projections(told: Iterable[Status], head: Head) -> Iterator[Metric]:
    """How far each projection is behind a head, and whether it stands still."""
    events = _by_projection("projection_lag_events", "Events that the projection has yet to take")
    seconds = _by_projection("projection_lag_seconds", "The same in seconds of the log's time")
    stopped = _by_projection("projection_stopped", "1 while it can't go on or be reached")
    for status in told:
        behind_by, behind_s = status.behind(head.position, head.at)
        events.add_metric([status.name], behind_by)
        seconds.add_metric([status.name], behind_s)
        halted = status.state(behind_by) in ("stopped", "unavailable")
        stopped.add_metric([status.name], int(halted))
    yield from (events, seconds, stopped)


def _by_projection(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jobledger_{name}", text, labels=["projection"])


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """One value that may go up and down."""
    return GaugeMetricFamily(f"jobledger_{name}", text, value=value)


def counter(name: str, text: str, value: float) -> CounterMetricFamily:
    """One value that only grows."""
    return CounterMetricFamily(f"jobledger_{name}", text, value=value)
