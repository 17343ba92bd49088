"""`jobledger status` while the master is killed, stopped and comes back: told by `follow`."""

import json
import signal
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .harness import Site
from .processes import until

WELL, AWAY, NOBODY = 0, 75, 69


class Said(NamedTuple):
    """How the command ended, and what it told."""

    status: int
    told: dict[str, Any]
    words: str


def status(site: Site, *words: str) -> Said:
    """Ask, as a person on the machine does."""
    (site.folder / "status.log").unlink(missing_ok=True)
    asked = site.run("status", "-o", "json", *words, name="status")
    ended = asked.ends()
    said = asked.words()
    return Said(ended, json.loads(said) if said.startswith("{") else {}, said)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_killed_master_is_missed_by_follow_which_says_since_when(any_site: Site) -> None:
    master = any_site.start()
    follow = any_site.run("follow", name="follow")
    any_site.simulated(2, "p")
    any_site.nodes_ready(2)
    job = any_site.web().submit({"argv": ["sleep", "600"], "pool": "p"})
    until(lambda: any_site.web().job(job)["state"] == "running", saying="the job runs")
    well = until(lambda: (s := status(any_site)).status == WELL and s, saying="all is well")
    assert (well.told["told_by"], well.told["running"]) == ("master", 1)
    until(lambda: heard(any_site), saying="follow has heard the master say so")

    before = datetime.now(UTC)
    master.end(signal.SIGKILL)
    away = until(lambda: (s := status(any_site)).status == AWAY and s, saying="it is missed")
    assert (away.told["told_by"], away.told["accepting"]) == ("follow", False)
    assert away.told["sentence"].startswith("The master does not answer")
    since = moment(away.told["master_silent_since"])
    assert 0 <= (before - since).total_seconds() < 30
    assert (away.told["nodes"], away.told["pending"], away.told["running"]) == (2, 0, 1)
    until(lambda: up_to_date(any_site), saying="what it wrote last is taken in")

    any_site.age_leadership()
    any_site.start()
    again = until(lambda: (s := status(any_site)).status == WELL and s, saying="it is back")
    assert (again.told["told_by"], again.told["epoch"]) == ("master", 2)
    any_site.master.freeze()  # type: ignore[union-attr]
    frozen = status(any_site)
    assert (frozen.status, frozen.told["told_by"]) == (AWAY, "follow"), frozen.words
    follow.end(signal.SIGKILL)
    nobody = status(any_site)
    assert nobody.status == NOBODY
    assert "Neither the master nor `follow`" in nobody.words
    assert "jobledger up" in nobody.words


def up_to_date(site: Site) -> bool:
    """Have all projections taken in the whole log?"""
    return {p["state"] for p in status(site).told["projections"]} == {"up to date"}


def heard(site: Site) -> bool:
    """Does `follow` know what the master says of the job?"""
    told = status(site, "--url", f"unix:{site.data / 'follow.sock'}").told
    return told.get("told_by") == "follow" and told.get("running") == 1
