"""The tests that hold for every projection, ours and yours.

    from ledger.testing.projections import ProjectionTests

    from my_package.my_projection import PROJECTION

    class TestMine(ProjectionTests):
        projection = PROJECTION

pytest then asks: is what was followed, in batches of any size and by processes that end after any
commit, what the log comes to when it is folded from scratch? Is every row one that all databases
can hold, made by nothing but its event? Has every question an answer that can be sent, now and as
of any time, also while there is nothing to tell? The fixture `where` says where the tables lie: in
a SQLite file each. No database server is needed.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal, NamedTuple, get_args, get_origin

import msgspec
import pytest

from ledger.commands import SYSTEM, AnswerAbuse, NoteAbuse, SetPolicy
from ledger.events import Blob, Recorded
from ledger.projection import Projection, Table
from ledger.projection.asking import Parameter, questions, written
from ledger.projection.fold import dump, fold, in_order
from ledger.projection.follower import Follower
from ledger.projection.past import Pasts
from ledger.projection.source import Source, batch
from ledger.projection.store import Store
from ledger.testing import golden
from ledger.testing.memory_log import Disk, MemoryLog
from ledger.testing.stories import OPERATOR, Story, Wanderer

NOTE = Blob(sha256="e" * 64, bytes=5)
LIMIT_S = 60.0
DIGEST = """
import importlib, sys
sys.path[:0] = sys.argv[2:]
from ledger.testing.projections import digest
print(digest(importlib.import_module(sys.argv[1]).PROJECTION))
"""
SAMPLES: dict[Any, Any] = {int: 1, str: "ann", bool: True, float: 0.5}
_encode = msgspec.json.Encoder().encode


class Where(NamedTuple):
    """Where tables lie: below a directory, or in a PostgreSQL database."""

    data: Path | None
    url: str | None


@cache
def everything() -> Story:
    """A story in which every event there is happens once at least. To be read only."""
    return golden.told()


def wandered(seed: int, steps: int) -> Story:
    """A story that took its course: jobs, nodes and people, at random but for the seed; now and
    then somebody breaks the rules of use, and is answered."""
    story = Story()
    rules = {"abuse_submissions_per_min": 1, "abuse_fail_jobs": 3, "abuse_idle_node_s": 60}
    story.ask(OPERATOR, SetPolicy(**rules, abuse_fail_percent=30, abuse_fail_within_s=600))
    wanderer = Wanderer(story, Random(seed))  # noqa: S311
    for step in range(steps):
        wanderer.walk(1)
        for user, rule in sorted(story.cluster.watch.due):
            story.ask(SYSTEM, NoteAbuse(user=user, rule=rule))
        if step % 20 == 0 and (last := story.cluster.watch.findings):
            story.ask(OPERATOR, AnswerAbuse(finding=last, note=NOTE if step % 40 else None))
    return story


def log_of(story: Story) -> MemoryLog:
    """A story as a log."""
    log = MemoryLog(Disk(story.incarnation))
    story.append_to(log)
    return log


def folded(projection: Projection, source: Source) -> bytes:
    """The canonical bytes of a whole log's fold, made without a database."""
    return dump(projection, in_order(fold(projection, source.read())))


def digest(projection: Projection) -> str:
    """What a story comes to that has everything in it, in 64 digits."""
    return sha256(folded(projection, log_of(everything()))).hexdigest()


def kept(projection: Projection, where: Any, source: Source) -> Follower:
    """A projection in a place, following a log; nothing is taken in yet."""
    return Follower(projection, Store(projection, where.data, where.url), source)


def held(follower: Follower) -> bytes:
    """The canonical bytes of what the database holds."""
    return follower._store.dump()[1]


def answer(follower: Follower, query: str, asked: Mapping[str, Any]) -> Any:
    """What a query gives; the words of the ValueError that it may be refused with."""
    with follower._store._engine.begin() as connection:
        try:
            return follower.projection.queries[query](connection, **asked)
        except ValueError as error:
            return str(error)


