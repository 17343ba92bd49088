"""Slurm's accounting, as `sacct --parsable2` prints it, as a cluster's past.

Read as it is found: steps are left out, array tasks keep their place in the array, the rows of a
job that was queued again become its attempts, and rows that can't be understood are counted by
their reason, never guessed at.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from ledger.domain.arrays import indices
from ledger.domain.errors import Malformed
from ledger.events import JobState, Outcome
from ledger.importing.past import Past, Try
from ledger.importing.rows import Layout, Record, records
from ledger.importing.tally import Tally
from ledger.nodenames import BadNodes, expand

MAX_JOB = 2**31
"""Slurm's own ids are smaller."""

UNASSIGNED = ("", "None assigned", "None", "(null)")
NEEDED = ("state", "submit", "start", "end", "user")
ENDS: dict[str, tuple[Outcome, str]] = {
    "COMPLETED": ("completed", "exit"),
    "FAILED": ("failed", "exit"),
    "TIMEOUT": ("timeout", "time_limit"),
    "CANCELLED": ("cancelled", "stopped"),
    "NODE_FAIL": ("node_fail", "node_lost"),
    "BOOT_FAIL": ("node_fail", "node_lost"),
    "OUT_OF_MEMORY": ("out_of_memory", "out_of_memory"),
    "DEADLINE": ("deadline", "stopped"),
    "PREEMPTED": ("preempted", "stopped"),
    "REQUEUED": ("requeued", "stopped"),
}
LIVE = ("RUNNING", "SUSPENDED", "COMPLETING", "CONFIGURING", "SIGNALING", "STAGE_OUT", "STOPPED")
WAITS = ("PENDING", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
LEFT: dict[str, JobState] = {
    "DEADLINE": "deadline",
    "NODE_FAIL": "node_fail",
    "BOOT_FAIL": "node_fail",
}
"""What jobs are that ended so without having run; others were cancelled."""

_TASK = re.compile(r"(\d+)_(\d+)")
_TASKS = re.compile(r"(\d+)_\[([^%\]]*)(?:%\d+)?\]?")


class Row(NamedTuple):
    """A record that was understood. Times are µs; `started` and `ended` None: not known, or not."""

    line: int
    job: int
    array: int
    task: int
    user: str
    account: str
    pool: str
    qos: str
    name: str
    submitted: int
    started: int | None
    ended: int | None
    state: str
    exit_code: int | None
    signal: int | None
    nodes: tuple[str, ...]
    node_count: int
    cpus: int | None
    time_limit_s: int


class Skip(Exception):
    """A record that can't be used, and the reason it is counted under."""


def missing(form: Layout) -> list[str]:
    """The columns that a past can't be made without, and the layout does not have."""
    lacking = [name for name in NEEDED if name not in form.columns]
    return lacking if {"jobid", "jobidraw"} & set(form.columns) else ["jobid", *lacking]


def read(
    lines: Iterable[str], form: Layout, zone: tzinfo | None, tally: Tally, cluster: str = ""
) -> list[Past]:
    """The jobs of a file, in the order of their numbers. `zone` is that of times which name none;
    left out: this machine's. `cluster`: only the jobs of this one, where several are told of."""
    rows: list[Row] = []
    owners: dict[str, str] = {}
    for record in records(lines, form, lambda line, text: tally.skip("not a record", line)):
        try:
            _of_cluster(record, cluster, owners)
            rows += _rows(record, zone)
        except Skip as skip:
            tally.skip(str(skip), record.line)
    jobs = [_job(rows, tally) for rows in _numbered(_by_job(rows, tally))]
    return sorted(jobs, key=lambda past: past.job)


def _of_cluster(record: Record, wanted: str, owners: dict[str, str]) -> None:
    """Each cluster counts its jobs from 1: whoever used a number first has it."""
    its = record.values.get("cluster", "")
    if wanted and its != wanted:
        raise Skip("of another cluster")
    number = record.values.get("jobidraw") or record.values["jobid"]
    if owners.setdefault(number, its) != its:
        raise Skip("a number that a job of another cluster has: import one with --cluster")


Key = int | tuple[int, int]


def _by_job(rows: Sequence[Row], tally: Tally) -> dict[Key, list[Row]]:
    """Rows by the number of their job, or by array and place where it is nowhere told."""
    numbers = {(row.array, row.task): row.job for row in rows if row.job and row.array}
    found: dict[Key, list[Row]] = {}
    for read in rows:
        job = read.job or numbers.get((read.array, read.task), 0)
        row = read._replace(job=job)
        known = found.setdefault(job or (row.array, row.task), [])
        if any(row[1:] == other[1:] for other in known):
            tally.skip("the same row again", row.line)
        else:
            known.append(row)
    return found


def _numbered(found: dict[Key, list[Row]]) -> list[list[Row]]:
    """Array tasks of which only the place in the array is known get numbers behind all others."""
    known = [key for key in found if isinstance(key, int)]
    arrays = [rows[0].array for rows in found.values()]
    beyond = max([*known, *arrays], default=0) + 1
    unknown = [rows for key, rows in found.items() if not isinstance(key, int)]
    unknown.sort(key=lambda rows: (rows[0].submitted, rows[0].array, rows[0].task))
    return [found[key] for key in known] + [
        [row._replace(job=beyond + i) for row in rows] for i, rows in enumerate(unknown)
    ]


def _rows(record: Record, zone: tzinfo | None) -> list[Row]:
    """A record's job, or each task of the array that it stands for."""
    row = _row(record, zone)
    found = _TASKS.fullmatch(record.values.get("jobid", ""))
    if found is None:
        return [row]
    try:
        tasks = indices(found[2])
    except Malformed:  # Slurm writes dots where there are too many
        raise Skip("tasks of an array that are not all listed, or too many") from None
    return [row._replace(job=0, array=int(found[1]), task=task) for task in tasks]


def _row(record: Record, zone: tzinfo | None) -> Row:
    v = record.values
    job, array, task = _numbers(v.get("jobid", ""), v.get("jobidraw", ""))
    state = v["state"].split(" ")[0].rstrip("+")
    if state not in ENDS and state not in LIVE and state not in WAITS:
        raise Skip(f"the state {_short(state)} is none of Slurm's that is known here")
    submitted = _moment(v["submit"], zone)
    started, ended = _moment(v["start"], zone), _moment(v["end"], zone)
    if submitted is None:
        raise Skip("no submit time")
    if state in ENDS and ended is None:
        raise Skip("ended, and no end time")
    try:
        listed = v.get("nodelist", "").strip()
        nodes = () if listed in UNASSIGNED else expand(listed)
    except BadNodes:
        raise Skip("a node list that can't be read") from None
    exit_code, signal = _exit(v.get("exitcode", ""))
    ran = started is not None and (bool(nodes) or "nodelist" not in v) and state not in WAITS
    return Row(
        line=record.line,
        job=job,
        array=array,
        task=task,
        user=_clean(v["user"]) or (f"uid{v['uid']}" if v.get("uid") else "unknown"),
        account=_clean(v.get("account", "")),
        pool=_clean(v.get("partition", "")) or "default",
        qos=_clean(v.get("qos", "")),
        name=_clean(v.get("jobname", "")),
        submitted=submitted,
        started=started if ran else None,
        ended=ended if state in ENDS else None,
        state=state,
        exit_code=exit_code,
        signal=signal,
        nodes=nodes if ran else (),
        node_count=len(nodes) or _count(v.get("nnodes", "")) or 0,
        cpus=_count(v.get("alloccpus") or v.get("ncpus", "")),
        time_limit_s=_seconds(v.get("timelimit", "")),
    )


def _numbers(shown: str, raw: str) -> tuple[int, int, int]:
    """A row's job, the array it belongs to and its index in it: 0, 0 and -1 where there is none."""
    if "." in shown.partition("[")[0] or "." in raw:
        raise Skip("a step of a job")
    job = int(raw) if raw.isdigit() else 0
    array, index = 0, -1
    if found := _TASK.fullmatch(shown):
        array, index = int(found[1]), int(found[2])
    elif found := _TASKS.fullmatch(shown):
        job = job or int(found[1])
    elif not job:
        job = int(re.split(r"[+_\[]", shown)[0])
    if max(job, array, index) >= MAX_JOB or (not job and not array):
        raise Skip("a job number that Slurm can't have given")
    return job, array, index


def _job(rows: Sequence[Row], tally: Tally) -> Past:
    """A job out of its rows: each that has a start is a try; the last says what became of it."""
    rows = sorted(rows, key=lambda row: (row.submitted, row.ended or 2**62, row.line))
    first, last = rows[0], rows[-1]
    tries: list[Try] = []
    for place, row in enumerate(rows):
        if row.started is None:
            continue
        begun = row.started
        if tries and (before := tries[-1].end) is not None and before > begun:
            tally.note("a try began before the one before it had ended: its start was moved")
            begun = before
        tries.append(_try(row, begun, more=place + 1 < len(rows)))
    waits = last.started is None and last.state in (*WAITS, "REQUEUED")
    left = last.ended if last.started is None and not waits else None
    if tries and last.started is None and not tries[-1].again:
        tries[-1] = tries[-1]._replace(again=True)
    begun = min([first.submitted, *(a_try.start for a_try in tries)])
    tally.job(first.user, tries)
    return Past(
        job=first.job,
        user=first.user,
        account=last.account,
        pool=last.pool,
        qos=last.qos,
        name=last.name,
        submitted_at=begun,
        nodes=max(1, last.node_count),
        time_limit_s=last.time_limit_s,
        tries=tuple(tries),
        ended_at=None if left is None else max(left, begun, *(t.end or 0 for t in tries)),
        state=LEFT.get(last.state, "cancelled"),
        array=first.array,
        task=first.task,
    )


def _try(row: Row, begun: int, *, more: bool) -> Try:
    outcome, cause = ENDS.get(row.state, ("completed", "unknown"))
    if row.state in ("COMPLETED", "FAILED") and row.signal:
        cause = "signal"
    return Try(
        start=begun,
        end=None if row.ended is None else max(begun, row.ended),
        nodes=row.nodes,
        node_count=row.node_count,
        cpus=row.cpus,
        outcome=outcome,
        cause=cause,
        exit_code=row.exit_code,
        signal=row.signal,
        again=more or row.state == "REQUEUED",
    )


def _moment(text: str, zone: tzinfo | None) -> int | None:
    """µs of `2023-08-31T12:29:47`, of seconds since 1970, None for what is no time."""
    if text.isdigit():
        return int(text) * 1_000_000
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.tzinfo is None and zone is not None:
        found = found.replace(tzinfo=zone)
    return int(found.timestamp()) * 1_000_000


def _exit(text: str) -> tuple[int | None, int | None]:
    code, colon, signal = text.partition(":")
    if not colon or not code.isdigit() or not signal.isdigit():
        return None, None
    return int(code), int(signal) or None


def _seconds(text: str) -> int:
    """The limit `1-00:00:00`, `10:00` or `00:10:00`; 0 where there is none."""
    days, dash, clock = text.rpartition("-")
    parts = clock.partition(".")[0].split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return 0
    hours, minutes, seconds = [0, 0, *map(int, parts)][-3:]
    return int(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _clean(text: str) -> str:
    """A text that every database of ours can hold and every terminal show, on one line."""
    return "".join(c if c.isprintable() else " " for c in text).strip()[:256]


def _short(text: str) -> str:
    return repr(text[:20])
