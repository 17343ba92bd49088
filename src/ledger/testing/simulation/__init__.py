"""A simulated cluster in one process: the real master, the real agents, and nothing else that is
real. Clocks, network, disks and processes are simulated; the same seed gives the same bytes.

    with Simulation(seed=7) as cluster:
        cluster.begin()
        asked = cluster.ask(Subject("ann", "user"), Submit(specs=(JobSpec(name="2.5 0"),)))
        cluster.advance(10)
"""

from ledger.testing.simulation.cluster import OPERATOR, Simulation
from ledger.testing.simulation.master import DATABASE
from ledger.testing.simulation.witness import Violation

__all__ = ["DATABASE", "OPERATOR", "Simulation", "Violation"]
