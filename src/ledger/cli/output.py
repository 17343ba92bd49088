"""`output` and `wait`: what a job printed, and how it ended."""

import sys
import time
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits
from ledger.cli.common import NOWHERE, Job, Jobs, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.text import line, lines
from ledger.cli.words import BadWord, duration, job_word, job_words

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.models import JobDetailOut

POLL_S = 20.0


def output(
    job: Job,
    /,
    *,
    follow: Annotated[
        bool, Parameter(name=["--follow", "-f"], negative="", help="Go on until the job has ended.")
    ] = False,
    attempt: Annotated[int | None, Parameter(help="Which attempt; left out: the last.")] = None,
    raw: Annotated[
        bool,
        Parameter(
            negative="",
            help="Write control characters to a terminal as they are (into a pipe they always go).",
        ),
    ] = False,
    at: Service = NOWHERE,
) -> int:
    """Print what a job has written to stdout and stderr."""
    name = job_word(job)
    with at.client() as client:
        if follow and attempt is None:
            follow_output(client, name, raw=raw)
        else:
            _copy(client, name, attempt, follow=follow, raw=raw)
    return exits.OK


def follow(client: "Client", job: str, *, say_how: bool) -> int:
    """Print a job's output until it has ended; the status that stands for its end."""
    follow_output(client, job, raw=False)
    client.wait(job)
    ended = client.show(job)
    if say_how and ended.state != "completed":
        say(_how(ended))
    return _status(ended)


def follow_output(client: "Client", job: str, *, raw: bool) -> None:
    """Print a job's output as it comes, attempt after attempt, until the job has ended."""
    printed = 0
    while True:
        found = client.show(job)
        for attempt in [a.attempt for a in found.attempts if a.attempt > printed]:
            if printed:
                say(f"--- attempt {attempt} ---")
            _copy(client, job, attempt, follow=True, raw=raw)
            printed = attempt
        if found.state not in ("pending", "running"):
            return
        client.wait(job, POLL_S if printed == len(found.attempts) and printed else 0.5)


def _copy(client: "Client", job: str, attempt: int | None, *, follow: bool, raw: bool) -> None:
    """Print one attempt's output; with `follow` until the attempt is over."""
    from ledger.client.errors import Refused

    offset = 0
    while True:
        try:
            piece = client.output(
                job, attempt=attempt, offset=offset, wait_s=POLL_S if follow else 0
            )
        except Refused as refusal:
            if refusal.code == "no_output" and follow:
                return
            raise
        _put(piece.data, raw=raw)
        at_end = piece.next == offset
        offset = piece.next
        if (piece.ended and at_end) or (at_end and not follow):
            return


def _put(data: bytes, *, raw: bool) -> None:
    """Write output. On a terminal it may not move the cursor or change anything but text."""
    if raw or not sys.stdout.isatty():
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        sys.stdout.write(lines(data.decode(errors="backslashreplace").replace("\r\n", "\n")))
        sys.stdout.flush()


def wait(
    *jobs: Jobs,
    timeout: Annotated[
        str, Parameter(help="Give up after this long (then the status is 75): 90, 2h30m.")
    ] = "",
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Wait until jobs have ended; the status is that of the first one which did not succeed.

    A job's own status: its exit code, 128 + the signal that ended it, 124 for its time limit,
    137 for too much memory, 143 if it was cancelled, else 1.
    """
    if not jobs:
        raise BadWord("Name the jobs to wait for.")
    names = job_words(jobs)
    deadline = time.monotonic() + duration(timeout) if timeout else None
    statuses = []
    with at.client() as client:
        for name in names:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if client.wait(name, left).state in ("pending", "running"):
                say(f"Job {name} has not ended.")
                return exits.TEMPORARY
            ended = client.show(name)
            statuses.append(_status(ended))
            if not quiet:
                say(_how(ended))
    return next((status for status in statuses if status), exits.OK)


def _status(job: "JobDetailOut") -> int:
    last = job.attempts[-1] if job.attempts else None
    return exits.job_status(job.state, job.exit_code, last.signal if last else None)


def _how(job: "JobDetailOut") -> str:
    """One sentence on how a job ended."""
    last = job.attempts[-1] if job.attempts else None
    facts = []
    if job.exit_code:
        facts.append(f"exit code {job.exit_code}")
    if last and last.signal:
        facts.append(f"signal {last.signal}")
    if last and last.lost:
        facts.append(f"lost {','.join(last.lost)}")
    if last and last.detail:
        facts.append(line(last.detail))
    if not facts and job.cause and job.state != "completed":
        facts.append(line(job.cause))
    return f"Job {job.job} {job.state}" + (f" ({', '.join(facts)})" if facts else "")
