"""`cancel`, `hold`, `release`, `requeue`, `change`: acting on jobs."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits
from ledger.cli.common import NOWHERE, Jobs, Note, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.failures import tell
from ledger.cli.words import BadWord, duration, job_word

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.models import DoneOut


def cancel(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """End pending jobs, and stop running ones (TERM, a grace, KILL)."""
    return _each(jobs, lambda client, job: client.cancel(job, note), quiet, at)


def hold(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Keep pending jobs from starting until they are released."""
    return _each(jobs, lambda client, job: client.hold(job, note), quiet, at)


def release(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Let held jobs start again."""
    return _each(jobs, lambda client, job: client.release(job, note), quiet, at)


def requeue(*jobs: Jobs, note: Note = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Stop running, restartable jobs and let them wait again."""
    return _each(jobs, lambda client, job: client.requeue(job, note), quiet, at)


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
    return _each(jobs, lambda client, job: client.change(job, wanted), quiet, at)


def each(
    names: Iterable[str],
    act: Callable[["Client", str], "DoneOut"],
    said: Callable[[str, "DoneOut"], str],
    quiet: bool,
    at: Service,
) -> int:
    """Do it to each of these, also if one refuses, and say what was `said` of the others; the
    status is that of the first refusal."""
    from ledger.client.errors import Refused

    status = exits.OK
    with at.client() as client:
        for name in names:
            try:
                done = act(client, name)
            except Refused as refusal:
                tell(refusal.sentence, refusal.hint, refusal.request)
                status = status or exits.status_of(refusal)
                continue
            if not quiet:
                say(said(name, done))
    return status


def _each(
    jobs: tuple[str, ...], act: Callable[["Client", str], "DoneOut"], quiet: bool, at: Service
) -> int:
    if not jobs:
        raise BadWord("Name at least one job.")
    return each([job_word(job) for job in jobs], act, _said, quiet, at)


def _said(job: str, done: "DoneOut") -> str:
    state = f"is {done.state}" if done.state else "is changed"
    return f"Job {job} {state}{'' if done.changed else ' already'}."
