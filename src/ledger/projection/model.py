"""What a projection is: tables that are folds of the log, under one name and version.

A table is declared by its row, a frozen `msgspec.Struct` whose first fields are its key. A field
may be `int`, `str`, `bool`, any of them or None, or anything else that msgspec can write down: that
is kept as JSON. Fields that no query looks for may be kept together, in one column: a row of many
columns costs most where it is written. The functions of a table are pure: they read the event and
the row, nothing else.
"""

import copy
import inspect
import re
import types
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
import sqlalchemy as sa
from msgspec.structs import astuple, fields

from ledger.events import Event, Recorded

Key = tuple[int | str, ...]
R = TypeVar("R", bound=msgspec.Struct)

AskedBy = Literal["operators", "owners", "anyone"]
"""Who may ask a projection by its own route. `owners`: users too, where a query takes a `user`, and
of themselves only."""

OF_ALL = frozenset({"at", "at_position", "at_least", "stale"})
RESERVED = OF_ALL | {"url", "data", "format", "help"}
"""Parameters that every question has, over HTTP or as a command: no query's own may be called so.
"""

SCHEMA = "projections"
"""The schema of all projections' tables in PostgreSQL; SQLite has a file for each projection."""

REST = "rest"
"""The column of a row's fields that have none of their own."""

_json = msgspec.json.Encoder()


