"""The two functions the whole system turns on: `decide` and `evolve`.

`decide(cluster, ask, command)` says which events a request comes to, or refuses; it changes
nothing. `evolve(cluster, recorded)` makes a recorded event part of the state; it never refuses.
The master's memory is `fold(log)` and nothing else: recovery, a standby, and "as of last Tuesday"
are the same function over the same events.
"""

from collections.abc import Callable, Iterable
from typing import Any

from ledger import commands as cmd
from ledger import events as ev
from ledger.domain import abuse, attempt, contact, job, node, notices, outage, service, submit
from ledger.domain.permissions import demand
from ledger.domain.state import Ask, Cluster, Outcome

DECIDE: dict[type[cmd.Command], Callable[[Cluster, Ask, Any], Outcome]] = {
    cmd.Submit: submit.decide,
    cmd.Cancel: job.decide_cancel,
    cmd.Hold: job.decide_hold,
    cmd.Release: job.decide_release,
    cmd.Requeue: job.decide_requeue,
    cmd.Change: job.decide_change,
    cmd.Place: attempt.decide_place,
    cmd.GiveUp: attempt.decide_give_up,
    cmd.ReportStarted: attempt.decide_started,
    cmd.ReportEnded: attempt.decide_ended,
    cmd.Enrol: node.decide_enrol,
    cmd.Configure: node.decide_configure,
    cmd.Drain: node.decide_drain,
    cmd.Resume: node.decide_resume,
    cmd.Down: node.decide_down,
    cmd.Retire: node.decide_retire,
    cmd.Silence: node.decide_silence,
    cmd.Contact: contact.decide,
    cmd.OpenOutage: outage.decide_open,
    cmd.FindCause: outage.decide_cause,
    cmd.CloseOutage: outage.decide_close,
    cmd.TendOutages: outage.decide_tend,
    cmd.NoteAbsence: outage.decide_absence,
    cmd.Tell: notices.decide_tell,
    cmd.SetContact: notices.decide_recipient,
    cmd.RecordSent: notices.decide_sent,
    cmd.RecordFailed: notices.decide_failed,
    cmd.IssueToken: service.decide_issue,
    cmd.RevokeToken: service.decide_revoke,
    cmd.SetPolicy: service.decide_policy,
    cmd.StartMaster: service.decide_start,
    cmd.StopMaster: service.decide_stop,
    cmd.SkipProjection: service.decide_skip,
    cmd.RecordRefused: service.decide_refused,
    cmd.NoteAbuse: abuse.decide_note,
    cmd.AnswerAbuse: abuse.decide_answer,
}

EVOLVE: dict[type[ev.Event], Callable[[Cluster, ev.Recorded, Any], None]] = {
    ev.JobsSubmitted: job.evolve_submitted,
    ev.JobHeld: job.evolve_held,
    ev.JobReleased: job.evolve_released,
    ev.JobChanged: job.evolve_changed,
    ev.JobCancelRequested: job.evolve_cancel_requested,
    ev.JobRequeued: job.evolve_requeued,
    ev.JobEnded: job.evolve_ended,
    ev.AttemptPlaced: attempt.evolve_placed,
    ev.AttemptStarted: attempt.evolve_started,
    ev.AttemptEnded: attempt.evolve_ended,
    ev.StaleReported: attempt.evolve_stale,
    ev.NodeEnrolled: node.evolve_enrolled,
    ev.NodeConfigured: node.evolve_configured,
    ev.NodeStateChanged: node.evolve_state,
    ev.NodeSoftwareChanged: node.evolve_software,
    ev.NodeChecked: node.evolve_checked,
    ev.NodeRetired: node.evolve_retired,
    ev.AgentSeen: node.evolve_seen,
    ev.OutageOpened: outage.evolve_opened,
    ev.OutageGrew: outage.evolve_grew,
    ev.OutageCauseFound: outage.evolve_cause,
    ev.OutageClosed: outage.evolve_closed,
    ev.OutageTold: notices.evolve_told,
    ev.NoticeDue: notices.evolve_due,
    ev.NoticeSent: notices.evolve_sent,
    ev.NoticeFailed: notices.evolve_failed,
    ev.ContactSet: notices.evolve_recipient,
    ev.TokenIssued: service.evolve_issued,
    ev.TokenRevoked: service.evolve_revoked,
    ev.PolicySet: service.evolve_policy,
    ev.MasterStarted: service.evolve_started,
    ev.MasterStopped: service.evolve_stopped,
    ev.LogRestored: service.evolve_restored,
    ev.ProjectionSkipped: service.evolve_nothing,
    ev.DemandRefused: service.evolve_nothing,
    ev.AbuseFound: abuse.evolve_found,
    ev.AbuseAnswered: service.evolve_nothing,
}

_SYSTEM_ONLY = (
    cmd.Place,
    cmd.GiveUp,
    cmd.Silence,
    cmd.TendOutages,
    cmd.NoteAbsence,
    cmd.Tell,
    cmd.RecordSent,
    cmd.RecordFailed,
    cmd.StartMaster,
    cmd.StopMaster,
    cmd.RecordRefused,
    cmd.NoteAbuse,
)
_NODES_OWN = (cmd.Contact, cmd.ReportStarted, cmd.ReportEnded)


def decide(c: Cluster, ask: Ask, command: cmd.Command) -> Outcome:
    """What a request comes to. Raises a `Refusal`; changes nothing.

    Who may ask is checked by the command's own function against its object's owner, through
    `permissions.demand`; what only we or only a node may say is checked here.
    """
    if isinstance(command, cmd.Submit):
        demand(ask.subject, "submit")
    elif isinstance(command, _NODES_OWN):
        demand(ask.subject, "node.speak", command.node)
    elif isinstance(command, _SYSTEM_ONLY):
        assert ask.subject.role == "system", f"{command} from {ask.subject}"
    return DECIDE[type(command)](c, ask, command)


def evolve(c: Cluster, r: ev.Recorded) -> None:
    """Make one recorded event part of the state."""
    assert r.position > c.position, f"event {r.position} comes after {c.position}"
    if r.at != c.at and c.idle_keys:
        job.forget_keys(c, r.at)
    event = r.event
    EVOLVE[type(event)](c, r, event)
    c.position, c.at, c.epoch = r.position, r.at, r.epoch


def fold(events: Iterable[ev.Recorded], c: Cluster | None = None) -> Cluster:
    """The state after `events`, from nothing or from an earlier state (which is changed)."""
    c = Cluster() if c is None else c
    for recorded in events:
        evolve(c, recorded)
    return c
