"""A call to the master that reigns, as if an agent had sent it."""

from typing import Any

import msgspec

from ledger.testing.simulation import Simulation
from ledger.testing.simulation.loop import Process
from ledger.wire import SyncRequest


def call(sim: Simulation, node: str, request: SyncRequest) -> Any:
    """Status and body of the answer, within three seconds."""
    master = sim.reigning()
    assert master is not None
    what = ("sync", node, msgspec.json.encode(request))
    task = sim.loop.launch(Process("late"), sim.network.call(node, master, what))
    sim.advance(3)
    return task.result()
