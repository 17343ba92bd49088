"""Waiting for the head to move: in one process by a condition, across processes by looking."""

from collections.abc import Callable
from threading import Condition, local
from time import monotonic

BUSY_S = 0.010
IDLE_S = 0.050
BUSY_FOR_S = 1.0


class Bell:
    """Knows how far the log reaches, as far as anybody in this process has seen."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._position = 0
        self._interrupts = 0
        self._mine = local()

    def ring(self, position: int) -> None:
        """Tell everybody who waits that the head lies at `position`, or beyond."""
        with self._changed:
            if position > self._position:
                self._position = position
                self._changed.notify_all()

    def interrupt(self) -> None:
        """Make every waiting thread return; one that is not waiting yet returns at once later."""
        with self._changed:
            self._interrupts += 1
            self._changed.notify_all()

    def wait(self, after: int, timeout: float, look: Callable[[], int] | None = None) -> bool:
        """True once the head lies behind `after`; False after `timeout` seconds or `interrupt`.

        `look` finds the head out where nobody rings: called at once and then every 10 ms, every
        50 ms when nothing has moved for a second.
        """
        start = monotonic()
        deadline, busy_until = start + timeout, start + BUSY_FOR_S
        while True:
            if look is not None:
                self.ring(look())
            with self._changed:
                if self._position > after:
                    return True
                seen, self._mine.seen = getattr(self._mine, "seen", 0), self._interrupts
                now = monotonic()
                if seen != self._interrupts or now >= deadline:
                    return False
                pause = deadline - now
                if look is not None:
                    pause = min(pause, BUSY_S if now < busy_until else IDLE_S)
                self._changed.wait(pause)
