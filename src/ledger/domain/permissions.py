"""Who may do what: one table and one function, asked for every command and every reading.

`docs/reference/permissions.md` is made from `TABLE`, and a test asks every route as every role.
"""

from typing import Literal, NamedTuple

from ledger.commands import Subject
from ledger.domain.errors import Forbidden

Reach = Literal["any", "own", "no"]


class Rule(NamedTuple):
    """For one action: what each role may do it to. `system` may do everything."""

    user: Reach
    operator: Reach
    node: Reach
    join: Reach
    what: str


TABLE: dict[str, Rule] = {
    "submit": Rule("any", "any", "no", "no", "submit jobs in one's own name"),
    "job.see": Rule("any", "any", "no", "no", "a job's id, owner, account, pool, nodes, state"),
    "job.details": Rule("own", "any", "no", "no", "a job's name, script, arguments, output, notes"),
    "job.cancel": Rule("own", "any", "no", "no", "cancel a job"),
    "job.hold": Rule("own", "any", "no", "no", "hold a job"),
    "job.release": Rule("own", "any", "no", "no", "release a job (an operator's hold: operators)"),
    "job.requeue": Rule("own", "any", "no", "no", "requeue a running job"),
    "job.change": Rule("own", "any", "no", "no", "change a job's request"),
    "node.see": Rule("any", "any", "no", "no", "nodes, their states and kinds"),
    "node.manage": Rule("no", "any", "no", "no", "drain, resume, down, retire, configure nodes"),
    "node.enrol": Rule("no", "any", "no", "own", "enrol a node (a join token: its own name)"),
    "node.speak": Rule("no", "no", "own", "no", "sync and upload output as a node"),
    "token.issue": Rule("own", "any", "no", "no", "issue a token (users: for themselves, as user)"),
    "token.see": Rule("own", "any", "no", "no", "list tokens, without their secrets"),
    "token.revoke": Rule("own", "any", "no", "no", "revoke a token"),
    "policy.set": Rule("no", "any", "no", "no", "change the policy"),
    "policy.see": Rule("any", "any", "no", "no", "the policy in force"),
    "impact.see": Rule("own", "any", "no", "no", "who was hit by an outage (users: themselves)"),
    "outage.see": Rule("any", "any", "no", "no", "outages, their nodes, windows and causes"),
    "outage.manage": Rule("no", "any", "no", "no", "open, plan and close outages, say their cause"),
    "contact.set": Rule("own", "any", "no", "no", "say how one is told (desks: operators)"),
    "contact.see": Rule("own", "any", "no", "no", "how somebody is told, by scheme and host"),
    "notice.see": Rule("own", "any", "no", "no", "notices: due, sent, failed (desks: operators)"),
    "usage.see": Rule("any", "any", "no", "no", "how much of the cluster was used, and by whom"),
    "abuse.see": Rule("own", "any", "no", "no", "who broke the rules of use (users: themselves)"),
    "abuse.answer": Rule("no", "any", "no", "no", "say what became of a finding"),
    "demand.see": Rule("any", "any", "no", "no", "queues over time, what was asked for, by whom"),
    "projection.ask": Rule("own", "any", "no", "no", "ask projections (users: as they let them)"),
    "log.read": Rule("no", "any", "no", "no", "the event stream"),
    "log.head": Rule("any", "any", "any", "no", "the head of the log"),
    "service.see": Rule("any", "any", "any", "any", "is the service up, who am I"),
    "service.metrics": Rule("no", "any", "no", "no", "metrics"),
    "inner.see": Rule("no", "any", "no", "no", "the master's inner state"),
    "projection.see": Rule(
        "any", "any", "no", "no", "which projections there are, how far they are"
    ),
    "projection.skip": Rule("no", "any", "no", "no", "let a projection leave out an event"),
}


def may(subject: Subject, action: str, owner: str = "") -> bool:
    """May `subject` do `action` to something of `owner` (a user, or a node's name)?"""
    if subject.role == "system":
        return True
    reach: Reach = getattr(TABLE[action], subject.role)
    return reach == "any" or (reach == "own" and bool(owner) and owner == subject.name)


def demand(subject: Subject, action: str, owner: str = "") -> None:
    """Raise `Forbidden`, with its reason, unless `may`."""
    if may(subject, action, owner):
        return
    what = TABLE[action].what
    who = f"{subject.name} ({subject.role})"
    if owner and owner != subject.name:
        raise Forbidden(f"{who} may not do this to what belongs to {owner}: {what}.")
    raise Forbidden(f"{who} may not do this: {what}.")
