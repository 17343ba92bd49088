"""Random outages of a real cluster, asked as anybody asks: everyone who ran there, nobody else."""

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import NamedTuple

from ledger.api import archive
from ledger.client import Client
from ledger.importing import swf
from ledger.importing.past import write
from ledger.importing.tally import Tally
from ledger.importing.trace import read, remarks
from ledger.models import ImpactUserOut
from ledger.testing.evidence import Evidence
from oracles.there import There, attempts, states, there
from places import Place

DAY_US = 86_400_000_000
S = 1_000_000


class Listed(NamedTuple):
    """An attempt in a list."""

    user: str
    account: str
    job: int
    attempt: int
    node: str
    effect: str
    state: str


def listed(users: Iterable[ImpactUserOut]) -> list[Listed]:
    """What an answer lists."""
    return [
        Listed(user.user, user.account, job.job, job.attempt, job.node, job.effect, job.state)
        for user in users
        for job in user.jobs
    ]


def expected(one: There, until: int) -> Listed:
    """How an attempt has to be listed; none of this history's was queued again."""
    ended = one.end is not None and one.end < until and one.outcome != "completed"
    return Listed(*one[:5], "ended_there" if ended else "ran_there", one.state)


def rfc(micros: int) -> str:
    """A time as it is asked for."""
    return datetime.fromtimestamp(micros / S, UTC).isoformat()


def test_random_outages_of_a_real_cluster(
    shared: Path, tmp_path: Path, full: bool, evidence: Evidence
) -> None:
    file = shared / "swf" / "MetaCentrum-wagap-2013.alea.swf.gz"
    jobs = swf.read(read(file), swf.machine(remarks(file)), Tally())
    jobs = jobs if full else jobs[:400]
    with closing(Place(tmp_path, None).open(create=True)) as log:
        write(log, jobs)
        events = list(log.read())
    past, how = attempts(events), states(events)
    nodes = sorted({node for was in past for node in was.nodes})
    rng, outages = Random(9), 1_000 if full else 25  # noqa: S311
    users = seen = 0
    with archive.served(tmp_path) as url, Client(url) as client:
        for _ in range(outages):
            some = rng.sample(nodes, rng.randint(1, 12))
            since = rng.randrange(events[0].at, events[-1].at) // S * S
            until = since + rng.randrange(S, DAY_US) // S * S
            answer = client.impact(",".join(some), rfc(since), rfc(until))
            wanted = [expected(one, until) for one in there(past, how, some, since, until)]
            assert listed(answer.users) == wanted, (some, since, until)
            assert answer.stated
            users, seen = users + len(answer.users), seen + len(wanted)
    assert users > outages // 2
    evidence(
        "affected users, random outages of MetaCentrum, by HTTP",
        f"{outages} outages over {len(jobs)} jobs on {len(nodes)} nodes: the scan's {users} users "
        f"and {seen} attempts, no other",
    )