class Json(sa.types.TypeDecorator[Any]):
    """A value that msgspec can write down, as its JSON in a text column.

    SQLAlchemy tells one from another by its `kind`: a query with such a column is put into words
    once, not each time that it is asked.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, kind: Any = None) -> None:
        super().__init__()
        self.kind = kind
        self.decoder = msgspec.json.Decoder(kind)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """To the database."""
        return None if value is None else _json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """From the database."""
        return None if value is None else self.decoder.decode(value)


class Column(NamedTuple):
    """A field of a row as a column; `decoder` is there for one that is kept as JSON."""

    name: str
    kind: Literal["int", "str", "bool", "json"]
    nullable: bool
    decoder: msgspec.json.Decoder[Any] | None


class Table(Generic[R]):
    """One table: `row` and how it comes about.

    `key`: how many of the row's first fields are its key. `events`: the classes that can touch the
    table. `keys(recorded)`: the distinct keys of the rows that an event touches, out of the event
    alone. `evolve(key, row, recorded)`: the row after the event; None: there is none. `indexes`:
    columns by which it is looked up otherwise than by its key. `columns`: how many of the row's
    first fields have a column of their own, if not all; the others are kept in `rest`, as a JSON
    array, where no query finds them.
    """

    def __init__(
        self,
        name: str,
        row: type[R],
        *,
        key: int,
        events: Iterable[type[Event]],
        keys: Callable[[Recorded], Iterable[Key]],
        evolve: Callable[[Any, R | None, Recorded], R | None],
        indexes: Iterable[tuple[str, ...]] = (),
        columns: int | None = None,
    ) -> None:
        self.name, self.row, self.key = name, row, key
        self.events = frozenset(events)
        self.keys, self.evolve = keys, evolve
        self.indexes = tuple(indexes)
        own = [(f.name, f.type) for f in fields(row)]
        self._own = len(own) if columns is None else columns
        assert key <= self._own <= len(own), f"{name}: {columns} columns of {len(own)} fields"
        own, self.rest = own[: self._own], tuple(own[self._own :])
        if self.rest:
            own.append((REST, tuple[tuple(kind for _, kind in self.rest)]))  # type: ignore[misc]
        self._types = tuple(kind for _, kind in own)
        self.columns = tuple(_column(*field) for field in own)
        self._kept_as_json = [i for i, c in enumerate(self.columns) if c.kind == "json"]
        self._read_as = [
            (i, bool if c.kind == "bool" else c.decoder.decode if c.decoder else None)
            for i, c in enumerate(self.columns)
            if c.kind in ("bool", "json")
        ]
        self._sql: sa.Table | None = None

    def bind(self, metadata: sa.MetaData, name: str) -> None:
        """Give the table its name in the database."""
        text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
        types_: dict[str, Any] = {"int": sa.BigInteger(), "bool": sa.Boolean(), "str": text}
        columns: list[sa.Column[Any]] = [
            sa.Column(
                c.name,
                Json(kind) if c.kind == "json" else types_[c.kind],
                primary_key=i < self.key,
                autoincrement=False,
                nullable=c.nullable,
            )
            for i, (c, kind) in enumerate(zip(self.columns, self._types, strict=True))
        ]
        indexes = [sa.Index(f"{name}_{'_'.join(index)}", *index) for index in self.indexes]
        plain = self.key == 1 and self.columns[0].kind == "int"
        if plain:  # SQLite's own number of a row is the key then, and needs no index beside it
            columns[0].type = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
        self._sql = sa.Table(
            name, metadata, *columns, *indexes, schema=SCHEMA, sqlite_with_rowid=plain
        )

    @property
    def sql(self) -> sa.Table:
        """The table for queries, once it belongs to a projection."""
        assert self._sql is not None, f"the table {self.name} belongs to no projection"
        return self._sql

    @property
    def c(self) -> Any:
        """The columns for queries."""
        return self.sql.c

    def select(self) -> sa.Select[Any]:
        """All columns, to be narrowed; `rows` gives what it finds."""
        return sa.select(*(self.sql.c[c.name] for c in self.columns))

    def rows(self, connection: sa.Connection, query: sa.Select[Any]) -> list[R]:
        """The rows that a query made by `select` finds."""
        found = connection.execute(query)
        if self.rest:
            return [self.row(*own, *rest) for *own, rest in found]
        return [self.row(*values) for values in found]

    def stored(self, row: R) -> list[Any]:
        """A row as the database takes it."""
        values = list(astuple(row))
        if self.rest:
            values[self._own :] = (values[self._own :],)
        for i in self._kept_as_json:
            value = values[i]
            if value == ():  # most are
                values[i] = "[]"
            elif value is not None:
                values[i] = _json.encode(value).decode()
        return values

    def read(self, stored: Iterable[Any]) -> R:
        """A row out of what the database gives."""
        values = list(stored)
        for i, make in self._read_as:
            if values[i] is not None and make is not None:
                values[i] = make(values[i])
        return self.row(*values[: self._own], *(values[-1] if self.rest else ()))

    def check(self, row: R) -> None:
        """Raise ValueError for a row that not every database of ours can hold."""
        for column, value in zip(self.columns, self.stored(row), strict=True):
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{self.name}.{column.name} has a NUL: {value!r}")
            if isinstance(value, str):
                value.encode()
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise ValueError(f"{self.name}.{column.name} has more than 64 bits: {value}")
            elif value is None and not column.nullable:
                raise ValueError(f"{self.name}.{column.name} may not be None")


class Projection:
    """A name, a version, and tables. A module that is one names it `PROJECTION`.

    `question` is its module's docstring up to the first empty line, once it was found there.
    `queries` are the functions that answer its question: `query(connection, **parameters)`;
    `asked_by` says who may put them by their own route. `by_job` are those that take a `job` and
    read only rows that events of this job make, or its submission: what they gave in the past is
    found without reading the whole log. Another `version` is other tables, built from the log:
    raise it whenever `keys`, `evolve` or a row would come out otherwise.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int,
        tables: Iterable[Table[Any]],
        queries: Iterable[Callable[..., Any]] = (),
        by_job: Iterable[Callable[..., Any]] = (),
        asked_by: AskedBy = "operators",
        mark: str = "",
    ) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", name) or re.search(r"_v\d", name) or version < 1:
            raise ValueError(f"a projection can't be called {name!r} version {version}")
        self.name, self.version, self.tables = name, version, tuple(tables)
        self.queries = {query.__name__: query for query in queries}
        self.question = ""
        self._mark = mark
        self.by_job = frozenset(query.__name__ for query in by_job)
        self.asked_by = asked_by
        for query in self.queries.values():
            _check_query(query, by_job=query.__name__ in self.by_job)
        self.metadata = sa.MetaData()
        for table in self.tables:
            table.bind(self.metadata, f"{self.id}_{table.name}")
        self.events = frozenset(event for table in self.tables for event in table.events)

    @property
    def id(self) -> str:
        """Name and version in one word, and what marks a twin."""
        return f"{self.name}_v{self.version}{self._mark}"

    @property
    def is_twin(self) -> bool:
        """Is it one that a rebuild fills, beside the one that answers?"""
        return bool(self._mark)

    def twin(self) -> "Projection":
        """The same fold into tables of other names, without indexes: what a rebuild fills."""
        tables = [copy.copy(table) for table in self.tables]
        for table in tables:
            table.indexes = ()
        return Projection(self.name, version=self.version, tables=tables, mark="new")

    @property
    def shape(self) -> str:
        """A digest of the tables' fields and indexes: other code may have other ones."""
        told = [
            (t.name, t.key, [c[:3] for c in t.columns], t.indexes, *map(str, t.rest))
            for t in self.tables
        ]
        return sha256(_json.encode(told)).hexdigest()


def _check_query(query: Callable[..., Any], *, by_job: bool) -> None:
    """Raise ValueError for a query that could not be asked by the names of its parameters."""
    _, *rest = inspect.signature(query).parameters.values()
    for p in rest:
        if p.name in RESERVED:
            raise ValueError(f"{query.__name__}: every question has a parameter {p.name} already")
        if p.kind not in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            raise ValueError(f"{query.__name__}: {p.name} can't be given by its name")
    if by_job and "job" not in (p.name for p in rest):
        raise ValueError(f"{query.__name__} is about one job, and has no parameter job")


def _column(name: str, kind: Any) -> Column:
    nullable = False
    if get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
        nullable = True
        rest = [arg for arg in get_args(kind) if arg is not type(None)]
        kind = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007
    if get_origin(kind) is Literal:
        kind = type(get_args(kind)[0])
    if kind is bool:
        return Column(name, "bool", nullable, None)
    if kind is int:
        return Column(name, "int", nullable, None)
    if kind is str:
        return Column(name, "str", nullable, None)
    return Column(name, "json", nullable, msgspec.json.Decoder(kind))
