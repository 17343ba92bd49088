"""What people write for durations, moments, jobs, nodes and directives."""

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cli.request import job
from ledger.cli.sbatch import dependencies, directives, features
from ledger.cli.words import (
    BadWord,
    duration,
    job_word,
    job_words,
    moment,
    node_names,
    shown_duration,
    shown_nodes,
)

NOW = datetime(2026, 11, 20, 15, 30, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("2h30m", 9000),
        ("2H 30M", 9000),
        ("1d", 86_400),
        ("3days", 259_200),
        ("02:30:00", 9000),
        ("30:00", 1800),
        ("1-00:00:00", 86_400),
        ("1-12", 129_600),
        ("1-12:30", 131_400),
    ],
)
def test_a_duration_is_understood(text: str, seconds: int) -> None:
    assert duration(text) == seconds


def test_a_bare_time_limit_is_minutes_as_in_slurm() -> None:
    assert duration("90", bare=60) == 5400
    assert duration("1:30", bare=60) == 90


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "abc", "-5", "1:2:3:4", "5x", "1-", "-1:00", "2h30", "9" * 30, "1.5h", "1-2h"),
        *("٣٠", "1::2", "infinite"),
    ],
)
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(BadWord):
        duration(text)


@given(st.integers(0, 10**9))
def test_a_shown_duration_means_the_same(seconds: int) -> None:
    assert duration(shown_duration(seconds)) == seconds


@given(st.text(max_size=30))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (duration, job_word, features, dependencies, lambda t: moment(t, NOW)):
        try:
            parse(text)
        except BadWord as error:
            assert str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "ahead", "wanted"),
    [
        ("now", False, NOW),
        ("-2h", False, NOW - timedelta(hours=2)),
        ("+90", True, NOW + timedelta(seconds=90)),
        ("now+1hour", True, NOW + timedelta(hours=1)),
        ("now-2days", False, NOW - timedelta(days=2)),
        ("2026-11-20T10:00:00Z", False, datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00", False, NOW.replace(hour=10, minute=0)),
        ("2026-11-20", False, NOW.replace(hour=0, minute=0)),
        ("10:00", False, NOW.replace(hour=10, minute=0)),
        ("10:00", True, NOW.replace(day=21, hour=10, minute=0)),
        ("16:00", False, NOW.replace(day=19, hour=16, minute=0)),
        ("16:00:30", True, NOW.replace(hour=16, minute=0, second=30)),
        ("tomorrow", True, NOW.replace(day=21, hour=0, minute=0)),
        ("yesterday", False, NOW.replace(day=19, hour=0, minute=0)),
        ("Yesterday 10:05", False, NOW.replace(day=19, hour=10, minute=5)),
        ("today 16:00", False, NOW.replace(hour=16, minute=0)),
        ("tuesday", False, NOW.replace(day=17, hour=0, minute=0)),
        ("last Tuesday 9:30", False, NOW.replace(day=17, hour=9, minute=30)),
        ("friday", False, NOW.replace(day=13, hour=0, minute=0)),
        ("friday", True, NOW.replace(day=27, hour=0, minute=0)),
        ("monday 8:00", True, NOW.replace(day=23, hour=8, minute=0)),
    ],
)
def test_a_moment_is_understood(text: str, ahead: bool, wanted: datetime) -> None:
    assert moment(text, NOW, ahead=ahead) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday-ish",
        "yesterday 25:00",
        "last",
        "tuesday noon",
        "25:00",
        "2026-13-01",
        "-",
        "now+",
        "+x",
    ],
)
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(BadWord):
        moment(text, NOW)


