"""All of a service as `up` runs it, under submitters who never give up, and what must hold then."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ledger import follow
from ledger.events import AttemptEnded
from ledger.projection.discover import discover
from ledger.projection.reader import Unavailable

from .harness import RUN_AS, Site
from .load import Book, Make, submissions
from .processes import Process, until

AGENTS = 2


@contextlib.contextmanager
def running(site: Site) -> Iterator[Process]:
    """Master, projections, agents, and what starts again whatever ends, for as long as the block.

    Nothing may have been given up in the end.
    """
    account = ["--run-as", RUN_AS] if RUN_AS else []
    up = site.run("up", "--agents", str(AGENTS), *account, name="up")
    site.ready(up, deadline_s=60)
    site.nodes_ready(AGENTS)
    yield up
    assert up.status is None
    assert "not started again" not in up.words()
    assert up.end() == 0


def pid_of(site: Site, part: str) -> int:
    """The process that is this part now."""
    return int((site.data / "run" / f"{part}.pid").read_text())


def some_run(site: Site) -> Make:
    """One job in ten runs and leaves a witness, as machines may be busy; the others are held."""

    def make(number: int) -> list[dict[str, Any]]:
        return [{"argv": ["true"], "held": True} if number % 10 else site.job()]

    return make


def all_is_well(site: Site, book: Book) -> int:
    """Wait until all has ended, and check that nothing was lost or doubled; the head."""
    jobs = {first for key, (first, _) in book.told.items() if not book.asked[key][0].get("held")}
    until(lambda: ended(site) >= jobs, 120, "the end of all jobs")
    kept: dict[str, tuple[int, int]] = {}
    submissions(site.events(), kept)
    book.check(kept)
    assert book.unanswered == []
    runs = Counter((job, attempt) for job, attempt, *_ in site.witnessed())
    assert [run for run, times in runs.items() if times > 1] == []
    site.verified()
    return projections_are_the_fold(site)


def ended(site: Site) -> set[int]:
    """The jobs whose end is on record."""
    events = (r.event for r in site.events())
    return {e.job for e in events if isinstance(e, AttemptEnded) and e.next == "final"}


def projections_are_the_fold(site: Site) -> int:
    """Wait until every projection is at the head, and compare it with the log folded anew."""
    head = site.events()[-1].position
    for name in discover().projections:

        def there(name: str = name) -> bool:
            try:
                verdict = follow.verify(name, site.data, site.database_url)
            except Unavailable:  # it is being made, or is still of another log
                return False
            assert verdict.live == verdict.folded, f"{name} is not the fold of the log"
            return verdict.position >= head

        until(there, 60, f"{name} at {head}")
    return head
