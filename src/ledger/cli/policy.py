"""`policy …`: the rules that the site has set, what each means, and how they are changed."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter
from pydantic import BaseModel

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.words import BadWord, duration, shown_duration
from ledger.models import PolicyChangeOut, PolicyHistoryOut, PolicyIn, PolicyOut

policy_app = App(name="policy")
PAGE = 500

Count = int | None
"""A number; None leaves the policy's as it is."""


class Options:
    """Options of `policy set` that belong together, each named as the policy's field; a text is a
    duration, whose field ends in `_s`."""

    def given(self) -> dict[str, int]:
        """The fields of the policy that are to be changed."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        durations = {f"{n}_s": duration(v) for n, v in told.items() if isinstance(v, str) and v}
        numbers = {n: v for n, v in told.items() if v is not None and not isinstance(v, str)}
        return durations | numbers


@Parameter(name="*")
@dataclass(frozen=True)
class RulesOfJobs(Options):
    """What jobs may be, and what becomes of those that nobody hears of."""

    job_lease: Annotated[str, Parameter(help="How long an agent may be silent: 30, 5m.")] = ""
    lease_margin: Annotated[
        str, Parameter(help="How much longer the master waits before it places jobs again.")
    ] = ""
    lost_after: Annotated[
        str, Parameter(help="When a job that is out of contact is given up: 24h.")
    ] = ""
    kill_grace: Annotated[str, Parameter(help="From TERM to KILL: 10.")] = ""
    max_jobs_per_user: Annotated[Count, Parameter(help="Live jobs of one user.")] = None
    max_time_limit: Annotated[str, Parameter(help="The longest time limit: 7d.")] = ""
    output_head_bytes: Annotated[
        Count, Parameter(help="Bytes kept of the beginning of a job's output.")
    ] = None
    output_tail_bytes: Annotated[
        Count, Parameter(help="Bytes kept of the end of a job's output.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class RulesOfUse(Options):
    """Who is noticed for abuse; a rule is switched off by a 0."""

    abuse_submissions_per_min: Annotated[
        Count, Parameter(help="Submissions of one user in a minute, before he is noticed.")
    ] = None
    abuse_fail_percent: Annotated[
        Count, Parameter(help="Share of a user's attempts that fail at once, noticed: 80.")
    ] = None
    abuse_fail_jobs: Annotated[
        Count, Parameter(help="Attempts within an hour from which on the share counts.")
    ] = None
    abuse_fail_within: Annotated[
        str, Parameter(help="Failed at once is failed in less time than this: 10.")
    ] = ""
    abuse_idle_node: Annotated[
        str, Parameter(help="Node time held idle within 12 hours, before it is noticed: 4h.")
    ] = ""
    abuse_idle_percent: Annotated[
        Count, Parameter(help="An attempt is idle below this share of one processor: 5.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class RulesOfOutages(Options):
    """What is one outage, and who is told of it."""

    outage_window: Annotated[
        str, Parameter(help="Nodes of a rack lost within it of one another are one outage: 60.")
    ] = ""
    absence: Annotated[
        str, Parameter(help="A master that was away for longer is an outage: 60.")
    ] = ""
    notify: Annotated[
        bool | None, Parameter(help="Are people told of outages? Yes, unless this says no.")
    ] = None
    notice_delay: Annotated[
        str, Parameter(help="How long an outage gathers before people are told: 60.")
    ] = ""
    notice_jobs: Annotated[Count, Parameter(help="Jobs named in one notice.")] = None


UNCHANGED = RulesOfJobs(), RulesOfUse(), RulesOfOutages()


@policy_app.command
def show(*, form: OutputFormat = "table", past: AsOf = PRESENT, at: Service = NOWHERE) -> int:
    """Show the policy in force, and what each part of it means: the site's rules of use."""
    with at.client() as client:
        _show_policy(past.of(client).policy(), form)
    return exits.OK


@policy_app.command
def history(
    *,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many; 0: all.")] = 100,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List the policies there were, the latest first: who set each, when, and what it changed."""
    found: list[PolicyChangeOut] = []
    with at.client() as client:
        then = past.of(client)
        page = then.policy_history(limit=min(limit, PAGE) if limit else PAGE)
        found += page.policies
        while page.next is not None and (not limit or len(found) < limit):
            page = then.policy_history(limit=PAGE, cursor=page.next)
            found += page.policies
    kept = found[:limit] if limit else found
    if form in ("json", "name"):
        tree = PolicyHistoryOut(policies=kept, next=page.next, position=page.position)
        shown.write(kept, [], form, of=PolicyChangeOut, name=lambda one: str(one.policy), tree=tree)
        return exits.OK
    rows = [row for one in kept for row in _changes(one)]
    empty = "No policy was ever set: what holds is what `jobledger policy show` says."
    shown.write(rows, CHANGES, form, of=ChangeRow, name=lambda row: str(row.policy), empty=empty)
    if page.next is not None or len(found) > len(kept):
        say(f"There are more than {limit}; --limit 0 shows all.")
    if form in ("table", "wide"):
        shown.data(f"As of position {page.position}.")
    return exits.OK


@policy_app.command(name="set")
def set_(
    *,
    jobs: RulesOfJobs = UNCHANGED[0],
    use: RulesOfUse = UNCHANGED[1],
    outages: RulesOfOutages = UNCHANGED[2],
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Change the policy; what is left out stays as it is."""
    given = jobs.given() | use.given() | outages.given()
    if not given:
        raise BadWord("Say what to change, such as --job-lease 30.")
    with at.client() as client:
        _show_policy(client.set_policy(PolicyIn(**given)), form)
    return exits.OK


class ChangeRow(BaseModel):
    """A field that a policy changed; for a policy that changed none, one row with no field."""

    policy: int
    position: int
    set_at: datetime
    set_by: str
    machine: str
    field: str = ""
    was: int | None = None
    now: int | None = None


def _changes(one: PolicyChangeOut) -> list[ChangeRow]:
    told = one.model_dump(exclude={"changed"})
    return [ChangeRow(**told, **c.model_dump()) for c in one.changed] or [ChangeRow(**told)]


def _value(field: str, value: int | None) -> str:
    """A field of the policy with its unit."""
    if value is None:
        return ""
    if field.endswith("_s"):
        return shown_duration(value)
    unit = next((unit for end, unit in UNITS.items() if field.endswith(end)), "")
    return f"{value:,}{unit}"


UNITS = {"_bytes": " B", "_percent": " %"}
CHANGES: list[Column[ChangeRow]] = [
    Column("POLICY", lambda r: str(r.policy), right=True),
    Column("SET", lambda r: when(r.set_at)),
    Column("BY", lambda r: r.set_by),
    Column("FROM", lambda r: r.machine, wide=True),
    Column("POSITION", lambda r: str(r.position), right=True),
    Column("WHAT", lambda r: r.field.removesuffix("_s") or "nothing"),
    Column("WAS", lambda r: _value(r.field, r.was), right=True),
    Column("NOW", lambda r: _value(r.field, r.now), right=True),
]


def _show_policy(policy: PolicyOut, form: OutputFormat) -> None:
    if shown.tree(policy, form, name=str(policy.policy)):
        return
    rows = []
    for field, value in policy.model_dump(exclude={"meanings"}).items():
        meaning = policy.meanings.get(field, "")
        rows.append([field.removesuffix("_s"), _value(field, value), meaning])
    shown.table(["", "", ""], rows, wrap=True)
