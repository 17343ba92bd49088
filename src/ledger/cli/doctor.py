"""`doctor`: is the service well, and if not, what to do."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Service
from ledger.cli.failures import coloured
from ledger.cli.shown import when
from ledger.cli.text import line
from ledger.cli.words import shown_nodes

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.settings import Settings

LITTLE_ROOM, NO_ROOM = 5 << 30, 256 << 20
LAG_EVENTS = 1_000
SLOW_S = 1.0
MANY = 1_000
LATELY_DAYS = 7
COLOURS = {"ok": "32", "warn": "33", "fail": "31"}


class Finding(BaseModel):
    """What one check found: is it well, in words, and what to do if it is not."""

    check: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


class Check(NamedTuple):
    """A check: its name, and how it looks."""

    name: str
    look: Callable[["Client"], Iterator[tuple[str, str, str]]]


def doctor(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Check the service: reachable, ready, clock, log, projections, disk, backups, agents.

    It says what to do. Status 69 if no service answers, 1 if a check failed, else 0.
    """
    from ledger.client.blocking import Client

    settings = at.settings()
    findings = []
    with Client(settings.service_url(), settings.token.get_secret_value(), patience_s=0) as client:
        reached = _look(CHECKS[0], client)
        findings += reached
        if reached[0].verdict != "fail":
            for check in CHECKS[1:]:
                findings += _look(check, client)
    findings += _beside(settings)
    if form in ("table", "wide"):
        for finding in findings:
            _tell(finding)
    else:
        shown.write(findings, [], form, of=Finding, name=lambda f: f"{f.check}:{f.verdict}")
    if findings[0].verdict == "fail":
        return exits.UNAVAILABLE
    return exits.NOT_NOW_STATE if any(f.verdict == "fail" for f in findings) else exits.OK


def _look(check: Check, client: "Client") -> list[Finding]:
    """What a check finds; a request of it that fails is a finding too."""
    from ledger.client.errors import ClientError, Refused

    try:
        return [
            Finding(check=check.name, verdict=verdict, found=found, advice=advice)  # type: ignore[arg-type]
            for verdict, found, advice in check.look(client)
        ]
    except Refused as refusal:
        verdict: Literal["warn", "fail"] = "warn" if refusal.status == 403 else "fail"
        found, advice = refusal.sentence, refusal.hint
    except ClientError as error:
        verdict, found, advice = "fail", error.sentence, error.hint
    return [Finding(check=check.name, verdict=verdict, found=found, advice=advice)]


def _tell(finding: Finding) -> None:
    import sys

    mark = f"{finding.verdict:<4}"
    if coloured(sys.stdout):
        mark = f"\x1b[{COLOURS[finding.verdict]}m{mark}\x1b[0m"
    shown.data(f"{mark}  {finding.check:<11}  {line(finding.found)}")
    if finding.advice and finding.verdict != "ok":
        shown.data(f"                   {line(finding.advice)}")


def _reachable(client: "Client") -> Iterator[tuple[str, str, str]]:
    began = time.monotonic()
    state = client.ready()
    took = time.monotonic() - began
    found = f"{client.place.shown} answers in {took * 1000:.0f} ms"
    advice = "Look at the load of the master's machine and disk."
    yield "warn" if took > SLOW_S else "ok", found, advice
    if not state.ready:
        replays = "The master replays its log; ask again in a while."
        advice = "docs/runbooks says what to do about it." if state.epoch else replays
        yield "warn", state.sentence, advice
    late = state.backups.warning if state.backups else ""
    for warning in state.warnings:
        if warning != late:
            yield "fail", warning, "docs/runbooks says what to do about it."


def _beside(settings: "Settings") -> list[Finding]:
    """Whether `follow` answers on its own listener, and what it says if the master is away."""
    from ledger.client.blocking import Client

    url = settings.status_service()
    if not url:
        found = "not looked at: JOBLEDGER_STATUS_URL does not say where `follow` listens"
        return [Finding(check="follow", verdict="ok", found=found)]

    def look(client: "Client") -> Iterator[tuple[str, str, str]]:
        told = client.status()
        if told.master_silent_since is None:
            yield "ok", f"{client.place.shown} tells how the service is", ""
        else:
            since = when(told.master_silent_since)
            advice = "See the master's log (DIR/logs/master.log), and start it again."
            yield "fail", f"it says that the master has been silent since {since}", advice

    with Client(url, settings.token.get_secret_value(), patience_s=0, answer_s=SLOW_S) as client:
        return _look(Check("follow", look), client)


def _who(client: "Client") -> Iterator[tuple[str, str, str]]:
    who = client.whoami()
    yield "ok", f"{who.name} ({who.role}), by {who.how}", ""


