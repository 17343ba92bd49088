"""When nobody could be heard: what a master leaves for the next one, and what it notices itself."""

import json

from ledger.events import NodeStateChanged, OutageOpened
from ledger.store.leadership import LOCK
from ledger.testing.simulation import Simulation
from live import live, until


def test_an_idle_master_leaves_a_mark_that_it_is_alive() -> None:
    """Else the next one could only tell when something was last recorded."""
    with live() as s:

        def marked() -> int:
            found: int = json.loads((s.data / LOCK).read_text())["mark"]["steady"]
            return found

        before = marked()
        until(lambda: marked() > before + 500_000, "a later mark")


def test_a_master_that_was_stopped_takes_no_node_for_silent() -> None:
    with Simulation(1, file_lock=True) as sim:
        sim.begin()
        sim.advance(2)
        machine = sim.reigning()
        assert machine is not None
        assert machine.process is not None
        since = sim.log().head().position
        sim.loop.stop_process(machine.process)
        sim.advance(60)
        sim.loop.continue_process(machine.process)
        sim.advance(5)
        events = [r.event for r in sim.log().read(after=since)]
    opened = [e for e in events if isinstance(e, OutageOpened)]
    assert [(e.kind, e.cause) for e in opened] == [("master", "frozen")]
    assert 59_000_000 < opened[0].until - opened[0].since < 61_000_000
    assert not [e for e in events if isinstance(e, NodeStateChanged)]
