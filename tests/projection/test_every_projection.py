"""What holds for every projection holds for ours, on both databases."""

from typing import Any, ClassVar

import pytest

from ledger.projection.discover import discover
from ledger.projection.grid import SLOT_US
from ledger.testing.projections import ProjectionTests
from ledger.testing.stories import START
from ledger_projections import (
    abuse,
    demand,
    jobs,
    node_history,
    occupancy,
    outage_impact,
    outages,
    policies,
    usage,
)
from places import Place

SLOT = START // SLOT_US
WINDOW = {"since": START + 3_000_000_000, "until": START + 9_000_000_000, "limit": 3}
EDGES = [n * SLOT_US for n in (0, SLOT, SLOT + 1, SLOT + 9, SLOT + 900)]


class Ours(ProjectionTests):
    """On each database in turn."""

    # test_fold.py has it of all at once
    test_neither_hash_seed_nor_time_zone_shows = None  # type: ignore[assignment]

    @pytest.fixture
    def where(self, place: Place) -> Any:
        return place


@pytest.mark.fault("H8", "H12")
class TestJobs(Ours):
    projection = jobs.PROJECTION
    questions: ClassVar[Any] = {
        "show_job": [{"job": job} for job in (2, 5, 17, 999)],
        "task": [{"first": 3, "index": 1}],
        "list_jobs": [
            {"states": ["running", "pending"], "ascending": True},
            {"node": "n1", "limit": 3},
            {"name": "work-2", "user": "bob", "cursor": "20"},
            {"since": START + 4_000_000_000, "until": START + 9_000_000_000},
        ],
    }


@pytest.mark.fault("H8", "H12")
class TestOutageImpact(Ours):
    projection = outage_impact.PROJECTION
    questions: ClassVar[Any] = {
        "impact": [{"nodes": ["n1", "n2"], "since": START + 3_000_000_000}],
        "losses": [{"nodes": ["n2"]}],
    }


@pytest.mark.fault("H8", "H12")
class TestUsage(Ours):
    projection = usage.PROJECTION
    questions: ClassVar[Any] = {
        "usage": [{"edges": EDGES}, {"edges": EDGES, "by": ["user", "pool"], "account": "physics"}]
    }


@pytest.mark.fault("H8", "H12")
class TestDemand(Ours):
    projection = demand.PROJECTION
    questions: ClassVar[Any] = {
        "demand": [{"edges": EDGES, "by": ["user", "pool"]}, {"edges": EDGES, "account": "physics"}]
    }


@pytest.mark.fault("H8", "H12")
class TestOccupancy(Ours):
    projection = occupancy.PROJECTION
    questions: ClassVar[Any] = {
        "stays": [{"nodes": ["n1", "n2"], "since": START + 3_000_000_000}],
        "never_used": [{"nodes": ["n1", "n9"]}],
    }


@pytest.mark.fault("H8", "H12")
class TestOutages(Ours):
    projection = outages.PROJECTION
    questions: ClassVar[Any] = {
        "list_outages": [{"only_open": True}, {"since": START + 3_000_000_000, "limit": 2}],
        "show_outage": [{"outage": number} for number in (1, 2, 999)],
        "list_notices": [{"user": "dan", "state": "sent"}, {"desk": "helpdesk", "before": 9}],
    }


@pytest.mark.fault("H8", "H12")
class TestAbuse(Ours):
    projection = abuse.PROJECTION
    questions: ClassVar[Any] = {
        "findings": [{"user": "bob", "limit": 1}, {"unanswered": True, "cursor": "2"}],
        "show_finding": [{"finding": number} for number in (1, 2, 999)],
    }


@pytest.mark.fault("H8", "H12")
class TestPolicies(Ours):
    projection = policies.PROJECTION
    questions: ClassVar[Any] = {"history": [{"limit": 1}, {"cursor": "2"}]}


@pytest.mark.fault("H8", "H12")
class TestNodeHistory(Ours):
    projection = node_history.PROJECTION
    questions: ClassVar[Any] = {
        name: [{"node": node, **more} for node in ("n1", "n2") for more in ({}, WINDOW)]
        for name in ("periods", "machines", "stays")
    } | {
        "state_at": [{"node": "n1", "moment": START + n * 3_000_000_000} for n in (0, 1, 4)],
        "failures": [{}, WINDOW],
    }


def test_none_is_left_out() -> None:
    tested = {cls.projection.name for cls in Ours.__subclasses__()}
    assert tested == set(discover().projections)