def _head(client: "Client") -> Iterator[tuple[str, str, str]]:
    head = client.head()
    found = f"position {head.position}, commit {head.commit}, epoch {head.epoch}"
    yield "ok", f"{found}, last written {when(head.at)}", ""


def _clock(client: "Client") -> Iterator[tuple[str, str, str]]:
    at = client.head().at
    present = datetime.now(UTC)
    if at is not None and at > present + timedelta(seconds=5):
        behind = (at - present).total_seconds()
        found = f"this machine's clock is {behind:.0f} s behind the log's last time"
        yield "fail", found, "Set the clock by NTP; a master that starts here will refuse to."
    else:
        yield "ok", "this machine's clock does not lie before the log's last time", ""


def _projections(client: "Client") -> Iterator[tuple[str, str, str]]:
    told = client.status().projections
    for one in told:
        if one.state in ("stopped", "unavailable"):
            advice = "Is `jobledger follow` running? Its log says what it met."
            yield "fail", f"{one.projection} does not follow the log: {one.error}", advice
    most = max((one.lag_events for one in told), default=0)
    found = f"{len(told)} are installed, and at most {most} events behind the log"
    advice = "Is `jobledger follow` running? Its log says how far it is."
    yield "warn" if most > LAG_EVENTS else "ok", found, advice


def _disk(client: "Client") -> Iterator[tuple[str, str, str]]:
    if client.place.socket is None:
        yield "ok", "not looked at: the service is not on this machine's Unix socket", ""
        return
    folder = os.path.dirname(client.place.socket)
    free = shutil.disk_usage(folder).free
    verdict = "fail" if free < NO_ROOM else "warn" if free < LITTLE_ROOM else "ok"
    found = f"{free / 2**30:.1f} GiB free at {folder}"
    yield verdict, found, "Free space before the log's disk is full: then nothing can be recorded."


def _backups(client: "Client") -> Iterator[tuple[str, str, str]]:
    state = client.ready().backups
    if state is None:
        yield "ok", "not looked at: the master is not ready, or keeps none", ""
    elif state.warning:
        advice = "`jobledger follow` makes them: see its log; `jobledger backup create` makes one."
        yield "warn", state.warning, advice
    elif state.age_s is None:
        yield "ok", "none, and none are scheduled (JOBLEDGER_BACKUP_EVERY)", ""
    else:
        yield "ok", f"the newest verified one is {state.age_s / 3600:.1f} h old", ""


def _notices(client: "Client") -> Iterator[tuple[str, str, str]]:
    waiting = client.notices(state="waiting", limit=MANY).notices
    late = [n for n in waiting if n.error]
    since = datetime.now(UTC) - timedelta(days=LATELY_DAYS)
    given_up = [n for n in client.notices(state="failed", limit=MANY).notices if n.due_at > since]
    advice = "`jobledger notice list` shows them; see JOBLEDGER_MAIL, and `jobledger contact test`."
    if late:
        yield "warn", f"could not be sent yet: {len(late)}; the last says: {late[0].error}", advice
    if given_up:
        found = f"given up within {LATELY_DAYS} days: {len(given_up)}"
        yield "warn", f"{found}; the last says: {given_up[0].error}", advice
    if not late and not given_up:
        yield "ok", f"{len(waiting)} wait, none has failed lately", ""


def _nodes(client: "Client") -> Iterator[tuple[str, str, str]]:
    nodes = client.nodes().nodes
    if not nodes:
        advice = "Start an agent: `jobledger agent`; its join token: `jobledger token issue`."
        yield "warn", "no node has joined", advice
        return
    down = [node.node for node in nodes if node.state == "down"]
    silent = [n.node for n in nodes if n.silent_since is not None and n.node not in down]
    if down:
        advice = "`jobledger impact` says whom it hit; see the agents' logs on these nodes."
        yield "fail" if len(down) == len(nodes) else "warn", f"down: {shown_nodes(down)}", advice
    if silent:
        yield "warn", f"silent: {shown_nodes(silent)}", "They are lost after the policy's lease."
    if not down and not silent:
        yield "ok", f"{len(nodes)} nodes, all in contact", ""


def _builds(client: "Client") -> Iterator[tuple[str, str, str]]:
    from ledger.client.wire import build

    ours = build()
    others = sorted({n.build for n in client.nodes().nodes if n.build and n.build != ours})
    if others:
        found = f"this is {ours}, agents are {', '.join(others)}"
        yield "warn", found, "Agents may be one release behind; bring them up to date."
    else:
        yield "ok", f"{ours} here and on the nodes", ""


CHECKS = (
    Check("service", _reachable),
    Check("identity", _who),
    Check("log", _head),
    Check("clock", _clock),
    Check("projections", _projections),
    Check("disk", _disk),
    Check("backups", _backups),
    Check("notices", _notices),
    Check("nodes", _nodes),
    Check("release", _builds),
)
