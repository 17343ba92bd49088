"""What the daemon holds in its hands: who the node is, and the attempts that are here."""

import asyncio
from dataclasses import dataclass, field, replace

from ledger.agent.processes import Ending, Running
from ledger.agent.spool import Key
from ledger.events import Output
from ledger.wire import Facts, Order, Phase, Report

DETAIL_CHARACTERS = 2000


@dataclass(frozen=True)
class Identity:
    """Who this node is to its master."""

    name: str
    boot_id: str
    build: str
    facts: Facts


@dataclass
class Local:
    """An attempt that is here. `why` is our reason to end it, "" while there is none.

    `running` is None until its command has been started; `gone` is set when no process is left.
    """

    order: Order
    phase: Phase
    why: str = ""
    running: Running | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> Key:
        """Job and attempt."""
        return self.order.job, self.order.attempt

    def as_ordered(self, ending: Ending) -> Ending:
        """The ending with its true cause: a killed process can't know why it was; we do."""
        if ending.cause == "stopped" and self.why == "lease_expired":
            return replace(ending, end="node_fail", cause="lease_expired")
        return ending


def end_report(key: Key, ending: Ending, output: Output | None = None) -> Report:
    """The draft of a report; the spool gives it its number."""
    return Report(
        seq=0,
        kind="ended",
        job=key[0],
        attempt=key[1],
        end=ending.end,
        cause=ending.cause,
        exit_code=ending.exit_code,
        signal=ending.signal,
        ran_us=ending.ran_us,
        cpu_us=ending.cpu_us,
        output=output,
        detail=ending.detail.encode(errors="replace").decode()[:DETAIL_CHARACTERS],
    )
