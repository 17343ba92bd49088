"""What was the policy when, who set it, and what did that change?"""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from ledger.domain.service import POLICY_FIELDS
from ledger.domain.state import Policy
from ledger.events import PolicySet, Recorded
from ledger.projection import Projection, Table

MAX_LIMIT = 10_000
DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(PolicySet)}
FIRST = {name: getattr(Policy(), name) for name in POLICY_FIELDS}
"""What holds until a policy is set."""


class PolicyRow(msgspec.Struct, frozen=True):
    """A policy: where in the log it was set, when (µs), by whom, from which machine.

    `values` are its fields but those that are as events leave them out: a field that policies get
    later changes no row.
    """

    policy: int
    position: int
    set_at: int
    set_by: str
    machine: str
    values: dict[str, int]

    def whole(self) -> dict[str, int]:
        """Every field there is."""
        return {name: self.values.get(name, DEFAULTS[name]) for name in POLICY_FIELDS}


class Changed(msgspec.Struct, frozen=True):
    """A field that a policy changed, in the unit that its name tells."""

    field: str
    was: int
    now: int


class Change(msgspec.Struct, frozen=True):
    """A policy, as `PolicyRow` has it, and in what it differs from the one before."""

    policy: int
    position: int
    set_at: int
    set_by: str
    machine: str
    changed: tuple[Changed, ...]


def policy_keys(r: Recorded) -> Iterable[tuple[int]]:
    """The one that an event sets."""
    assert isinstance(r.event, PolicySet)
    return ((r.event.policy,),)


def evolve_policy(key: tuple[int], row: PolicyRow | None, r: Recorded) -> PolicyRow:
    """The policy that an event sets."""
    e = r.event
    assert isinstance(e, PolicySet)
    told = {name: getattr(e, name) for name in POLICY_FIELDS}
    values = {name: value for name, value in told.items() if value != DEFAULTS[name]}
    by, machine = r.envelope.by, r.envelope.via.machine
    return PolicyRow(e.policy, r.position, r.at, by, machine, values)


POLICIES = Table(
    "policies", PolicyRow, key=1, events=(PolicySet,), keys=policy_keys, evolve=evolve_policy
)


def history(
    connection: sa.Connection, *, limit: int = 100, cursor: str = ""
) -> tuple[list[Change], str | None]:
    """A page of policies, the latest first, and the cursor of the next page.

    Raises ValueError for a cursor that is none.
    """
    query = POLICIES.select().order_by(POLICIES.c.policy.desc())
    if cursor:
        query = query.where(POLICIES.c.policy < int(cursor))
    limit = max(1, min(limit, MAX_LIMIT))
    found = POLICIES.rows(connection, query.limit(limit + 1))
    before = [*(row.whole() for row in found[1:]), FIRST]
    changes = [_change(row, was) for row, was in zip(found[:limit], before, strict=False)]
    return changes, str(found[limit - 1].policy) if len(found) > limit else None


def _change(row: PolicyRow, was: dict[str, int]) -> Change:
    now = row.whole()
    changed = tuple(Changed(name, was[name], now[name]) for name in now if now[name] != was[name])
    return Change(row.policy, row.position, row.set_at, row.set_by, row.machine, changed)


def in_force(connection: sa.Connection) -> tuple[int, dict[str, int]]:
    """The number and every field of the policy that holds; number 0: none was ever set."""
    query = POLICIES.select().order_by(POLICIES.c.policy.desc()).limit(1)
    found = POLICIES.rows(connection, query)
    return (found[0].policy, found[0].whole()) if found else (0, dict(FIRST))


PROJECTION = Projection(
    "policies", version=1, tables=(POLICIES,), queries=(history, in_force), asked_by="anyone"
)
