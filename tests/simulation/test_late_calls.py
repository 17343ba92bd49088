"""A call that was under way while its machine was started anew says nothing of what runs there."""

import pytest

from ledger.testing.simulation import Simulation
from ledger.wire import SyncRequest

from .history import tell
from .node_calls import call


@pytest.mark.fault("F4", "E3")
def test_a_late_call_of_a_former_boot_is_refused() -> None:
    with Simulation(seed=1) as sim:
        sim.begin()
        node = sim.nodes[0]
        assert node.agent is not None
        late: SyncRequest = node.agent._request(0.0, node.boottime())
        node.switch_off(in_order=True)
        node.switch_on()
        sim.advance(2)
        status, body = call(sim, node.name, late)
        assert (status, b"stale_sync" in body) == (409, True)


def test_the_history_that_found_it() -> None:
    tell(144)
