"""Reading the log beside the writer: a connection of its own, in a thread of its own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ledger.store.log import Log

T = TypeVar("T")


class LogReader:
    """Runs functions over a read-only log one after the other, off the event loop."""

    def __init__(self, open_log: Callable[[], Log]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log-reader")
        self._open = open_log
        self._log: Log | None = None

    async def call(self, function: Callable[[Log], T]) -> T:
        """`function(log)` in the reader's thread. A failed connection is opened anew next time."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, function)

    def _call(self, function: Callable[[Log], T]) -> T:
        if self._log is None:
            self._log = self._open()
        try:
            return function(self._log)
        except Exception:
            self._log.close()
            self._log = None
            raise

    def close(self) -> None:
        """Let go of the connection."""
        if self._log is not None:
            self._thread.submit(self._log.close)
        self._thread.shutdown(wait=True)