def close(*followers: Follower) -> None:
    """Let go of the database."""
    for follower in followers:
        follower._store.close()


class ProjectionTests:
    """Subclass it, and name your `projection`.

    `questions` adds to the parameters that its queries are asked with, by the query's name.
    """

    projection: ClassVar[Projection]
    questions: ClassVar[Mapping[str, Sequence[Mapping[str, Any]]]] = {}

    def stories(self) -> list[Story]:
        """What is told to it: a story with every event in it, and one that took its course.

        Add one in which your events happen as they matter to you.
        """
        return [everything(), wandered(1, 120)]

    @pytest.fixture
    def where(self, tmp_path: Path) -> Any:
        """Where its tables lie."""
        return Where(tmp_path, None)

    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_followed_is_rebuilt_is_folded(self, size: int, where: Any) -> None:
        """However events are cut into batches, and however often it is made again."""
        for log in map(log_of, self.stories()):
            follower = kept(self.projection, where, log)
            wanted = folded(self.projection, log)
            while follower.step(lambda after, log=log: batch(log, after, size)):  # type: ignore[misc]
                pass
            assert follower.checkpoint.error == ""
            assert follower.checkpoint.position == log.head().position
            assert held(follower) == wanted
            follower.rebuild()
            follower.catch_up()
            assert held(follower) == wanted, "made again, it is the same"
            assert follower.verify()
            follower.rebuild()
            close(follower)

    def test_killed_after_any_commit_it_goes_on(self, tmp_path: Path) -> None:
        """A new process at every commit: nothing that counts is in memory only."""
        disk, where = log_of(wandered(11, 60)).disk, Where(tmp_path, None)
        for commit in range(1, len(disk.heads)):
            log = MemoryLog(disk.copy(disk.incarnation, commit))
            follower = kept(self.projection, where, log)
            follower.catch_up()
            assert held(follower) == folded(self.projection, log), f"commit {commit}"
            close(follower)

    def test_every_event_it_reads_is_told_of(self) -> None:
        """Else these tests say nothing about what it makes of it."""
        told = {type(r.event) for story in self.stories() for r in story.events}
        missing = [event.__name__ for event in self.projection.events if event not in told]
        assert missing == [], "add a story in which these happen: `stories`"

    def test_rows_are_made_of_their_event_alone(self) -> None:
        """Asked again, `keys` and `evolve` say the same, and change nothing that they are given."""
        for table, r, key, row in self._steps():
            before = _encode((r, row))
            one, other = (table.evolve(key, row, r) for _ in range(2))
            assert one == other
            assert _encode((r, row)) == before, "an argument was changed"

    def test_keys_are_distinct_and_are_their_rows_keys(self) -> None:
        """The engine finds a row again under the key that it was made for."""
        for story, table in product(self.stories(), self.projection.tables):
            for r in story.events:
                if type(r.event) in table.events:
                    keys = list(table.keys(r))
                    assert len(keys) == len(set(keys)), f"{table.name}: {r.event}"
        for table, r, key, row in self._steps():
            made = table.evolve(key, row, r)
            if made is not None:
                assert msgspec.structs.astuple(made)[: table.key] == tuple(key), table.name

    def test_every_database_can_hold_the_rows(self) -> None:
        """64 bits, no NUL, nothing missing; and what is written down as JSON comes back."""
        for table, r, key, row in self._steps():
            made = table.evolve(key, row, r)
            if made is not None:
                table.check(made)
                assert table.read(table.stored(made)) == made, table.name

    def test_neither_hash_seed_nor_time_zone_shows(self) -> None:
        """Another process, elsewhere, makes the same of the same log."""
        module = _module_of(self.projection)
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, module, *sys.path],
            env={**os.environ, "PYTHONHASHSEED": "4242", "TZ": "America/Caracas"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == digest(self.projection), done.stderr

    def test_every_question_has_an_answer(self, where: Any) -> None:
        """One that can be sent; also from tables in which there is nothing yet."""
        for log in (log_of(Story()), *map(log_of, self.stories())):
            follower = kept(self.projection, where, log)
            follower.rebuild()
            for caught_up in (False, True):
                if caught_up:
                    follower.catch_up()
                for query, asked in self._questions():
                    assert written(answer(follower, query, asked)), query
            close(follower)

    def test_the_past_is_what_a_follower_held(self, where: Any) -> None:
        """At any position, every question is answered as a follower would have that stopped there.

        A position within a commit means the commit before. Skips apart, which the engine obeys.
        """
        disk, rng = log_of(wandered(5, 120)).disk, Random(1)  # noqa: S311
        whole = MemoryLog(disk)
        forwards, backwards = (
            Pasts({self.projection.name: self.projection}, lambda: nullcontext(whole))
            for _ in range(2)
        )
        ends = sorted(whole.commit_before(rng.randrange(whole.head().position)) for _ in range(4))
        wanted: dict[int, list[Any]] = {}
        for end in dict.fromkeys((*ends, whole.head().position)):
            commit = next(n for n, head in enumerate(disk.heads) if head.position == end)
            follower = kept(self.projection, where, MemoryLog(disk.copy(disk.incarnation, commit)))
            follower.catch_up()
            wanted[end] = [answer(follower, *question) for question in self._questions()]
            close(follower)
        for pasts, order in ((forwards, list(wanted)), (backwards, list(wanted)[::-1])):
            for end in order:
                told = [self._then(pasts, end, *question) for question in self._questions()]
                assert told == wanted[end], f"as of {end}"

    def _then(self, pasts: Pasts, end: int, query: str, asked: Mapping[str, Any]) -> Any:
        try:
            return pasts.ask(self.projection.name, query, end, LIMIT_S, **asked).value
        except ValueError as error:
            return str(error)

    def _steps(self) -> Iterator[tuple[Table[Any], Recorded, Any, Any]]:
        """Each step of each fold: the table, the event, a key that it touches, the row before."""
        for story in self.stories():
            for table in self.projection.tables:
                rows: dict[Any, Any] = {}
                for r in story.events:
                    for key in table.keys(r) if type(r.event) in table.events else ():
                        yield table, r, key, rows.get(key)
                        rows[key] = table.evolve(key, rows.get(key), r)

    def _questions(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each query with what it needs, with each parameter that may be left out, and as told."""
        found: list[tuple[str, Mapping[str, Any]]] = []
        for one in questions(self.projection):
            given = {p.name: _sample(p) for p in one.parameters}
            needed = {p.name: given[p.name] for p in one.parameters if p.required}
            found.append((one.name, needed))
            found += [
                (one.name, {**needed, p.name: given[p.name]})
                for p in one.parameters
                if not p.required and given[p.name] is not None
            ]
            found += [(one.name, asked) for asked in self.questions.get(one.name, ())]
        return found


def _sample(parameter: Parameter) -> Any:
    """A value for a parameter; None if none is known, which one that is needed may not be."""
    kinds = [arg for arg in get_args(parameter.kind) if arg is not type(None)]
    bare = kinds[0] if type(None) in get_args(parameter.kind) and len(kinds) == 1 else (
        parameter.kind
    )  # fmt: skip
    if get_origin(bare) is Literal:
        return get_args(bare)[0]
    if parameter.many:
        inner = _sample(parameter._replace(kind=(get_args(bare) or (str,))[0], many=False))
        return None if inner is None else [inner]
    found = SAMPLES.get(bare)
    if found is None and parameter.required:
        pytest.fail(f"say in `questions` how to ask with {parameter.name}: {parameter.words}")
    return found


def _module_of(projection: Projection) -> str:
    """The name by which another process can import a projection's module."""
    for name, module in list(sys.modules.items()):
        if getattr(module, "PROJECTION", None) is projection and importlib.util.find_spec(name):
            return name
    pytest.skip("its module can't be imported by a name")
