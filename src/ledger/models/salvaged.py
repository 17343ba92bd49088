"""What can still be told where the whole service is lost: whom that hit, and what is not known."""

from datetime import datetime
from typing import Literal

from ledger.models.answered import Answer


class SalvagedJobOut(Answer):
    """A job that the loss of the service hit. Null times: not known, or not yet.

    `waiting`: it waited, and must be submitted again. `not_begun`: it was placed, and its node says
    that it never began. `may_run`: its node says that it began, and not that it has ended. `ended`:
    its node says how, by `end` and `exit_code`. `unknown`: it ran. `out_of_contact`: a node under
    it was lost already. `lost`: so was the job, some time before. `at_stake_node_s` is the node
    time of an attempt of which nobody knows that it completed, as far as the log goes.
    """

    job: int
    attempt: int
    nodes: list[str]
    submitted_at: datetime | None
    began_at: datetime | None
    restartable: bool | None
    effect: Literal["waiting", "not_begun", "may_run", "ended", "unknown", "out_of_contact", "lost"]
    end: str = ""
    exit_code: int | None = None
    at_stake_node_s: float
    known_from: Literal["log", "unproven", "spool"]


class SalvagedUserOut(Answer):
    """A user who was hit. The account of jobs that only spools know is not known: empty.

    `submit_again` counts jobs that never ran, `needs_owner` all that somebody has to look after.
    """

    user: str
    account: str
    jobs: list[SalvagedJobOut]
    at_stake_node_s: float
    submit_again: int
    needs_owner: int


class SalvageSourceOut(Answer):
    """What was read: which positions of the log it has (0: none), until when, and what could not
    be read of it, in words."""

    path: str
    kind: Literal["log", "export", "backup", "spool", "unknown"]
    first: int
    last: int
    at: datetime | None
    trouble: list[str]


class SalvageOut(Answer):
    """Whom the loss of the whole service hit, as far as what is left tells.

    The log is proved whole up to `position` (0: nothing of it is), which was appended at `at`.
    `unknown` says in sentences what can't be known, `advice` what may be better than this list.
    """

    position: int
    commit: int
    hash: str
    at: datetime | None
    incarnation: str
    verdict: str
    users: list[SalvagedUserOut]
    sources: list[SalvageSourceOut]
    unknown: list[str]
    advice: list[str]
