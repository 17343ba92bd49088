"""What a terminal would obey is never written as it came; traces are read strictly."""

import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cli.text import json_text, line, lines
from ledger.importing.trace import BadTrace, TraceJob, parse, read

NASTY = "a\x1b[31m\r\n\x00\x07\x9b\u202e\u2066\u200b\ud800ß日本"
ANY = st.text(st.characters(codec=None))


def test_control_and_direction_characters_are_shown() -> None:
    assert line(NASTY) == (r"a\x1b[31m\x0d\x0a\x00\x07\x9b\u202e\u2066\u200b\ud800" "ß日本")
    assert lines("a\tb\nc\x1b") == "a\tb\nc\\x1b"


@given(ANY)
def test_nothing_that_moves_the_cursor_is_left(text: str) -> None:
    shown = line(text)
    assert not any(
        ord(ch) < 32 or 127 <= ord(ch) < 160 or 0xD800 <= ord(ch) < 0xE000 for ch in shown
    )
    shown.encode()


@given(st.recursive(ANY | st.integers() | st.none(), st.lists, max_leaves=5))
def test_json_is_safe_and_means_the_same(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == json.loads(json.dumps(value))
    assert line(text) == text


TRACE = b"""; UnixStartTime: 0
;
 1 0 -1 100 4 -1 -1 4 200 -1 1 7 7 -1 -1 -1 -1 -1
2\t60\t-1\t-1\t-1\t-1\t-1\t8\t-1\t-1\t1\t-1\t7\t-1\t-1\t-1\t-1\t-1

3 61 0 5.7 1 1.0 1024 1 0 -1 1 9 1 -1 -1 1 -1 -1 {12,13} q_1d 1:ppn=1
"""


def test_a_trace_is_read(tmp_path: Path) -> None:
    wanted = [
        TraceJob(1, 0, 100, 4, 200, "u7", status=1, group=7),
        TraceJob(2, 60, 0, 8, 1, "unknown", status=1, group=7),
        TraceJob(3, 61, 5, 1, 5, "u9", 0, 1, 1, partition=1, nodes=("n12", "n13")),
    ]
    assert list(parse(io.BytesIO(TRACE))) == wanted
    packed = tmp_path / "t.swf.gz"
    packed.write_bytes(gzip.compress(TRACE))
    assert list(read(packed)) == wanted
    packed.write_bytes(gzip.compress(TRACE)[:-20])
    with pytest.raises(BadTrace):
        list(read(packed))


@pytest.mark.parametrize(
    "bad",
    [
        b"1 2 3",
        b"1 0 -1 x 4 -1 -1 4 200 -1 1 7 7 -1 -1 -1 -1 -1",
        b"1 0 -1 nan 4 -1 -1 4 200 -1 1 7 7 -1 -1 -1 -1 -1",
        b"1 0 -1 1e400 4 -1 -1 4 200 -1 1 7 7 -1 -1 -1 -1 -1",
        b"1 -1 -1 100 4 -1 -1 4 200 -1 1 7 7 -1 -1 -1 -1 -1",
        b"\x00\xff" * 100_000,
    ],
)
def test_a_line_that_is_none_is_named(bad: bytes) -> None:
    with pytest.raises(BadTrace, match="line 7") as caught:
        list(parse(io.BytesIO(TRACE + bad + b"\n")))
    assert caught.value.line == 7


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_read(data: bytes) -> None:
    try:
        list(parse(io.BytesIO(data)))
    except BadTrace as bad:
        assert bad.line >= 1  # noqa: PT017
