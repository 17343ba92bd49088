"""What a notice says, from what is known: one text a person, whatever people wrote into it."""

import re
from datetime import UTC

import pytest

from ledger.domain.state import SERVICE, Outage
from ledger.effects.digest import About, HitJob, compose
from ledger.events import Why

T0 = 1_700_000_000_000_000
EVIL = "x\r\nBcc: all@example.org\x1b[2J\u202e\x00\u2028y"


def outage(**more: object) -> Outage:
    o = Outage(17, "nodes", T0, T0, nodes={"n1", "n2", "n4"}, rack="r7")
    for name, value in more.items():
        setattr(o, name, value)
    return o


def job(n: int, effect: str, state: str, last: int = 1, name: str = "") -> HitJob:
    return HitJob(n, name, "n1", effect, state, 1, last)


def test_what_needs_its_owner_stands_first_and_the_rest_is_counted() -> None:
    jobs = [
        job(1, "requeued", "pending"),
        job(2, "requeued", "running", last=2),
        job(3, "lost", "node_fail", name="mine"),
        job(4, "held", "pending"),
        job(5, "out_of_contact", "running"),
        job(6, "requeued", "completed", last=3),
        job(7, "continued", "running"),
    ]
    letter = compose(About(3, "hit", False, outage(), jobs, named=5, zone=UTC))
    assert letter.title == "Outage 17 hit 7 of your jobs (notice 3)"
    assert letter.body == (
        "Outage 17 hit 7 jobs of yours.\n\n"
        "What:   Nodes n[1-2,4] (rack r7) were lost.\n"
        "When:   since 2023-11-14 22:13 UTC; it is not over\n"
        "Cause:  not known yet; you are told when it is\n\n"
        "Your jobs: 3 need you, 3 are queued again, 1 ran on.\n"
        '  job 3 "mine" on n1: lost; submit it again if it is still wanted\n'
        "  job 4 on n1: held; release it, or cancel it\n"
        "  job 5 on n1: out of contact; it may still run; its node is silent\n"
        "  job 1 on n1: waits to start again\n"
        "  job 2 on n1: runs again (attempt 2)\n"
        "  and 2 more\n\n"
        "All of it, as it is now: jobledger outage affected 17\n\n"
        "This is notice 3 about outage 17. If it reaches you twice, it is the same one.\n"
    )


@pytest.mark.parametrize("why", ["hit", "cause", "announced", "over", "pool", "service"])
@pytest.mark.parametrize("kind", ["nodes", "master", "operator", "planned"])
def test_whatever_people_wrote_stays_on_its_line(why: Why, kind: str) -> None:
    o = outage(kind=kind, reason=EVIL, cause=EVIL, rack=EVIL, until=T0 + 10**9, closed_at=T0 + 1)
    o.nodes = set() if kind == "master" else o.nodes
    jobs = [job(1, "lost", "node_fail", name=EVIL)]
    for desk in (False, True):
        letter = compose(About(1, why, desk, o, jobs, result=EVIL, pool=EVIL, zone=UTC))
        assert re.fullmatch("[ -~…]+", letter.title)
        assert re.fullmatch("[ -~…\n]+", letter.body)
        assert not any(line.startswith("Bcc") for line in letter.body.splitlines())
        if desk:
            assert "job 1" not in letter.body


def test_it_says_that_jobs_are_not_known_and_how_to_ask() -> None:
    letter = compose(About(1, "hit", False, outage(), None, zone=UTC))
    assert "can't be told at this moment" in letter.body
    assert "jobledger outage affected 17" in letter.body


def test_desks_learn_what_fails_and_how_many_it_hit() -> None:
    o = outage(told={"ann": {"hit"}, "bob": {"hit"}, "carl": {"announced"}}, failed={SERVICE})
    letter = compose(About(9, "service", True, o, pool="", zone=UTC))
    assert letter.title == "The service fails: outage 17 (notice 9)"
    assert "Hit:    2 users so far" in letter.body


def test_a_name_of_any_length_is_cut() -> None:
    jobs = [job(1, "lost", "node_fail", name="n" * 500)]
    letter = compose(About(1, "hit", False, outage(), jobs, zone=UTC))
    assert max(map(len, letter.body.splitlines())) < 160
