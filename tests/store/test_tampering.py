"""Every change of stored bytes is found, and where: by `verify`, and by a replay from the start."""

import random
import shutil
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pysqlite3  # type: ignore[import-untyped]
import pytest

from ledger.master.recovery import Checkpoints, recover
from ledger.store import ahead
from ledger.store.location import open_log
from ledger.store.log import Log, LogCorrupt, LogFailure, LogUnavailable
from ledger.store.verify import verify
from ledger.testing.evidence import Evidence
from places import Place

from .tampering import Original, Tamperer, Tampering, Vandal, filled

SEED = 20261121


def found_by_verify(place: Place, tampering: Tampering) -> str:
    """What `verify` says that is wrong, if anything; empty where it found and located it."""
    try:
        with closing(place.open(write=False)) as log:
            missing = verify(log).missing
    except LogCorrupt as corrupt:
        if corrupt.position in tampering.places:
            return ""
        return f"verify named {corrupt.position}, not {tampering.places}: {corrupt}"
    if tampering.texts and [*missing.items()] == [(tampering.texts[0], tampering.places[0])]:
        return ""
    return "verify found nothing"


def found_by_replay(place: Place, tampering: Tampering) -> str:
    """The same, of what a master does when it starts."""
    try:
        with closing(place.open(write=True)) as log:
            recover(log, None)
    except LogCorrupt as corrupt:
        if corrupt.position in tampering.places:
            return ""
        return f"the start named {corrupt.position}, not {tampering.places}: {corrupt}"
    return "the start found nothing"


@pytest.mark.fault("B6", "B8", "B12")
def test_every_change_of_rows_and_texts_is_found_and_located(
    log: Log,
    place: Place,
    database: str,
    full: bool,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "PATIENCE_S", 30.0)
    original = filled(log, commits=40)
    assert verify(log).missing == {}
    log.close()
    chance = random.Random(SEED)  # noqa: S311
    names = ("notification_id", "%s") if place.url else ("rowid", "?")
    tamperer, kinds, wrong = Tamperer(original, chance, *names), Counter[str](), []
    with closing(Vandal(place, original)) as vandal:
        for n in range(1000 if full else 60):
            tampering = tamperer.draw()
            vandal.run(tampering.statements)
            said = [found_by_verify(place, tampering)]
            if not tampering.texts:
                # of some, another process reads the log ahead, as it does if it is long
                monkeypatch.setattr(ahead, "MANY", 20 if n % 4 == 0 else 1 << 60)
                said.append(found_by_replay(place, tampering))
            wrong += [(n, tampering.kind, tampering.statements, s) for s in said if s]
            kinds[tampering.kind] += 1
            vandal.undo()
    assert wrong == []
    assert found_by_verify(place, Tampering("", [], range(0))) == "verify found nothing"
    evidence(
        f"tampering with rows and texts, {database}",
        f"{kinds.total()} of {kinds.total()} found and located by verify, "
        f"{sum(c for kind, c in kinds.items() if 'text' not in kind and 'digest' not in kind)} of "
        f"them in rows, which a replay from the start found too; {len(kinds)} kinds",
    )


class Flipped:
    """A copy of a log's file with one bit changed, looked at without any code of the log's."""

    def __init__(self, file: Path, original: Original) -> None:
        self._file, self._original = file, original

    def damage(self) -> tuple[str, int]:
        """What is not as it was: `rows`, `texts` or `meta` with the first position, or nothing."""
        try:
            with closing(pysqlite3.connect(self._file, isolation_level=None)) as connection:
                rows = "SELECT rowid, originator_id, originator_version, topic, state "
                for want in self._original.rows:
                    query = rows + "FROM stored_events WHERE rowid = ?"
                    if not self._same(connection, query, (want.position,), [tuple(want)]):
                        return "rows", want.position
                last = len(self._original.rows)
                if not self._same(
                    connection, "SELECT max(rowid) FROM stored_events", (), [(last,)]
                ):
                    return "rows", last + 1
                texts = "SELECT sha256, bytes FROM blobs NOT INDEXED ORDER BY rowid"
                query = "SELECT * FROM blobs WHERE sha256 = ?"
                lost = [
                    self._original.spoken[text[0]]
                    for text in self._original.blobs
                    if not self._same(connection, query, (text[0],), [text])
                ]
                if lost:
                    return "texts", min(lost)
                if not self._same(connection, texts, (), self._original.blobs, anyhow=True):
                    return "texts", 0
                return "", 0
        except (pysqlite3.Error, UnicodeDecodeError):
            return "file", 0

    @staticmethod
    def _same(connection: Any, query: str, values: Any, want: Any, *, anyhow: bool = False) -> bool:
        try:
            found = connection.execute(query, values).fetchall()
        except (pysqlite3.Error, UnicodeDecodeError):
            return False
        return sorted(found) == sorted(want) if anyhow else list(found) == list(want)


