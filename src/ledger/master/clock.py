"""The log's clock: wall time when the master began, and steady time since.

A wall clock that is stepped while the master runs changes nothing. One that is wrong when it starts
is noticed against the last commit, and needs `--accept-clock`.
"""

import time
from collections.abc import Callable

from ledger.domain.errors import ClockSuspect

MAX_GAP_US = 7 * 86_400 * 1_000_000
"""A start this long after the last commit is believed only when it is confirmed."""


MAX_BEHIND_US = 10 * 1_000_000
"""A clock that was set back this little since the last commit needs no confirmation: the log's
clock goes on from that commit."""


class Clock:
    """`now()` is microseconds since 1970 and never runs backwards, from the last commit on."""

    def __init__(
        self,
        last_at: int,
        *,
        accept: bool = False,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        wall = wall_ns() // 1000
        if last_at and not accept:
            if wall < last_at - MAX_BEHIND_US:
                behind = (last_at - wall) // 1_000_000
                raise ClockSuspect(
                    f"This machine's clock is {behind} s behind the log's last time."
                )
            if wall > last_at + MAX_GAP_US:
                days = (wall - last_at) // 86_400_000_000
                raise ClockSuspect(
                    f"The log's last time is {days} days ago by this machine's clock."
                )
        self._steady = steady_ns
        self._base = max(wall, last_at)
        self._began = steady_ns()

    def now(self) -> int:
        """Microseconds since 1970 on the log's clock."""
        return self._base + (self._steady() - self._began) // 1000
