"""`submit` and `run`: from a script or a command to jobs in the queue."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits
from ledger.cli.common import NOWHERE, Service, now
from ledger.cli.exits import Stop, say
from ledger.cli.request import job as requested
from ledger.cli.sbatch import directives
from ledger.cli.shown import data
from ledger.cli.text import json_text, line
from ledger.cli.words import BadWord
from ledger.models import JobIn, SubmittedOut

if TYPE_CHECKING:
    from ledger.client.blocking import Client

MAX_SCRIPT = 512 * 1024
BATCH = 5_000
"""Jobs of one request, where many are submitted one by one."""

Opt = str | None
Flag = bool


@Parameter(name="*")
@dataclass(frozen=True)
class Wanted:
    """What is asked for, under sbatch's names. Each wins over the script's own directive."""

    job_name: Annotated[Opt, Parameter(name=["--job-name", "-J"], help="The job's name.")] = None
    account: Annotated[
        Opt, Parameter(name=["--account", "-A"], help="The account that is charged.")
    ] = None
    partition: Annotated[
        Opt,
        Parameter(name=["--partition", "--pool", "-p"], help="The pool whose nodes are wanted."),
    ] = None
    nodes: Annotated[
        Opt, Parameter(name=["--nodes", "-N"], help="How many nodes, each for this job alone.")
    ] = None
    time: Annotated[
        Opt,
        Parameter(
            name=["--time", "-t"],
            help="The time limit: 2h30m, 02:30:00, 1-00:00:00; a bare number is minutes, as in "
            "Slurm.",
        ),
    ] = None
    constraint: Annotated[
        Opt, Parameter(name=["--constraint", "-C"], help="Features that every node must have: a&b.")
    ] = None
    exclude: Annotated[
        Opt, Parameter(name=["--exclude", "-x"], help="Nodes never to be used: n3,n[7-9].")
    ] = None
    dependency: Annotated[
        Opt,
        Parameter(
            name=["--dependency", "-d"],
            help="Wait for other jobs' ends: afterok:17:18,afterany:19,afternotok:20.",
        ),
    ] = None
    begin: Annotated[
        Opt,
        Parameter(
            name=["--begin", "-b"], help="Not before: 2026-11-20T10:00, 10:00, +2h.",
            allow_leading_hyphen=True,
        ),
    ] = None  # fmt: skip
    array: Annotated[
        Opt, Parameter(name=["--array", "-a"], help="One job for each index: 0-9, 1-100:5, 3,7.")
    ] = None
    qos: Annotated[Opt, Parameter(help="The quality of service.")] = None
    output: Annotated[
        Opt,
        Parameter(
            name=["--output", "-o"],
            help="A file on the node for the job's output, instead of the output store.",
        ),
    ] = None
    chdir: Annotated[
        Opt,
        Parameter(
            name=["--chdir", "-D"],
            help="The directory on the node in which the job runs, instead of an empty one.",
        ),
    ] = None
    comment: Annotated[Opt, Parameter(help="Words of your own, kept with the job.")] = None
    hold: Annotated[
        Flag, Parameter(name=["--hold", "-H"], negative="", help="Do not start it until released.")
    ] = False
    requeue: Annotated[
        Flag,
        Parameter(negative="", help="It may be started again from the beginning if a node fails."),
    ] = False
    no_requeue: Annotated[
        Flag, Parameter(negative="", help="It must never be started twice (so it is anyway).")
    ] = False

    def options(self) -> dict[str, str | None]:
        """The options that were given, by their long names."""
        if self.requeue and self.no_requeue:
            raise BadWord("--requeue and --no-requeue can't both be meant.")
        given: dict[str, str | None] = {}
        for field in fields(self):
            value, name = getattr(self, field.name), field.name.replace("_", "-")
            if value is True:
                given[name] = None
            elif isinstance(value, str):
                given[name] = value
        return given


PLAIN = Wanted()
Words = Annotated[
    str,
    Parameter(help="A job script (- is stdin) and its arguments, or nothing before --."),
]
CommandWords = Annotated[str | None, Parameter(show=False)]


def submit(
    *script: Words,
    wanted: Wanted = PLAIN,
    jsonl: Annotated[
        str | None,
        Parameter(help="Submit many: a file (- is stdin) with one job in JSON on each line."),
    ] = None,
    each: Annotated[
        bool,
        Parameter(
            negative="", help="With --jsonl: accept what can be accepted, instead of all or none."
        ),
    ] = False,
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative="", help="Print the job's number only.")
    ] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print the service's answer as JSON.")
    ] = False,
    command_words: CommandWords = None,
    at: Service = NOWHERE,
) -> int:
    """Queue a job: a script with #SBATCH lines, or a command after --.

    jobledger submit job.sh 10 20
    jobledger submit -N 2 -t 30m -- python3 -c 'print(1)'
    """
    if jsonl is not None:
        if script or command_words or wanted.options():
            raise BadWord("--jsonl takes everything from its file; leave the other options out.")
        with at.client() as client:
            return _many(client, _read_lines(jsonl), each=each, quiet=quiet, as_json=as_json)
    job = _job(script, wanted, command_words, quiet=quiet)
    with at.client() as client:
        made = client.submit(job)
    _tell(made, job.array, quiet=quiet, as_json=as_json)
    return exits.OK


def run(
    *script: Words,
    wanted: Wanted = PLAIN,
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative="", help="Print its output only.")
    ] = False,
    command_words: CommandWords = None,
    at: Service = NOWHERE,
) -> int:
    """Submit a job, print its output as it comes, and end as the job ends.

    Interrupted from the keyboard, it cancels the job.
    """
    from ledger.cli.output import follow
    from ledger.client.errors import ClientError

    job = _job(script, wanted, command_words, quiet=quiet)
    if job.array:
        raise BadWord("An array has many outputs and ends: use `submit`, then `wait`.")
    with at.client() as client:
        made = client.submit(job)
        name = str(made.first_job)
        if not quiet:
            say(f"Submitted job {name}")
        try:
            return follow(client, name, say_how=not quiet)
        except KeyboardInterrupt:
            with suppress(ClientError):
                client.cancel(name, "interrupted from the keyboard")
                say(f"\nCancelled job {name}")
            return exits.INTERRUPTED


def _job(words: tuple[str, ...], wanted: Wanted, after: str | None, *, quiet: bool) -> JobIn:
    """The job that a command line asks for."""
    rest: list[str] = json.loads(after) if after else []
    options, ignored, script, name = wanted.options(), [], "", ""
    if words:
        script = _read_script(words[0])
        found = directives(script)
        options = _under(found.options, options)
        ignored = found.ignored
        name = Path(words[0]).name
        rest = [*words[1:], *rest]
    elif not rest:
        raise BadWord("Name a script, or a command after --: jobledger submit -- hostname")
    else:
        name = Path(rest[0]).name
    job, remarks = requested(
        options, argv=tuple(rest), script=script, name=name, now=now(), here=Path.cwd()
    )
    if ignored and not quiet:
        say(f"Ignored directives: {', '.join(line(option) for option in ignored)}")
    for remark in remarks if not quiet else []:
        say(line(remark))
    return job


def _under(below: dict[str, str | None], above: dict[str, str | None]) -> dict[str, str | None]:
    """Options of a script, those of the command line over them."""
    from ledger.cli.sbatch import OPPOSITE

    kept = {name: value for name, value in below.items() if OPPOSITE.get(name, name) not in above}
    return kept | above


def _read_script(name: str) -> str:
    """A job script's text. What is not a script is refused before it is sent."""
    with open(name, "rb") as file:
        raw = file.read(MAX_SCRIPT + 1)
    shown = line(name)
    if len(raw) > MAX_SCRIPT:
        raise Stop(exits.DATA, f"{shown} is larger than a script may be ({MAX_SCRIPT} bytes).")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Stop(
            exits.DATA, f"{shown} is not UTF-8 text.", "Submit a program as a command, after --."
        ) from None
    if not text.startswith("#!"):
        raise Stop(
            exits.DATA,
            f"{shown} is not a script: it does not begin with #!.",
            "Begin it with a line such as #!/bin/sh, or submit a command: jobledger submit -- "
            f"{shown}",
        )
    if "\r\n" in text[:1000]:
        raise Stop(exits.DATA, f"{shown} has DOS line ends.", "Convert it: sed -i 's/\\r$//' FILE")
    return text


