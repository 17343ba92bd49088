"""The node events of a real cluster, told to our rules: at every restart that its file records, the
nodes that drain are those that it says, since when and why it says."""

from pathlib import Path

import pytest

from ledger.testing.evidence import Evidence
from ledger_projections import node_history
from places import Place
from projection.keeping import Told, ask, close, kept
from replays.flux import FILE, Drained, Replay, lines, name, ranks, recorded

KNOWN = {
    3: "ranks 1 and 2 are in the exclude list (0-2): what excluded ranks drain for is not kept"
}
"""Restarts, counted from 1, at which the file says otherwise than its events before, and why."""

Difference = tuple[int, Drained | None, Drained | None]


def said(replay: Replay) -> dict[int, list[Drained]]:
    """By rank, all that was said of why it drains, by the fold: the first first."""
    nodes = replay.story.cluster.nodes
    return {
        int(node.removeprefix("thing")): [Drained(s.at, s.reason) for s in known.said]
        for node, known in nodes.items()
        if known.drain
    }


def test_the_drain_state_at_every_restart(shared: Path, tmp_path: Path, evidence: Evidence) -> None:
    told = lines(shared / FILE)
    replay = Replay(told)
    restarts, ranks_seen = 0, 0
    different: dict[int, list[Difference]] = {}
    moments = []
    for line in told:
        if line.name == "resource-init" and line.about["restart"]:
            restarts += 1
            file, ours = recorded(line), said(replay)
            firsts = {rank: reasons[0] for rank, reasons in ours.items()}
            ranks_seen += len(file)
            moments.append((line.at, ours))
            replay.story.now = line.at
            for rank in sorted({*file, *firsts}):
                if file.get(rank) == firsts.get(rank):
                    continue
                different.setdefault(restarts, []).append((rank, file.get(rank), firsts.get(rank)))
                assert rank not in file, "there is no telling when it was drained"
                replay.story.resume(name(rank))  # from here on as the file has it
        replay.tell(line)
    for restart, wrong in different.items():
        print(f"restart {restart}: {wrong}: {KNOWN.get(restart)}")
    assert (len(told), replay.nodes, restarts, ranks_seen) == (1031, 37, 23, 602)
    assert {restart: [rank for rank, *_ in wrong] for restart, wrong in different.items()} == {
        3: [1, 2]
    }
    assert set(different) == set(KNOWN)
    check_history(replay, tmp_path, moments)
    evidence(
        "flux's node event log: drain state at each restart",
        f"{restarts} restarts with {ranks_seen} drained ranks in all, each since when and for the "
        f"first reason that the file says at {restarts - len(different)} of them; at 1 (the third) "
        f"ranks 1 and 2 are left out by the file, since its exclude list names them",
    )


def check_history(
    replay: Replay, folder: Path, moments: list[tuple[int, dict[int, list[Drained]]]]
) -> None:
    """The projection says the same of each of these moments as the fold did then."""
    follower = kept(node_history.PROJECTION, Place(folder, None), Told(replay.story))
    follower.catch_up()
    every = {
        rank: ask(follower, node_history.periods, node=name(rank), limit=10_000)
        for rank in range(replay.nodes)
    }
    for moment, ours in moments:
        for rank, periods in every.items():
            (now,) = [p for p in periods if p.since < moment <= (p.until or moment)]
            resumed = [c.at for c in now.causes if c.cause == "resumed" and c.at < moment]
            drain = [
                Drained(c.at, c.reason)
                for c in now.drain
                if max(resumed, default=0) <= c.at < moment
            ]
            assert drain == ours.get(rank, []), (rank, moment)
    close(follower)


@pytest.mark.parametrize("text", ["", "3", "0-2,7"])
def test_ranks(text: str) -> None:
    assert list(ranks(text)) == {"": [], "3": [3], "0-2,7": [0, 1, 2, 7]}[text]
