"""Records out of what sacct prints, which quotes nothing."""

import pytest

from ledger.importing.rows import OPEN_XDMOD, NoHeader, Record, layout, records

HEADER = "JobID|State|Submit|Start|End|User|NNodes|JobName"


def found(*lines: str, header: str = HEADER) -> tuple[list[Record], list[int]]:
    """The records of some lines behind a header, and the lines that are part of none."""
    lost: list[int] = []
    form = layout(header)
    made = list(records([header, *lines], form, lambda line, text: lost.append(line)))
    return made, lost


def line(name: str = "run", job: str = "17", user: str = "ann") -> str:
    """A record of one line."""
    times = "2026-01-01T10:00:00|2026-01-01T10:01:00|2026-01-01T11:00:00"
    return f"{job}|COMPLETED|{times}|{user}|1|{name}"


@pytest.mark.parametrize(
    "name", ["run", "", "a|b", "a||b|", "two\nlines", "a|b\nc|d", "\n\n", "ends with\n", "|\n|"]
)
def test_a_name_may_be_anything(name: str) -> None:
    made, lost = found(line(), *line(name).split("\n"), line("last", job="18"))
    assert [record.values["jobname"].rstrip("\n") for record in made] == [
        "run",
        name.rstrip("\n"),
        "last",
    ]
    assert lost == []


def test_a_text_in_the_middle_may_hold_lines_and_delimiters() -> None:
    header = "JobID|SubmitLine|State|Submit|Start|End|User"
    rest = "COMPLETED|2026-01-01T10:00:00|Unknown|2026-01-01T11:00:00|ann"
    text = "sbatch <<E\n#!/bin/sh\ncat a | wc | tee b\nE"
    made, lost = found(*f"1|{text}|{rest}".split("\n"), f"2|sbatch x|{rest}", header=header)
    assert [record.values["submitline"] for record in made] == [text, "sbatch x"]
    assert [record.line for record in made] == [2, 6]
    assert lost == []


def test_a_line_that_is_no_record_is_said_and_costs_no_other() -> None:
    header = "JobID|JobName|State|Submit|Start|End|User|NNodes"
    good = "1|x|COMPLETED|2026-01-01T10:00:00|None|2026-01-01T11:00:00|ann|1"
    made, lost = found(good, "?|nonsense", "2" + good[1:], header=header)
    assert [record.values["jobid"] for record in made] == ["1", "2"]
    assert lost == [3]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("mark", ["|", "\u2603", "\t", ";", ","])
def test_the_delimiter_is_found_out(mark: str, closed: bool) -> None:
    lines = [text.replace("|", mark) + mark * closed for text in (HEADER, line(""), line())]
    form = layout(lines[0])
    assert (form.delimiter, form.header, form.closed) == (mark, True, closed)
    made = list(records(lines, form, lambda line, text: pytest.fail(text)))
    assert [record.values["jobname"] for record in made] == ["", "run"]


def test_columns_can_be_named() -> None:
    form = layout(line("a|b"), HEADER.split("|"))
    (record,) = records([line("a|b")], form, lambda line, text: pytest.fail(text))
    assert (record.values["jobname"], form.header) == ("a|b", False)


def test_open_xdmods_layout_is_known_and_no_other_is_guessed() -> None:
    row = "1|1|c|p|q|a|g|9|ann|9|2026-01-01T10:00:00|Unknown|2026-01-01T10:00:00|"
    row += "2026-01-01T11:00:00|01:00:00|0:0|COMPLETED|1|8|8|4Gn|cpu=8|cpu=8|UNLIMITED|n1|x"
    assert layout(row).columns == OPEN_XDMOD
    for other in ("", "a|b|c", row.replace("COMPLETED", "done"), row.partition("|")[2]):
        with pytest.raises(NoHeader):
            layout(other)
