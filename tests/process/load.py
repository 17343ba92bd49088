"""Submitters who never stop asking, and who write down what they were told as soon as they are."""

import secrets
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from ledger.events import JobsSubmitted, Recorded

from .harness import NO_ANSWER, Site, Web
from .processes import until

SUBMITTERS = 4
Make = Callable[[int], list[dict[str, Any]]]
Told = tuple[int, int]
"""The first job's id, and how many."""


class Book:
    """Which requests were made under which key, and what was answered; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.told: dict[str, Told] = {}

    def ask(self, web: Web, make: Make) -> None:
        """One new request. Raises one of `NO_ANSWER`, or `Unanswered`."""
        self.repeat(web, self.new(make))

    def new(self, make: Make) -> str:
        """The key of a new request, which is still to be made."""
        with self._lock:
            number = next(self._numbers)
            key = f"key-{number}"
            self.asked[key] = make(number)
        return key

    def repeat(self, web: Web, key: str) -> bool:
        """Make a request (again) under its key; whether the master knew the key already."""
        answer = web.ask("POST", "/v1/jobs", self.asked[key], key)
        if not answer.good:
            raise Unanswered(answer.body.decode())
        found = answer.json()
        told = (found["first_job"], found["count"])
        with self._lock:
            assert self.told.setdefault(key, told) == told, f"{key} has two answers"
        return bool(found["repeated"])

    @property
    def unanswered(self) -> list[str]:
        """The keys of requests that were made and not answered."""
        with self._lock:
            return [key for key in self.asked if key not in self.told]

    def check(self, kept: dict[str, Told]) -> None:
        """What was acknowledged is in the log as it was told; `kept` is `submissions` of it."""
        for key, told in self.told.items():
            assert kept.get(key) == told, f"{key}: told {told}, in the log {kept.get(key)}"


class Unanswered(Exception):
    """The master said that it can't answer, or does not know."""


class Load:
    """Submitters who each have one request on its way, until the master no longer answers."""

    def __init__(self, site: Site, book: Book, make: Make) -> None:
        self._site, self._book, self._make = site, book, make
        self._enough = threading.Event()
        self.refused: list[str] = []
        self._threads = [
            threading.Thread(target=self._submit, daemon=True) for _ in range(SUBMITTERS)
        ]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        web = Web(self._site.url)
        try:
            while not self._enough.is_set():
                self._book.ask(web, self._make)
        except NO_ANSWER:
            pass
        except Unanswered as refusal:
            self.refused.append(str(refusal))
        finally:
            web.close()

    def end(self) -> None:
        """Wait until every submitter has given up, or stopped."""
        self._enough.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


class Patient:
    """Submitters who repeat each request under its key until it is answered.

    `gap_s` is the longest time in which nobody was answered, `doubted` how often an answer was
    missing or said that it is not known.
    """

    def __init__(self, site: Site, book: Book, make: Make) -> None:
        self._site, self._book, self._make = site, book, make
        self._enough = threading.Event()
        self._last = time.monotonic()
        self.gap_s, self.doubted = 0.0, 0
        self._threads = [
            threading.Thread(target=self._submit, daemon=True) for _ in range(SUBMITTERS)
        ]
        for thread in self._threads:
            thread.start()

    def _submit(self) -> None:
        web = Web(self._site.url)
        while not self._enough.is_set():
            key = self._book.new(self._make)
            while not self._answered(web, key):
                time.sleep(0.05)
        web.close()

    def _answered(self, web: Web, key: str) -> bool:
        try:
            self._book.repeat(web, key)
        except (*NO_ANSWER, Unanswered):
            self.doubted += 1
            return False
        now = time.monotonic()
        self.gap_s, self._last = max(self.gap_s, now - self._last), now
        return True

    def goes_on(self, answers: int = 20, deadline_s: float = 90.0) -> None:
        """Wait until so many more requests were answered."""
        wanted = len(self._book.told) + answers
        until(lambda: len(self._book.told) >= wanted, deadline_s, "answers")

    def end(self) -> None:
        """Wait until every request that was made is answered."""
        self._enough.set()
        for thread in self._threads:
            thread.join(90)
            assert not thread.is_alive()


def submissions(recorded: list[Recorded], kept: dict[str, Told]) -> None:
    """Add what was submitted under which key to `kept`; a key that comes twice is an error."""
    for event in (r.event for r in recorded):
        if isinstance(event, JobsSubmitted) and event.key:
            assert event.key not in kept, f"{event.key} was queued twice"
            kept[event.key] = (event.first_job, event.count)


def mixed(site: Site) -> Make:
    """Real jobs that leave a witness, pretended ones, several at once, and some with a script."""

    def make(number: int) -> list[dict[str, Any]]:
        if number % 3 == 0:
            return [site.job(restartable=number % 2 == 0)]
        if number % 3 == 1:
            return [{"argv": ["sleep", "0"], "pool": "sim"}] * (1 + number % 4)
        script = f"#!/bin/sh\n# {secrets.token_hex(200)}\n"
        return [{"script": script, "pool": "sim", "name": f"script {number}"}]

    return make


def large(number: int) -> list[dict[str, Any]]:
    """A job with a script so large that ten of them make SQLite write back its journal."""
    return [{"script": f"#!/bin/sh\n# {secrets.token_hex(200_000)}\n", "pool": "sim", "held": True}]
