"""What `/v1` answers about queues and demand."""

from datetime import datetime

from ledger.models.answered import Answer


class QueuedOut(Answer):
    """What waits and runs of those whom the grouping names: jobs, and the nodes they ask for or
    have. `held` is the part of what is queued that waits for a release. `nodes_in_service` take
    jobs; null where users or accounts are told apart, whose nodes are nobody's."""

    pool: str = ""
    user: str = ""
    account: str = ""
    queued_jobs: int
    queued_nodes: int
    held_jobs: int
    held_nodes: int
    running_jobs: int
    nodes_in_use: int
    nodes_in_service: int | None


class QueueOut(Answer):
    """The queue as it is: by group, and all of it together."""

    rows: list[QueuedOut]
    whole: QueuedOut
    position: int
    at: datetime


class DemandedOut(QueuedOut):
    """The demand of a period; the levels (jobs and nodes) are those at its end.

    What ends in `_seconds` of a level is its integral over the period: divided by the period's
    length it is the average. `asked` (submitted), `started` (for the first time), `withdrawn`
    (ended while they waited), `refused` (by a limit or the cluster's size): jobs, and nodes times
    the time limits that they asked for. `unmet_node_seconds`: what was queued and not held, as far
    as it and what was in use were more than the nodes in service, quarter of an hour by quarter of
    an hour; null where these are.
    """

    since: datetime
    until: datetime
    queued_job_seconds: float
    queued_node_seconds: float
    held_job_seconds: float
    held_node_seconds: float
    running_job_seconds: float
    in_use_node_seconds: float
    in_service_node_seconds: float | None
    unmet_node_seconds: float | None
    asked_jobs: int
    asked_node_seconds: int
    started_jobs: int
    started_node_seconds: int
    withdrawn_jobs: int
    withdrawn_node_seconds: int
    refused_jobs: int
    refused_node_seconds: int


class DemandOut(Answer):
    """Demand between two moments, which are whole quarters of an hour; `until` may be the present.
    `zone` is where its days and hours begin."""

    since: datetime | None
    until: datetime | None
    zone: str
    rows: list[DemandedOut]
    position: int
