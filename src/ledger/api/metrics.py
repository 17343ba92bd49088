"""Metrics in Prometheus' text format, computed from the settled state when they are asked for."""

from collections import Counter as Tally
from collections.abc import Iterator
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ledger.master.service import Running
from ledger.store.shelf import Freshness


def render(running: Running, backups: Freshness | None) -> bytes:
    """All metrics of a running master."""
    registry = CollectorRegistry()
    registry.register(_Collector(running, backups))
    return generate_latest(registry)


class _Collector:
    def __init__(self, running: Running, backups: Freshness | None) -> None:
        self._running, self._backups = running, backups

    def collect(self) -> Iterator[Metric]:
        """The families, each with its present value."""
        running, c = self._running, self._running.master.cluster
        counters = running.master.counters
        pending = len(c.jobs) - len(c.running)
        yield _gauge("log_position", "Position of the log's head", running.master.head.position)
        yield _gauge("epoch", "Number of this master's reign", running.master.epoch)
        jobs = GaugeMetricFamily("jobledger_jobs", "Live jobs by state", labels=["state"])
        jobs.add_metric(["pending"], pending)
        jobs.add_metric(["running"], len(c.running))
        yield jobs
        nodes = GaugeMetricFamily(
            "jobledger_nodes", "Nodes by pool, state", labels=["pool", "state"]
        )
        for (pool, state), n in sorted(Tally((n.pool, n.state) for n in c.nodes.values()).items()):
            nodes.add_metric([pool, state], n)
        yield nodes
        yield _counter("commits", "Commits appended by this master", counters.commits)
        yield _counter("events", "Events appended by this master", counters.events)
        yield _counter("requests", "Requests decided", counters.requests)
        yield _counter("refusals", "Commands refused", counters.refused)
        yield _counter("storage_full", "Batches dropped for want of room", counters.storage_full)
        yield _counter("plans", "Planning passes", running.planner.passes)
        yield _gauge(
            "plan_seconds",
            "How long the last planning pass took",
            running.planner.last_micros / 1e6,
        )
        yield _gauge(
            "agents_ahead", "Position an agent saw beyond the log", running.contacts.behind
        )
        if (backups := self._backups) is not None:
            age = inf if backups.age_s is None else backups.age_s
            text = "Age of the newest verified backup of this log, +Inf if there is none"
            yield _gauge("backup_age_seconds", text, age)
            text = "How often a backup is to be made, 0 for never by itself"
            yield _gauge("backup_every_seconds", text, backups.every_s)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"jobledger_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"jobledger_{name}", text, value=value)