@pytest.mark.fault("B6", "B8")
def test_every_flipped_bit_of_the_file_is_found_or_belongs_to_no_row(
    tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    whole = Place(tmp_path / "whole", None)
    with closing(whole.open(create=True)) as log:
        original = filled(log, commits=40)
        incarnation = log.incarnation
    data = (tmp_path / "whole" / "log.db").read_bytes()
    assert not (tmp_path / "whole" / "log.db-wal").exists()
    flipped = Place(tmp_path / "flipped", None)
    shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
    file, chance = tmp_path / "flipped" / "log.db", random.Random(SEED)  # noqa: S311
    counts, wrong = Counter[str](), []
    for _ in range(1000 if full else 60):
        bit = chance.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        kind, position = Flipped(file, original).damage()
        for left in tmp_path.glob("flipped/log.db-*"):
            left.unlink()
        said = told(flipped, incarnation)
        counts[fair(kind, position, said, original)] += 1
        if fair(kind, position, said, original) == "wrong":
            wrong.append((bit, kind, position, said))
    assert wrong == []
    assert counts["in rows or texts, found and located"] > 10 * (1 + 20 * full)
    evidence(
        "bits flipped in the log's file (SQLite)",
        f"{counts.total()}: " + "; ".join(f"{n} {what}" for what, n in sorted(counts.items())),
    )


def told(place: Place, incarnation: str) -> LogFailure | str:
    """What `verify` says of a file."""
    try:
        with closing(open_log(place.data, None, write=False)) as log:
            missing = verify(log).missing
            if missing:
                return LogCorrupt("missing", min(missing.values()))
            return "" if log.incarnation == incarnation else "another incarnation"
    except LogFailure as failure:
        return failure


def fair(kind: str, position: int, said: LogFailure | str, original: Original) -> str:
    """In which way it was right, or `wrong`."""
    if isinstance(said, LogUnavailable):
        return "in what makes the file a log at all: refused"
    if said == "another incarnation":
        return "in the name of the incarnation: a start records LogRestored"
    if kind == "":
        return "beside all rows: found by SQLite's check" if said else "of no row: all is the same"
    if not isinstance(said, LogCorrupt):
        return "wrong"
    if kind == "file" or (kind == "texts" and position == 0):
        return "in what makes the file a log at all: refused"
    extent = range(position, position + 1)
    if kind == "rows" and position <= len(original.rows):
        extent = original.commit_of(position)
    return "in rows or texts, found and located" if said.position in extent else "wrong"


def test_a_start_from_a_checkpoint_leaves_what_it_does_not_read_to_verify(
    log: Log, place: Place, tmp_path: Path
) -> None:
    original = filled(log, commits=20)
    head = log.head()
    Checkpoints(tmp_path / "checkpoints").save(head, recover(log, None).cluster)
    log.close()
    row = original.rows[20]
    mark, name = ("%s", "notification_id") if place.url else ("?", "rowid")
    statement = f"UPDATE stored_events SET state = {mark} WHERE {name} = {mark}"  # noqa: S608
    tampering = Tampering("", [(statement, (b"{}", 21))], original.commit_of(row.position))
    with closing(Vandal(place, original)) as vandal:
        vandal.run(tampering.statements)
        with closing(place.open()) as again:
            assert recover(again, tmp_path / "checkpoints").events == 0
        assert found_by_verify(place, tampering) == ""
        assert found_by_replay(place, tampering) == ""
        vandal.undo()


def test_rows_that_went_from_the_end_are_missed_by_sqlite_itself(tmp_path: Path) -> None:
    place = Place(tmp_path, None)
    with closing(place.open(create=True)) as log:
        original = filled(log, commits=10)
    start = original.extents[-2].start
    with closing(Vandal(place, original)) as vandal:
        vandal.run([("DELETE FROM stored_events WHERE rowid >= ?", (start,))])
        with closing(place.open(write=False)) as log, pytest.raises(LogCorrupt) as caught:
            verify(log)
    assert caught.value.position == start
    assert "has been longer" in str(caught.value)


def test_a_text_that_was_changed_is_never_handed_out(log: Log, place: Place) -> None:
    original = filled(log, commits=3)
    digest, text = original.blobs[0]
    assert log.blobs([digest]) == {digest: text}
    mark = "%s" if place.url else "?"
    with closing(Vandal(place, original)) as vandal:
        vandal.run([(f"UPDATE blobs SET bytes = {mark} WHERE sha256 = {mark}", (b"rm", digest))])  # noqa: S608
        assert log.blobs([digest]) == {}
