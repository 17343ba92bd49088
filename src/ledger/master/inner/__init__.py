"""The inner state of a running master, part by part: what `jobledger inspect` shows.

Nothing is kept for it but figures that are counted anyway; everything else is looked up when it is
asked for, a millisecond at a time, so that nobody waits because somebody looks.
"""

from ledger.master.inner.cluster import keys, leases, notices, outbox, plan, queue, timers
from ledger.master.inner.look import Look, Seen
from ledger.master.inner.stores import checkpoints, log, memory, projections

__all__ = ["PARTS", "Look", "Seen"]

PARTS: dict[str, Look] = {
    look.__name__: look
    for look in (
        *(queue, leases, outbox, checkpoints, projections),
        *(plan, keys, timers, log, memory, notices),
    )
}
"""Every part by its name."""
