"""What came of an import: how much was taken, and what was left out, by reason."""

from collections import Counter
from collections.abc import Sequence

from ledger.importing.past import Try


class Tally:
    """Counts while a file is read. `skipped` and `first` (its first line) go by reason."""

    def __init__(self) -> None:
        self.jobs = 0
        self.ran = 0
        self.tries = 0
        self.users: set[str] = set()
        self.nodes: set[str] = set()
        self.skipped: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.noted: Counter[str] = Counter()

    def skip(self, reason: str, line: int) -> None:
        """A record of this line was left out."""
        self.skipped[reason] += 1
        self.first.setdefault(reason, line)

    def note(self, what: str) -> None:
        """Something was taken otherwise than it stands there."""
        self.noted[what] += 1

    def job(self, user: str, tries: Sequence[Try]) -> None:
        """A job was taken."""
        self.jobs += 1
        self.ran += bool(tries)
        self.tries += len(tries)
        self.users.add(user)
        for a_try in tries:
            self.nodes.update(a_try.nodes)