def _read_lines(name: str) -> Iterator[JobIn]:
    """The jobs of an NDJSON file; a line that is not one is named."""
    from pydantic import ValidationError

    with open(name, "rb") as file:
        for number, text in enumerate(file, 1):
            if not text.strip():
                continue
            try:
                yield JobIn.model_validate_json(text)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise Stop(
                    exits.DATA, f"Line {number} is not a job: {where} {first['msg']}.".strip()
                ) from None


def _many(
    client: "Client", jobs: Iterable[JobIn], *, each: bool, quiet: bool, as_json: bool
) -> int:
    """Submit the jobs of a file: in one request, or with `each` in pieces."""
    wanted = list(jobs)
    if not wanted:
        say("No jobs in the file.")
        return exits.DATA
    step = BATCH if each else len(wanted)
    refused = 0
    for start in range(0, len(wanted), step):
        made = client.submit(wanted[start : start + step], each=each)
        refused += len(made.not_accepted)
        if made.count or as_json:
            _tell(made, "", quiet=quiet, as_json=as_json)
        for item in made.not_accepted if not as_json else []:
            say(f"Job {start + item.item + 1} of the file ({item.code}): {line(item.sentence)}")
    if refused:
        say(f"{refused} of {len(wanted)} jobs were refused.")
    return exits.DATA if refused else exits.OK


def _tell(made: SubmittedOut, array: str, *, quiet: bool, as_json: bool) -> None:
    last = made.first_job + made.count - 1
    if as_json:
        data(json_text(made.model_dump(mode="json")))
    elif quiet and (array or made.count == 1):
        data(str(made.first_job))
    elif quiet:
        data("\n".join(str(job) for job in range(made.first_job, last + 1)))
    elif array:
        data(f"Submitted job {made.first_job} (array of {made.count}: {made.first_job}_[{array}])")
    elif made.count == 1:
        data(f"Submitted job {made.first_job}")
    else:
        data(f"Submitted {made.count} jobs ({made.first_job}\N{EN DASH}{last})")