def test_jobs_and_nodes_are_named() -> None:
    assert job_word("17") == "17"
    assert job_word("17_3") == "17_3"
    for bad in ("0", "x", "17_", "17-3", "-1", "1 7"):
        with pytest.raises(BadWord):
            job_word(bad)
    many = ["17", "17_[1-3,8]", "17_2", "18_[0-9:4]"]
    assert job_words(many) == ["17", *("17_1", "17_2", "17_3", "17_8"), *("18_0", "18_4", "18_8")]
    for bad in ("17_[", "17_[]", "17_[1-3", "17_*", "17_[1-999999]", "17,18", "@a[1]", ""):
        with pytest.raises(BadWord, match=re.escape(repr(bad))):
            job_words([bad])
    assert node_names("n3,n[7-9]") == ("n3", "n7", "n8", "n9")
    for bad in ("", "n[", "n[9-7]", "n[1-999999999]"):
        with pytest.raises(BadWord):
            node_names(bad)


@given(st.sets(st.integers(0, 3000), min_size=1, max_size=40))
def test_folded_nodes_unfold(numbers: set[int]) -> None:
    names = [f"n{number}" for number in numbers]
    assert set(node_names(shown_nodes(names))) == set(names)


SCRIPT = """#!/bin/sh
# a remark
#SBATCH -J arr -a 0-3 --time=1:00:00
#SBATCH --nodes 2   # two of them
#JOBLEDGER --requeue

#SBATCH -C 'gpu&big' -x n[1-2] -d afterok:1:2,afterany:3
#SBATCH --mem=4G --gres gpu:1 --exclusive -c 4
#SBATCH -q long -H -Aphysics
echo hello
#SBATCH --job-name=too-late
"""


def test_a_scripts_directives_are_read() -> None:
    found = directives(SCRIPT)
    assert found.options == {
        "job-name": "arr",
        "array": "0-3",
        "time": "1:00:00",
        "nodes": "2",
        "requeue": None,
        "constraint": "gpu&big",
        "exclude": "n[1-2]",
        "dependency": "afterok:1:2,afterany:3",
        "qos": "long",
        "hold": None,
        "account": "physics",
    }
    assert found.ignored == ["--mem=4G", "--gres gpu:1", "--exclusive", "-c 4"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("#SBATCH -J 'open", "Line 2"),
        ("#SBATCH words", "'words'"),
        ("#SBATCH --nodes", "no value for --nodes"),
    ],
)
def test_a_broken_directive_is_named(text: str, told: str) -> None:
    with pytest.raises(BadWord, match=told):
        directives(f"#!/bin/sh\n{text}\n")


def test_options_become_a_job() -> None:
    options = directives(SCRIPT).options | {"begin": "16:00", "chdir": "sub", "output": "out.txt"}
    made, remarks = job(options, script=SCRIPT, now=NOW, here=Path("/base"))
    assert (made.name, made.array, made.time_limit_s, made.nodes) == ("arr", "0-3", 3600, 2)
    assert (made.restartable, made.held, made.account, made.qos) == (True, True, "physics", "long")
    assert (made.features, made.exclude) == (("gpu", "big"), ("n1", "n2"))
    assert [(d.kind, d.job) for d in made.depends] == [
        ("afterok", 1),
        ("afterok", 2),
        ("afterany", 3),
    ]
    assert made.begin_at == datetime(2026, 11, 20, 14, tzinfo=UTC)
    assert (made.workdir, made.output_path) == ("/base/sub", "/base/sub/out.txt")
    assert remarks == []


def test_what_is_not_carried_out_is_said() -> None:
    made, remarks = job(
        {"output": "slurm-%j.out", "array": "0-9%2"}, argv=("true",), now=NOW, here=Path("/")
    )
    assert (made.output_path, made.array) == ("", "0-9")
    assert len(remarks) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nodes": "2-4"}, "--nodes"),
        ({"nodes": "0"}, "--nodes"),
        ({"account": "a b"}, "--account: 'a b' is not a name"),
        ({"time": "soon"}, "--time"),
        ({"time": "0"}, "--time"),
        ({"constraint": "a|b"}, "--constraint"),
        ({"dependency": "singleton"}, "--dependency"),
        ({"job-name": "a\x1bb"}, "--job-name"),
        ({"array": "x"}, "--array: 'x' is not a list of indices"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str | None], told: str) -> None:
    with pytest.raises(BadWord, match=told):
        job(options, argv=("true",), now=NOW, here=Path("/"))
