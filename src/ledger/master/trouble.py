"""While the log takes nothing, though the master may live: its disk is full, or others lock it.

What would have to be recorded is refused at once, and now and then one request tries whether it
goes again. So a full disk costs neither a fold of the log for every request, nor the answers that
need no record: reads, repeats of what was done before, polls of agents that have nothing new.
"""

from dataclasses import dataclass

import structlog

from ledger.domain.errors import LogIsLocked, NotRecorded, StorageIsFull
from ledger.store.log import LogLocked, NothingWritten

LEAST_PAUSE_S = 0.5
MOST_PAUSE_S = 30.0
"""Between two attempts: twice as long as the last one took, since nobody is answered from the
state while its draft is dropped, but within these bounds."""

logger = structlog.get_logger("master")


@dataclass
class Trouble:
    """`since` in µs on the log's clock, `again_at` in the event loop's time."""

    refusal: type[NotRecorded]
    sentence: str
    since: int
    again_at: float = 0.0
    refused: int = 0

    def refuse(self) -> NotRecorded:
        """The answer to a request that would have to be recorded."""
        self.refused += 1
        return self.refusal(self.sentence, retry_after_s=1)

    def rest(self, now: float, took_s: float) -> None:
        """Let the log be, after an attempt that took so long."""
        self.again_at = now + min(MOST_PAUSE_S, max(LEAST_PAUSE_S, 2 * took_s))

    def over(self, at: int) -> None:
        """Say that an append has succeeded."""
        seconds = round((at - self.since) / 1e6, 3)
        logger.warning("the log takes events again", after_s=seconds, refused=self.refused)


def met(failure: NothingWritten, before: Trouble | None, at: int) -> Trouble:
    """The trouble that the log is in, `before` if it is the same; a new one is said."""
    refusal: type[NotRecorded] = StorageIsFull
    sentence = "The log's disk is full."
    if isinstance(failure, LogLocked):
        refusal, sentence = LogIsLocked, "Another program keeps the log's database locked."
    if before is not None and before.refusal is refusal:
        return before
    logger.error(f"{sentence} What would be recorded is refused.", error=str(failure))
    return Trouble(refusal, sentence, before.since if before is not None else at)
