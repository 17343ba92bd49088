"""Clients who go on whatever they are told, for services whose disks come and go."""

import threading
import time
from collections import Counter
from typing import Any

from ledger.events import Recorded

from .harness import NO_ANSWER, Site, Web
from .load import Book, Make, Unanswered, submissions
from .processes import until

PAUSE_S = 0.02


class Clients:
    """Submitters that never stop: who is refused, or gets no answer, makes a new request.

    `refused` counts the refusals by code, `silent` the requests that got no answer. A key that was
    refused is not used again: it must be nowhere in the log. One that got no answer, or an
    `outcome_unknown`, may be there once.
    """

    def __init__(self, site: Site, make: Make, count: int = 3) -> None:
        self.book = Book()
        self.refused: Counter[str] = Counter()
        self.never: set[str] = set()
        self.silent = 0
        self.last_good = 0.0
        self.longest_s = 0.0
        self._site, self._make = site, make
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._submit) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        web = Web(self._site.url)
        while not self._enough.is_set():
            began = time.monotonic()
            key, code = self.book.new(self._make), ""
            try:
                self.book.repeat(web, key)
                self.last_good = time.monotonic()
            except Unanswered as refusal:
                code = str(refusal)
            except NO_ANSWER:
                code = "silent"
            with self._lock:
                self._note(key, code, time.monotonic() - began)
            self._enough.wait(PAUSE_S)
        web.close()

    def _note(self, key: str, code: str, took_s: float) -> None:
        self.longest_s = max(self.longest_s, took_s)
        if code == "silent":
            self.silent += 1
        elif code:
            name = code.partition('"code":"')[2].partition('"')[0]
            self.refused[name] += 1
            if name != "outcome_unknown":
                self.never.add(key)

    @property
    def told(self) -> int:
        """How many requests were acknowledged."""
        return len(self.book.told)

    def some(self, more: int = 5) -> None:
        """Wait until so many more are acknowledged."""
        enough = self.told + more
        until(lambda: self.told >= enough, 60, f"{more} more acknowledgements")

    def refusals(self, code: str, more: int = 5) -> None:
        """Wait until so many more are refused in this way."""
        enough = self.refused[code] + more
        until(lambda: self.refused[code] >= enough, 60, f"{more} refusals as {code}")

    def heals(self, began: float) -> float:
        """Seconds from then until something was acknowledged again."""
        until(lambda: self.last_good > began, 60, "the healing")
        return self.last_good - began

    def end(self) -> None:
        """Stop asking."""
        self._enough.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def check(self, events: list[Recorded]) -> str:
        """What was acknowledged is in the log as it was told, what was refused is not, and nothing
        was queued twice; in words."""
        kept: dict[str, tuple[int, int]] = {}
        submissions(events, kept)
        self.book.check(kept)
        assert not self.never & kept.keys()
        refused = ", ".join(f"{n} {code}" for code, n in sorted(self.refused.items())) or "none"
        return f"{self.told} acknowledged, refused: {refused}, {self.silent} without answer, 0 lost"


def held(number: int) -> list[dict[str, Any]]:
    """A job that waits, so that the log is written by submissions alone."""
    return [{"argv": ["true"], "held": True, "pool": "sim"}]
