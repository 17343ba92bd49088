"""`jobs`, `show`, `events` and `why`: looking at jobs."""

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, Job, OutputFormat, Service, now
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import json_text, line, lines
from ledger.cli.words import job_word, job_words, moment, shown_duration, shown_nodes
from ledger.models import AttemptOut, EvidenceOut, JobDetailOut, JobOut, JobsOut

PAGE = 500


def jobs(
    *names: Annotated[str, Parameter(help="Only these jobs: 17; of an array 17_3, or 17_[0-9].")],
    all_jobs: Annotated[
        bool, Parameter(name=["--all", "-a"], negative="", help="Those that have ended, too.")
    ] = False,
    user: Annotated[str, Parameter(name=["--user", "-u"], help="Whose.")] = "",
    mine: Annotated[bool, Parameter(name="--me", negative="", help="Your own.")] = False,
    account: Annotated[str, Parameter(name=["--account", "-A"], help="Charged to whom.")] = "",
    pool: Annotated[
        str, Parameter(name=["--pool", "--partition", "-p"], help="In which pool.")
    ] = "",
    node: Annotated[str, Parameter(name=["--node", "-w"], help="On which node.")] = "",
    state: Annotated[str, Parameter(name=["--state", "-t"], help="In which state.")] = "",
    name: Annotated[str, Parameter(name=["--name", "-n"], help="Of which name.")] = "",
    since: Annotated[
        str, Parameter(help="There at that time or later: -2h, 10:00.", allow_leading_hyphen=True)
    ] = "",
    until: Annotated[
        str, Parameter(help="There before that time: 2026-11-20.", allow_leading_hyphen=True)
    ] = "",
    limit: Annotated[int, Parameter(help="At most so many; 0: all.")] = 1000,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List jobs: the live ones, or with --all every one there was; now, or as it was once."""
    with at.client() as client:
        then = past.of(client)
        if names:
            found = _Found([then.show(one) for one in job_words(names)])
        else:
            filters = {
                "scope": "all" if all_jobs or state not in ("", "pending", "running") else "live",
                "user": client.whoami().name if mine else user,
                "account": account,
                "pool": pool,
                "node": node,
                "state": state,
                "name": name,
                "since": _wire(since),
                "until": _wire(until),
                "limit": min(limit, PAGE) if limit else PAGE,
            }
            found = _pages(then.job_pages(**filters), limit)
        present = past.now(then)
    kept = found.jobs[:limit] if limit else found.jobs
    answer = JobsOut(jobs=[_brief(job) for job in kept], position=found.position)
    columns, number = _columns(present), lambda job: str(job.job)
    rows = _together(answer.jobs) if form == "table" else answer.jobs
    shown.write(rows, columns, form, of=JobOut, name=number, tree=answer, empty="No jobs.")
    if found.more:
        exits.say(f"There are more than {limit}; --limit 0 shows all.")
    if not past.present and form in ("table", "wide"):
        where = f", position {found.position}" if found.position else ""
        exits.say(f"As of {when(present)}{where}.")
    return exits.OK


class _Found(NamedTuple):
    jobs: list[JobOut]
    position: int = 0
    more: bool = False


def _pages(pages: Iterable[JobsOut], limit: int) -> _Found:
    """Jobs page by page, until there are `limit` (0: all of them)."""
    jobs: list[JobOut] = []
    found = _Found(jobs)
    for page in pages:
        jobs += page.jobs
        enough = bool(limit) and len(jobs) >= limit
        found = _Found(jobs, page.position, page.next is not None or (enough and len(jobs) > limit))
        if enough:
            break
    return found


def _wire(text: str) -> str:
    return moment(text, now()).astimezone(UTC).isoformat() if text else ""


def _brief(job: JobOut) -> JobOut:
    return JobOut(**{field: getattr(job, field) for field in JobOut.model_fields})


def _together(jobs: list[JobOut]) -> list[JobOut]:
    """Tasks of an array that stand side by side and wait alike, each such row of them as one."""
    rows = []
    for (array, *_), alike in groupby(jobs, key=_likeness):
        tasks = list(alike)
        names = {"array": shown_nodes([job.array for job in tasks])} if array else {}
        rows.append(tasks[0].model_copy(update=names))
    return rows


def _likeness(job: JobOut) -> tuple[str, object]:
    if job.state != "pending" or not job.array:
        return "", job.job
    same = job.model_dump(exclude={"job", "array"})
    return job.array.partition("_")[0], same


def _columns(present: datetime) -> list[Column[JobOut]]:
    return [
        Column("JOB", lambda j: j.array or str(j.job)),
        Column("ID", lambda j: str(j.job), wide=True),
        Column("NAME", lambda j: j.name or ""),
        Column("USER", lambda j: j.user),
        Column("ACCOUNT", lambda j: j.account, wide=True),
        Column("POOL", lambda j: j.pool),
        Column("STATE", _state),
        Column("TIME", lambda j: _ran(j, present), right=True),
        Column("LIMIT", lambda j: shown_duration(j.time_limit_s), right=True),
        Column("NODES", lambda j: str(j.nodes_wanted), right=True),
        Column("NODELIST(REASON)", _where),
        Column("SUBMITTED", lambda j: when(j.submitted_at), wide=True),
        Column("STARTED", lambda j: when(j.started_at), wide=True),
        Column("ENDED", lambda j: when(j.ended_at), wide=True),
        Column("ATTEMPT", lambda j: str(j.attempt), wide=True, right=True),
        Column("EXIT", lambda j: "" if j.exit_code is None else str(j.exit_code), wide=True),
    ]


def _state(job: JobOut) -> str:
    if job.out_of_contact_since:
        return f"{job.state} (no contact)"
    return f"{job.state} (stopping)" if job.stopping else job.state


def _where(job: JobOut) -> str:
    return shown_nodes(job.nodes) if job.nodes else f"({job.reason})" if job.reason else ""


def _ran(job: JobOut, present: datetime) -> str:
    if job.started_at is None:
        return "0:00"
    return shown_duration(((job.ended_at or present) - job.started_at).total_seconds())


def show(
    job: Job,
    /,
    *,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Show everything about one job that you may see, with all its attempts; now, or as it was."""
    with at.client() as client:
        found = past.of(client).show(job_word(job))
    if shown.tree(found, form, name=str(found.job)):
        return exits.OK
    shown.pairs(_facts(found))
    if found.incomplete:
        say(f"Former attempts are missing: {found.incomplete}")
    if found.attempts:
        shown.data("")
        columns = _attempt_columns(wide=form == "wide")
        shown.write(found.attempts, columns, form, of=AttemptOut, name=lambda a: str(a.attempt))
    if found.script and form == "wide":
        shown.data(f"\n{lines(found.script)}")
    return exits.OK


def _facts(job: JobDetailOut) -> list[tuple[str, str]]:
    wanted = f"{job.nodes_wanted} of {job.pool}"
    if job.features:
        wanted += f", with {','.join(job.features)}"
    if job.exclude:
        wanted += f", without {shown_nodes(job.exclude)}"
    return [
        ("job", f"{job.job} ({job.array})" if job.array else str(job.job)),
        ("name", job.name or ""),
        ("user", f"{job.user} ({job.account})" if job.account else job.user),
        ("state", _state(job) + (f", {job.reason}" if job.reason else "")),
        ("held by", job.held_by),
        ("nodes wanted", wanted),
        ("nodes", shown_nodes(job.nodes)),
        ("time limit", shown_duration(job.time_limit_s)),
        ("restartable", "yes" if job.restartable else "no"),
        ("depends on", ", ".join(f"{d.kind}:{d.job}" for d in job.depends)),
        ("not before", when(job.begin_at)),
        ("submitted", when(job.submitted_at)),
        ("from", job.submitted_from or ""),
        ("started", when(job.started_at)),
        ("ended", when(job.ended_at)),
        ("exit code", "" if job.exit_code is None else str(job.exit_code)),
        ("cause", job.cause),
        ("no contact since", when(job.out_of_contact_since)),
        ("command" if not job.script else "arguments", " ".join(job.argv or [])),
        ("script", f"{len(job.script.encode())} bytes; -o wide shows it" if job.script else ""),
        ("directory", job.workdir or ""),
        ("output file", job.output_path or ""),
        ("comment", job.comment or ""),
        ("request", job.request or ""),
        ("as of position", str(job.position or "")),
    ]


def _attempt_columns(*, wide: bool) -> list[Column[AttemptOut]]:
    def seconds(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} s"

    return [
        Column("ATTEMPT", lambda a: str(a.attempt), right=True),
        Column("NODES", lambda a: shown_nodes(a.nodes)),
        Column("PLACED", lambda a: when(a.placed_at), wide=True),
        Column("STARTED", lambda a: when(a.started_at)),
        Column("ENDED", lambda a: when(a.ended_at)),
        Column("RAN", lambda a: seconds(a.ran_s), right=True),
        Column("CPU TIME", lambda a: seconds(a.cpu_s), right=True),
        Column("OUTCOME", lambda a: a.outcome or "running"),
        Column("CAUSE", lambda a: a.cause),
        Column("EXIT", lambda a: "" if a.exit_code is None else str(a.exit_code)),
        Column("SIGNAL", lambda a: str(a.signal or ""), wide=True),
        Column("NEXT", lambda a: a.next),
        Column("LOST", lambda a: shown_nodes(a.lost)),
        Column("DETAIL", lambda a: a.detail),
    ]


def events(
    job: Job,
    /,
    *,
    form: Annotated[
        Literal["table", "jsonl", "json"],
        Parameter(name=["--format", "-o"], help="How the answer is written to stdout."),
    ] = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Print the recorded history of a job: what happened, when, by whom."""
    with at.client() as client:
        found = list(past.of(client).job_events(job_word(job)))
    if form == "json":
        shown.data(json_text(found, indent=2))
    elif form == "jsonl":
        for one in found:
            shown.data(json_text(one))
    else:
        rows = [
            (str(e["position"]), _at(e["at"]), str(e["name"]), str(e.get("by", "")), _told(e))
            for e in found
        ]
        shown.table(["POSITION", "AT", "EVENT", "BY", "WHAT"], rows, right=[True])
    return exits.OK


def _at(at: Any) -> str:
    if isinstance(at, int):
        return when(datetime.fromtimestamp(at / 1_000_000, UTC))
    return when(datetime.fromisoformat(str(at)))


WORTH_TELLING = (
    *("first_job", "count", "array", "kind", "restartable", "time_limit_s", "attempt", "nodes"),
    *("outcome", "cause", "state", "next", "exit_code", "signal", "lost", "detail", "report"),
)


def _told(recorded: dict[str, Any]) -> str:
    """The facts of an event that tell a job's story, on one line."""
    event = recorded.get("event") or {}
    told = []
    for field in WORTH_TELLING:
        value = event.get(field)
        if value not in (None, "", [], 0) or (field == "exit_code" and value == 0):
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            told.append(f"{field}={text}")
    return " ".join(told)


def why(job: Job, /, *, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Say why a job waits: the verdict, the evidence, what would change it, as of when."""
    with at.client() as client:
        found = client.why(job_word(job))
    if shown.tree(found, form, name=found.reason):
        return exits.OK
    shown.sentence(
        line(found.sentence + (f" ({found.reason})" if found.state == "pending" else ""))
    )
    rows = list(found.evidence)
    if found.ahead:
        named = ", ".join(str(job) for job in found.ahead_jobs)
        more = ", …" if found.ahead > len(found.ahead_jobs) else ""
        hours = found.ahead_node_s / 3600
        rows.append(EvidenceOut(what="jobs ahead", found=f"{found.ahead} ({named}{more})"))
        rows.append(EvidenceOut(what="they asked for", found=f"at most {hours:.1f} node-hours"))
    shown.pairs((f"  {row.what}", row.found) for row in rows)
    for advice in found.advice:
        shown.sentence(line(advice), indent=2)
    shown.data(f"As of position {found.position} ({when(found.at)}), under policy {found.policy}.")
    return exits.OK
