"""Changes that somebody makes behind the log's back, drawn at random, and where each one lies."""

import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from hashlib import sha256
from typing import Any, NamedTuple

import psycopg
import pysqlite3  # type: ignore[import-untyped]

from ledger.events import EVENTS, Envelope, Fact, JobSpec, JobsSubmitted
from ledger.events import Blob as Text
from ledger.store.chain import Head, Row, decode_header
from ledger.store.log import Draft, Log
from places import Place, job_held

COLUMNS = ("originator_id", "originator_version", "topic", "state")


class Tampering(NamedTuple):
    """Statements with their parameters, and the positions that may be named: those of the commit
    that the changed row belongs to, of both for a swap. `texts` are the digests it is about."""

    kind: str
    statements: Sequence[tuple[str, Sequence[Any]]]
    places: Sequence[int]
    texts: Sequence[str] = ()


class Original(NamedTuple):
    """A log as it was written: its rows, and the first and last position of every commit."""

    rows: Sequence[Row]
    blobs: Sequence[tuple[str, bytes]]
    extents: Sequence[range]
    spoken: dict[str, int]

    def commit_of(self, position: int) -> range:
        """The positions of the commit that a position belongs to."""
        return next(e for e in self.extents if position in e)


def filled(log: Log, commits: int) -> Original:
    """A log of submissions with texts and of small events, as it is stored."""
    spoken: dict[str, int] = {}
    for n in range(1, commits + 1):
        text = f'{{"argv":["/bin/work","{n}"]}}'.encode() * (1 + 40 * (n % 9 == 0))
        digest = sha256(text).hexdigest()
        spec = JobSpec(
            name=f"job-{n}", account="physics", text=Text(sha256=digest, bytes=len(text))
        )
        sent = JobsSubmitted(first_job=n, count=1, user="alice", specs=(spec,), key=f"k{n}")
        facts = [Fact(sent, Envelope(by="alice"))]
        facts += [job_held(n, user=f"user{i}") for i in range(n % 5)]
        head: Head = log.append([Draft(n, 1 + n // 20, facts, {digest: text})])
        spoken[digest] = head.position - len(facts) + 1
    rows = list(log.rows())
    headers = [decode_header(r.data) for r in rows if r.stream == "commit"]
    extents = [range(h.first, h.first + h.count + 1) for h in headers]
    return Original(rows, list(log.all_blobs()), extents, spoken)


class Tamperer:
    """Draws tamperings of a log. `sql` names what differs between the databases."""

    def __init__(self, original: Original, chance: random.Random, position: str, mark: str) -> None:
        self._log, self._chance = original, chance
        self._position, self._mark = position, mark
        self._kinds = (
            self.edit, self.edit, self.bit, self.bit, self.bit, self.swap, self.delete,
            self.delete_commit, self.insert, self.replace, self.move, self.text_edit,
            self.text_bit, self.text_delete, self.header,
        )  # fmt: skip

    def draw(self) -> Tampering:
        """The next one."""
        return self._chance.choice(self._kinds)()

    def _row(self) -> Row:
        return self._chance.choice(self._log.rows)

    def _update(self, column: str, value: Any, position: int) -> tuple[str, Sequence[Any]]:
        text = f"UPDATE stored_events SET {column} = ? WHERE {self._position} = ?"  # noqa: S608
        return self._marked(text), (value, position)

    def _marked(self, text: str) -> str:
        return text.replace("?", self._mark)

    def _at(self, kind: str, position: int, *statements: tuple[str, Sequence[Any]]) -> Tampering:
        return Tampering(kind, statements, self._log.commit_of(position))

    def edit(self) -> Tampering:
        """One column of one row gets another value of the same kind."""
        row, column = self._row(), self._chance.choice(COLUMNS)
        values: dict[str, Any] = {
            "originator_id": f"job-{self._chance.randrange(10**6, 10**7)}",
            "originator_version": row.version + self._chance.choice((10**6, 10**7)),
            "topic": self._chance.choice([n for n in EVENTS if n != row.name]),
            "state": _edited(row.data, self._chance),
        }
        return self._at(
            f"edit of {column}", row.position, self._update(column, values[column], row.position)
        )

    def bit(self) -> Tampering:
        """One bit of one row's bytes."""
        row = self._row()
        data = bytearray(row.data)
        data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        changed = self._update("state", bytes(data), row.position)
        return self._at("bit of state", row.position, changed)

    def header(self) -> Tampering:
        """One number of a header, which stays a header."""
        start = self._chance.choice(self._log.extents).start
        row = self._log.rows[start - 1]
        field = self._chance.choice((b"n", b"first", b"count", b"at", b"epoch"))
        before, _, rest = row.data.partition(b'"%s":' % field)
        number, comma, rest = rest.partition(b",")
        other = int(number) + self._chance.choice((1, 2, 3, 1000, 10**6))
        data = before + b'"%s":%d' % (field, other) + comma + rest
        return self._at("header", start, self._update("state", data, start))

    def swap(self) -> Tampering:
        """Two rows' bytes change places."""
        while True:
            one, other = sorted(self._chance.sample(list(self._log.rows), 2))
            if one.data != other.data:
                break
        changes = (
            self._update("state", other.data, one.position),
            self._update("state", one.data, other.position),
        )
        both = [*self._log.commit_of(one.position), *self._log.commit_of(other.position)]
        return Tampering("swap", changes, both)

    def delete(self) -> Tampering:
        """A row goes, though not the log's last commit whole."""
        return self._gone("deletion", (position := self._row().position), position)

    def delete_commit(self) -> Tampering:
        """A commit goes that is not the last."""
        extent = self._chance.choice(self._log.extents[:-1])
        return self._gone("deleted commit", extent.start, extent.stop - 1)

    def _gone(self, kind: str, first: int, last: int) -> Tampering:
        p = self._position
        text = self._marked(f"DELETE FROM stored_events WHERE {p} BETWEEN ? AND ?")  # noqa: S608
        return self._at(kind, first, (text, (first, last)))

    def insert(self) -> Tampering:
        """A row that nobody wrote, behind the last one."""
        p = self._position
        text = self._marked(
            f"INSERT INTO stored_events ({p}, {', '.join(COLUMNS)}) VALUES (?,?,?,?,?)"  # noqa: S608
        )
        row, end = self._row(), len(self._log.rows)
        ghost = (end + 1, row.stream, end + 1 + (row.stream == "commit"), row.name, row.data)
        return Tampering("insertion", [(text, ghost)], range(end + 1, end + 2))

    def replace(self) -> Tampering:
        """Another event at a position that was taken (SQLite's INSERT OR REPLACE does the same)."""
        row, other = self._row(), self._row()
        while other.data == row.data:
            other = self._row()
        p = self._position
        columns = f"({p}, {', '.join(COLUMNS)})"
        values = (row.position, row.stream, row.version, row.name, other.data)
        if self._mark == "?":
            text = f"INSERT OR REPLACE INTO stored_events {columns} VALUES (?,?,?,?,?)"  # noqa: S608
            return self._at("replacement", row.position, (text, values))
        gone = self._gone("", row.position, row.position).statements[0]
        new = f"INSERT INTO stored_events {columns} VALUES (%s,%s,%s,%s,%s)"  # noqa: S608
        return self._at("replacement", row.position, gone, (new, values))

    def move(self) -> Tampering:
        """A row goes to another position, behind the end."""
        row = self._row()
        p = self._position
        text = self._marked(f"UPDATE stored_events SET {p} = ? WHERE {p} = ?")  # noqa: S608
        return self._at("move", row.position, (text, (len(self._log.rows) + 7, row.position)))

    def _text(self, kind: str, statement: str, values: Sequence[Any], digest: str) -> Tampering:
        position = self._log.spoken[digest]
        places = range(position, position + 1)
        return Tampering(kind, [(self._marked(statement), values)], places, [digest])

    def text_edit(self) -> Tampering:
        """A text becomes another."""
        digest, text = self._chance.choice(self._log.blobs)
        new = _edited(text, self._chance)
        return self._text(
            "edit of a text", "UPDATE blobs SET bytes = ? WHERE sha256 = ?", (new, digest), digest
        )

    def text_bit(self) -> Tampering:
        """One bit of a text, or of the digest that it lies under."""
        digest, text = self._chance.choice(self._log.blobs)
        if self._chance.random() < 0.3:
            other = format(int(digest, 16) ^ 1 << self._chance.randrange(256), "064x")
            statement = "UPDATE blobs SET sha256 = ? WHERE sha256 = ?"
            return self._text("bit of a digest", statement, (other, digest), digest)
        data = bytearray(text)
        data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        statement = "UPDATE blobs SET bytes = ? WHERE sha256 = ?"
        return self._text("bit of a text", statement, (bytes(data), digest), digest)

    def text_delete(self) -> Tampering:
        """A text goes."""
        digest, _ = self._chance.choice(self._log.blobs)
        return self._text("deleted text", "DELETE FROM blobs WHERE sha256 = ?", (digest,), digest)


def _edited(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a piece put in, taken out, or made another."""
    start = chance.randrange(len(data))
    piece = bytes(chance.choices(b'abc0123456789",:{}', k=chance.randrange(1, 9)))
    stop = start + chance.choice((0, 0, len(piece), 3))
    edited = data[:start] + piece + data[stop:]
    return edited if edited != data else data + b" "


TRIGGERS = {
    "sqlite": [
        "DROP TRIGGER stored_events_no_update",
        "DROP TRIGGER stored_events_no_delete",
        "DROP TRIGGER blobs_no_update",
    ],
    "postgres": [
        "DROP TRIGGER stored_events_no_change ON stored_events",
        "DROP TRIGGER blobs_no_change ON blobs",
    ],
}


class Vandal:
    """Somebody with the right to write to the database, who undoes what he did when told to."""

    def __init__(self, place: Place, original: Original) -> None:
        self._original, self._url = original, place.url
        if place.url:
            self._connection: Any = psycopg.connect(place.url, autocommit=True)
        else:
            assert place.data is not None
            path = place.data / "log.db"
            self._connection = pysqlite3.connect(path, isolation_level=None)
        self.run((text, ()) for text in TRIGGERS["postgres" if place.url else "sqlite"])

    def run(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Carry out statements."""
        for text, values in statements:
            self._connection.execute(text, values)

    def undo(self) -> None:
        """Put everything back as it was."""
        mark = "%s" if self._url else "?"
        name = "notification_id" if self._url else "rowid"
        columns = f"({name}, {', '.join(COLUMNS)})"
        with closing(self._connection.cursor()) as cursor:
            cursor.execute("BEGIN")
            for table in ("stored_events", "blobs"):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608
            marks = ",".join([mark] * 5)
            insert = f"INSERT INTO stored_events {columns} VALUES ({marks})"  # noqa: S608
            cursor.executemany(insert, [tuple(row) for row in self._original.rows])
            cursor.executemany(f"INSERT INTO blobs VALUES ({mark},{mark})", self._original.blobs)  # noqa: S608
            if not self._url:
                cursor.execute("UPDATE sqlite_sequence SET seq = ?", [len(self._original.rows)])
            cursor.execute("COMMIT")

    def close(self) -> None:
        """Let go."""
        self._connection.close()
