"""The lease: until when an agent may run restartable attempts without a word from the master.

It counts on CLOCK_BOOTTIME, which goes on while the machine is suspended and which no clock setter
can move, and from the *sending* of the last sync that was answered: the master counts from the
receipt, which is never earlier, so the agent always stops before the master starts elsewhere.
"""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def boottime() -> float:
    """Seconds since the machine started, the time it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """`until` is a moment of the clock, 0.0 before the first answer (then nothing runs anyway)."""

    def __init__(self, clock: Clock = boottime) -> None:
        self.clock = clock
        self.until = 0.0

    def renew(self, sent_at: float, lease_s: float) -> None:
        """A sync that was sent at `sent_at` was answered. A shorter lease also counts at once."""
        self.until = sent_at + lease_s

    @property
    def expired(self) -> bool:
        """No sync has been answered for the lease."""
        return self.until > 0 and self.clock() >= self.until

    @property
    def left_s(self) -> float:
        """Seconds until it runs out, negative after, without end before the first answer."""
        return self.until - self.clock() if self.until else float("inf")
