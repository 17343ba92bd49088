"""Pasts as importers make them, of a few hours: for tests of what is counted over time."""

from hypothesis import strategies as st

from ledger.importing.past import Past, Try
from ledger.projection.grid import SLOT_US

OUTCOMES = ("completed", "failed", "node_fail", "cancelled")


@st.composite
def pasts(draw: st.DrawFn) -> list[Past]:
    """Jobs of two users in two pools, some of no length, some that still run, some that wait, were
    queued again, or left while they waited; what ran had not always what was asked for."""
    return [draw(_past(job)) for job in range(1, draw(st.integers(1, 12)) + 1)]


@st.composite
def _past(draw: st.DrawFn, job: int) -> Past:
    at = submitted = draw(st.integers(0, 8 * SLOT_US))
    tries: list[Try] = []
    for _ in range(draw(st.integers(0, 3))):
        start = at + draw(st.sampled_from((0, 0, SLOT_US)) | st.integers(0, 2 * SLOT_US))
        length = draw(st.sampled_from((0, 1, SLOT_US, 3 * SLOT_US)) | st.integers(0, 4 * SLOT_US))
        at = start + length
        if tries:
            tries[-1] = tries[-1]._replace(again=True)
        tries.append(
            Try(
                start=start,
                end=at,
                nodes=draw(st.sampled_from(((), (), ("n1",), ("n1", "n2")))),
                node_count=draw(st.integers(1, 5)),
                cpus=draw(st.none() | st.integers(1, 64)),
                outcome=draw(st.sampled_from(OUTCOMES)),
            )
        )
    ends = draw(st.sampled_from(("", "lives", "leaves")))
    if tries and ends == "lives":
        tries[-1] = tries[-1]._replace(end=None)
    if tries and ends == "leaves":
        tries[-1] = tries[-1]._replace(again=True)
    user = draw(st.sampled_from(("ann", "bob")))
    return Past(
        job,
        user,
        f"of-{user}",
        draw(st.sampled_from(("main", "main", "other"))),
        "",
        "",
        submitted,
        draw(st.integers(1, 5)),
        60,
        tuple(tries),
        at + draw(st.integers(0, SLOT_US)) if ends == "leaves" else None,
    )
