"""The witness: what really ran, where and when, by nobody's word. It knows commands, and neither
the log nor the master nor what the agents think."""

from dataclasses import dataclass


class Violation(AssertionError):
    """An invariant does not hold; the text begins with its name."""


def demand(holds: bool, what: str) -> None:
    """Raise `Violation` unless it holds. (An assertion could be left out by the interpreter.)"""
    if not holds:
        raise Violation(what)


@dataclass
class Line:
    """A command ran on a node from `began` to `ended` (seconds of the world; None: it runs)."""

    job: int
    attempt: int
    node: str
    boot: str
    began: float
    ended: float | None = None


class Witness:
    """Every command that ever ran. What is wrong is kept in `violations`: the one who starts a
    command could swallow an exception."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.lines: list[Line] = []
        self.running: list[Line] = []
        self._began: set[tuple[int, int]] = set()

    def demand(self, holds: bool, what: str) -> None:
        """Keep it in mind unless it holds."""
        if not holds:
            self.violations.append(what)

    def starts(self, job: int, attempt: int, node: str, boot: str, now: float) -> Line:
        """A command begins. I4 and I5 are decided here."""
        for other in self.running:
            self.demand(other.job != job, f"I4: job {job} runs twice: {node} at {now}, {other}")
            self.demand(other.node != node, f"I5: {node} runs two jobs: {job} at {now}, {other}")
        self.demand(
            (job, attempt) not in self._began, f"I4: {job}.{attempt} begins again on {node}"
        )
        line = Line(job, attempt, node, boot, now)
        self._began.add((job, attempt))
        self.lines.append(line)
        self.running.append(line)
        return line

    def ends(self, line: Line, now: float) -> None:
        """Nothing of it is left."""
        line.ended = now
        self.running.remove(line)
