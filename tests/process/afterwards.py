"""What must hold of any log, however it came about: it reads back, verifies, and folds to what the
master and the projections made of it, on both databases.
"""

import io
import shutil
from contextlib import closing

from ledger import follow
from ledger.codec import CODEC
from ledger.domain import snapshot
from ledger.master.recovery import recover
from ledger.projection.discover import discover
from ledger.store import checkpoint
from ledger.store.location import open_log
from ledger.store.log import Log
from ledger.store.transfer import export, import_
from ledger.store.verify import verify
from places import Place

from .harness import Site
from .processes import Process, until


def still_true(site: Site, others: list[Process], follower: Process, copy: Place) -> int:
    """Check the log of a site after the fact; how many events it has.

    Ends its `others`, its master, its `follower`, in this order. The log is moved to `copy`, and
    the site's master starts once more, without its checkpoints.
    """
    assert site.master is not None
    for process in (*others, site.master):
        process.end()
    with _opened(site) as log:
        events = _reads_back(log)
        _is_the_fold(log, site)
        _move(log, copy)
        head = log.head().position
    for name in discover().projections:
        _rebuilt_is_followed(name, site, copy, head)
    assert follower.end() == 0
    shutil.rmtree(site.data / "checkpoints")
    site.start().end()
    with _opened(site) as log:
        _is_the_fold(log, site)
    return events


def _opened(site: Site) -> "closing[Log]":
    return closing(open_log(site.data, site.database_url, write=False))


def _is_the_fold(log: Log, site: Site) -> None:
    """The state that the master left is the one that its log comes to."""
    left = checkpoint.load(site.data / "checkpoints", log, snapshot.STATE_VERSION)
    assert left is not None
    assert left[0] == log.head()
    assert left[1] == snapshot.to_bytes(recover(log, None).cluster)


def _rebuilt_is_followed(name: str, site: Site, copy: Place, head: int) -> None:
    """A projection as it was followed, rebuilt here, and made from the copy on the other database:
    all are the fold in memory, byte for byte."""

    def caught_up() -> follow.Verdict | None:
        verdict = follow.verify(name, site.data, site.database_url)
        return verdict if verdict.position == head else None

    followed = until(caught_up, 120, f"{name} at {head}")
    assert followed is not None
    for data, url in ((site.data, site.database_url), copy):
        assert data is not None
        follow.rebuild(name, data, url)
        rebuilt = follow.verify(name, data, url)
        assert rebuilt == followed, name
    assert followed.live == followed.folded, name


def _reads_back(log: Log) -> int:
    """Every event decodes, and gives the bytes that are stored when it is written anew."""
    rows = {row.position: row for row in log.rows() if row.stream != "commit"}
    count = 0
    for recorded in log.read():
        stored = rows.pop(recorded.position)
        assert CODEC.encode(recorded.event, recorded.envelope) == stored.data, recorded.position
        count += 1
    assert rows == {}
    assert verify(log).events == count
    return count


def _move(log: Log, copy: Place) -> None:
    """The same log in another place."""
    stream = io.BytesIO()
    export(log, stream)
    with closing(copy.open(create=True)) as there:
        assert import_(there, stream.getvalue().splitlines(keepends=True)) == log.head()
