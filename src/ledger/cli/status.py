"""`status`: how the service is, asked of the master, or of `follow` while the master is away."""

from typing import TYPE_CHECKING

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Service
from ledger.cli.exits import Stop, say
from ledger.cli.shown import when
from ledger.cli.text import line
from ledger.models import ProjectionOut, StatusOut

if TYPE_CHECKING:
    from ledger.settings import Settings

ANSWER_S = 3.0
"""How long each of the two has to answer: whoever asks may be in a hurry."""


def status(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Say how the service is: does it take submissions, does it start jobs, what is wrong.

    While the master is away `follow` answers, and says since when. Status 0 if all is well, 1 if
    something is wrong, 75 if no submission is taken now, 69 if nothing answers.
    """
    found = ask(at.settings())
    if not shown.tree(found, form, name="well" if found.well else "wrong"):
        _tell(found)
    if found.well:
        return exits.OK
    return exits.NOT_NOW_STATE if found.accepting else exits.TEMPORARY


def ask(settings: "Settings") -> StatusOut:
    """How the service is, by the master or else by `follow`. Raises `Stop` if neither answers, and
    `ClientError` if the one that answers refuses."""
    from ledger.client.blocking import Client
    from ledger.client.errors import NotUnderstood, Refused, Unreachable

    token, unheard = settings.token.get_secret_value(), []
    for url in filter(None, (settings.service_url(), settings.status_service())):
        try:
            with Client(url, token, patience_s=0, answer_s=ANSWER_S) as client:
                return client.status()
        except (Unreachable, NotUnderstood) as error:
            unheard.append(error.sentence)
        except Refused as refusal:
            if refusal.status < 500:
                raise
            unheard.append(refusal.sentence)
    raise Stop(
        exits.UNAVAILABLE,
        "Neither the master nor `follow` tells how the service is: " + " ".join(unheard),
        "On the service's machine: look at DIR/logs, and start it with `jobledger up --data DIR`. "
        "From elsewhere: set JOBLEDGER_STATUS_URL to where `follow` listens (--status-listen).",
    )


def _tell(found: StatusOut) -> None:
    shown.sentence(line(found.sentence))
    for warning in found.warnings:
        shown.sentence(line(warning), indent=2)
    shown.data("")
    shown.pairs(
        [
            ("submissions", "taken" if found.accepting else "not taken"),
            ("jobs", "being started" if found.starting else "not being started"),
            ("master silent since", when(found.master_silent_since)),
            ("nodes", _nodes(found)),
            ("pending, running", _jobs(found)),
            ("log", f"position {found.position}, last written {when(found.written_at) or 'never'}"),
            ("projections", _projections(found.projections)),
            ("backup", _backup(found)),
            ("release", found.build),
        ]
    )
    if found.told_by == "follow":
        say("Told by `follow`.")


def _nodes(found: StatusOut) -> str:
    if found.nodes is None:
        return ""
    return f"{found.in_service} of {found.nodes} in service, {found.lost} lost" + _counted(found)


def _jobs(found: StatusOut) -> str:
    if found.pending is None:
        return ""
    return f"{found.pending}, {found.running}" + _counted(found)


def _counted(found: StatusOut) -> str:
    """What the master said last is as old as its silence."""
    return "" if found.master_silent_since is None else f" (at {when(found.counted_at)})"


def _projections(found: list[ProjectionOut]) -> str:
    """Those that are not up to date; of the others, how many."""
    late = [_projection(one) for one in found if one.state != "up to date"]
    if not late:
        return f"all {len(found)} up to date" if found else ""
    rest = len(found) - len(late)
    return ", ".join([*late, *([f"{rest} up to date"] if rest else [])])


def _projection(one: ProjectionOut) -> str:
    if one.state == "behind":
        return f"{one.projection} {one.lag_events} events ({one.lag_s:.1f} s) behind"
    return f"{one.projection} {one.state}"


def _backup(found: StatusOut) -> str:
    state = found.backups
    if state is None:
        return ""
    if state.age_s is None:
        return "none that counts" if state.every_s else "none that counts, and none are scheduled"
    late = "; TOO OLD" if state.warning else ""
    return f"the newest that counts is {state.age_s / 3600:.1f} h old{late}"
