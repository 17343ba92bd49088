"""Every finding stands in the table, with what was said to it; users find their own."""

import pytest

from ledger.events import AbuseAnswered, AbuseFound
from ledger_projections import abuse
from places import Place
from projection.keeping import Told, ask, close, kept, wandered


@pytest.mark.parametrize("seed", [2, 3])
def test_every_finding_of_a_long_story(seed: int, place: Place) -> None:
    story = wandered(seed, 600)
    follower = kept(abuse.PROJECTION, place, Told(story))
    follower.catch_up()
    found = [(r, e) for r in story.events if isinstance(e := r.event, AbuseFound)]
    answered = [(r.at, e) for r in story.events if isinstance(e := r.event, AbuseAnswered)]
    assert len(found) > 5
    assert {e.rule for _, e in found} == {"submissions", "failing", "idle"}
    rows, more = ask(follower, abuse.findings, limit=1_000)
    assert more is None
    for row, (r, e) in zip(rows, reversed(found), strict=True):
        assert row.found_at == r.at
        assert {name: getattr(row, name) for name in e.__struct_fields__} == {
            name: getattr(e, name) for name in e.__struct_fields__
        }
        its = [(at, a) for at, a in answered if a.finding == e.finding]
        at, last = its[-1] if its else (None, None)
        assert row.answers == len(its)
        assert (row.answered_at, row.answered_by) == (at, "root" if last else "")
        assert row.note_sha256 == (last.note.sha256 if last and last.note else "")
        assert ask(follower, abuse.show_finding, row.finding) == row
    check_filters(follower, rows)
    close(follower)


def check_filters(follower: object, rows: list[abuse.FindingRow]) -> None:
    """By user, by rule, what is not answered, page by page."""
    for user in ("ann", "bob", "nobody"):
        mine, _ = ask(follower, abuse.findings, user=user, limit=1_000)  # type: ignore[arg-type]
        assert mine == [row for row in rows if row.user == user]
    idle, _ = ask(follower, abuse.findings, rule="idle", limit=1_000)  # type: ignore[arg-type]
    assert idle == [row for row in rows if row.rule == "idle"]
    left, _ = ask(follower, abuse.findings, unanswered=True, limit=1_000)  # type: ignore[arg-type]
    assert left == [row for row in rows if not row.answers]
    paged: list[abuse.FindingRow] = []
    cursor: str | None = ""
    while cursor is not None:
        page, cursor = ask(follower, abuse.findings, limit=4, cursor=cursor)  # type: ignore[arg-type]
        assert 0 < len(page) <= 4
        paged += page
    assert paged == rows


def test_an_answer_to_nothing_is_left_out(place: Place) -> None:
    story = wandered(1, 0)
    story.record(AbuseAnswered(finding=7))
    follower = kept(abuse.PROJECTION, place, Told(story))
    follower.catch_up()
    assert ask(follower, abuse.findings) == ([], None)
    assert ask(follower, abuse.show_finding, 7) is None
    close(follower)
