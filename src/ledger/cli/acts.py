"""`cancel`, `hold`, `release`, `requeue`, `change`: acting on jobs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from ledger.cli import exits
from ledger.cli.common import NOWHERE, Jobs, Note, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.failures import tell
from ledger.cli.words import BadWord, duration, job_words

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.models import DoneOut


class _Words(NamedTuple):
    """What is said of a job once it is done; where it still runs; where it was so before."""

    done: str
    runs: str = ""
    before: str = ""

    def of(self, job: str, done: "DoneOut") -> str:
        """The sentence."""
        words = self.runs if self.runs and done.state == "running" else self.done
        if not done.changed:
            words = self.before or f"{words} already"
        one = f" ({done.array}, one task of an array)" if done.array and "_" not in job else ""
        return f"Job {job}{one} {words}."


CANCELLED = _Words("is cancelled", runs="is told to stop")
HELD = _Words("is held")
RELEASED = _Words("is released", before="was not held")
REQUEUED = _Words("waits again", runs="is told to stop, and waits again then")
CHANGED = _Words("is changed", before="is so already")


def cancel(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """End pending jobs, and stop running ones (TERM, a grace, KILL)."""
    return _each(jobs, lambda client, job: client.cancel(job, note), CANCELLED, quiet, at)


def hold(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Keep pending jobs from starting until they are released."""
    return _each(jobs, lambda client, job: client.hold(job, note), HELD, quiet, at)


def release(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Let held jobs start again."""
    return _each(jobs, lambda client, job: client.release(job, note), RELEASED, quiet, at)


def requeue(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Stop running, restartable jobs and let them wait again."""
    return _each(jobs, lambda client, job: client.requeue(job, note), REQUEUED, quiet, at)


def change(
    *jobs: Jobs,
    restartable: Annotated[
        bool | None, Parameter(help="May it be started again from the beginning?")
    ] = None,
    time: Annotated[
        str,
        Parameter(
            name=["--time", "-t"], help="A pending job's time limit; a bare number is minutes."
        ),
    ] = "",
    note: Note = "",
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Change what live jobs ask for."""
    from ledger.models import ChangeIn

    fields: dict[str, object] = {}
    if restartable is not None:
        fields["restartable"] = restartable
    if time:
        fields["time_limit_s"] = duration(time, bare=60)
    if not fields:
        raise BadWord("Say what to change: --restartable, --no-restartable or --time.")
    wanted = ChangeIn(**fields, note=note)  # type: ignore[arg-type]
    return _each(jobs, lambda client, job: client.change(job, wanted), CHANGED, quiet, at)


def each(
    names: Iterable[str],
    act: Callable[["Client", str], "DoneOut"],
    said: Callable[[str, "DoneOut"], str],
    quiet: bool,
    at: Service,
) -> int:
    """Do it to each of these, also if one refuses, and say what was `said` of the others; the
    status is that of the first refusal. A hint that many refusals have in common is said once."""
    from ledger.client.errors import Refused

    status, hints = exits.OK, set[str]()
    with at.client() as client:
        for name in names:
            try:
                done = act(client, name)
            except Refused as refusal:
                again = refusal.hint in hints
                tell(refusal.sentence, *(() if again else (refusal.hint, refusal.request)))
                hints.add(refusal.hint)
                status = status or exits.status_of(refusal)
                continue
            if not quiet:
                say(said(name, done))
    return status


def _each(
    jobs: tuple[str, ...],
    act: Callable[["Client", str], "DoneOut"],
    words: _Words,
    quiet: bool,
    at: Service,
) -> int:
    if not jobs:
        raise BadWord("Name at least one job.")
    return each(job_words(jobs), act, words.of, quiet, at)
