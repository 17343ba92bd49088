"""Whatever an event may hold, the log gives it back: codec, database and chain together."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.events import Envelope, Fact, JobHeld
from ledger.store.log import Draft, Log
from ledger.store.verify import verify

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FACTS = st.builds(
    Fact,
    st.builds(
        JobHeld,
        job=st.integers(-(2**63), 2**63 - 1),
        user=TEXT,
        account=TEXT,
        pool=TEXT,
        kind=st.sampled_from(["user", "admin", "system"]),
    ),
    st.builds(Envelope, by=TEXT, request=TEXT),
    data=st.just(b""),
)
COMMITS = st.lists(st.lists(FACTS, max_size=4), min_size=1, max_size=3)


@given(commits=COMMITS, more=st.data())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_goes_in_comes_out(log: Log, commits: list[list[Fact]], more: Any) -> None:
    before = log.head()
    at = before.at + more.draw(st.integers(0, 5))
    head = log.append([Draft(at, 1, facts) for facts in commits])
    found = list(log.read(after=before.position))
    assert [(e.event, e.envelope) for e in found] == [f[:2] for facts in commits for f in facts]
    assert {e.at for e in found} <= {at}
    assert head.commit == before.commit + len(commits)
    assert verify(log).head == head
