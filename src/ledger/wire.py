"""What agents and master say to each other: one call, `sync`, that does all of it.

An agent posts a `SyncRequest` to `/v1/agents/NODE/sync` and gets a `SyncReply`; the call is a long
poll that returns as soon as the node's orders differ from what the agent said it has. `orders` is
the whole truth for the node, derived from the log's state and therefore repeated for free: what is
listed is to be run (or, with `stop`, to be stopped); what the agent has and is not listed is to be
killed and forgotten. Reports are resent until their `seq` stands in `acked`.

Lease: the agent counts `lease_s` on its boot-time clock from the *sending* of the last sync that
was answered; when it has run out, the agent kills its restartable attempts before anything else
and reports them ended with the cause `lease_expired`. Replies of an epoch lower than the highest
seen are ignored. Durations are seconds unless the name says otherwise.
"""

from typing import Literal

import msgspec

from ledger.events import Output

PROTOCOL = 1

Phase = Literal["held", "running", "stopping"]
EndKind = Literal["completed", "failed", "timeout", "out_of_memory", "node_fail", "stopped"]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A part of the protocol. Unknown fields are ignored, new ones have defaults."""


class Seen(Message, frozen=True, kw_only=True):
    """The highest head of the log an agent was ever shown: it witnesses that the log had it."""

    incarnation: str = ""
    epoch: int = 0
    position: int = 0
    hash: str = ""


class Has(Message, frozen=True, kw_only=True):
    """An attempt the agent has on its node now; `held`: waiting for the order to go."""

    job: int
    attempt: int
    phase: Phase


class Report(Message, frozen=True, kw_only=True):
    """A fact from an agent's spool; `seq` counts 1, 2, 3 … within one spool.

    `ended` is sent only when every process of the attempt is gone and its scratch is wiped.
    `cause`: exit, signal, time_limit, stopped, lease_expired, agent_restarted, exec_failed,
    no_such_account, out_of_memory, hold_dropped. `cpu_us`: processor time of all its processes
    here; absent where nobody measured it.
    """

    seq: int
    kind: Literal["started", "ended"]
    job: int
    attempt: int
    end: EndKind | None = None
    cause: str = ""
    exit_code: int | None = None
    signal: int | None = None
    ran_us: int = 0
    output: Output | None = None
    detail: str = ""
    cpu_us: int | None = None


class Facts(Message, frozen=True, kw_only=True):
    """What a node is and has installed, as its agent finds it."""

    cpus: int = 0
    memory_bytes: int = 0
    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""


class SyncRequest(Message, frozen=True, kw_only=True):
    """What an agent knows. `spool` is the random id of its spool: a new one means a lost memory.

    `sent_ns` is CLOCK_BOOTTIME at sending: the master ignores (409 `stale_sync`) a request that was
    sent before another of the same boot which it has already taken. `wait_s` is how long the master
    may hold the answer back when there is nothing new. `cannot_record` says why the spool takes no
    records, "" if it does: no attempt is begun then, and the node is to get none.
    """

    protocol: int
    spool: str
    boot_id: str
    sent_ns: int
    build: str
    facts: Facts
    seen: Seen = Seen()
    has: tuple[Has, ...] = ()
    reports: tuple[Report, ...] = ()
    cannot_record: str = ""
    wait_s: float = 20.0


class Order(Message, frozen=True, kw_only=True):
    """An attempt the node is to have. The first of `nodes` leads and runs the command.

    `go` is true once every other node has reported its hold; other nodes only hold. `stop` is the
    reason to stop it ("" to run it): TERM, `kill_grace_s`, KILL. `argv` is run as it is; where
    there is a `script`, it is written to a file in the scratch directory and run with `argv` as
    its arguments. `workdir` "" means the scratch directory; `output_path` "" the output store.
    """

    job: int
    attempt: int
    user: str
    nodes: tuple[str, ...]
    restartable: bool
    time_limit_s: int
    kill_grace_s: int
    go: bool = False
    stop: str = ""
    name: str = ""
    argv: tuple[str, ...] = ()
    script: str = ""
    workdir: str = ""
    output_path: str = ""
    array_first: int = 0
    array_index: int = -1
    request: str = ""
    output_head_bytes: int = 1 << 20
    output_tail_bytes: int = 1 << 20


class SyncReply(Message, frozen=True, kw_only=True):
    """The master's answer: its epoch and head, the lease, all orders, the reports it has."""

    protocol: int
    seen: Seen
    lease_s: int
    orders: tuple[Order, ...] = ()
    acked: tuple[int, ...] = ()


class EnrolRequest(Message, frozen=True, kw_only=True):
    """A machine's request to join, posted to `/v1/agents/NODE/enrol` with a join token."""

    pool: str = "default"
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: tuple[str, ...] = ()
    boot_id: str = ""
    facts: Facts = Facts()


class EnrolReply(Message, frozen=True, kw_only=True):
    """The node's own token, from now on its only credential. It is shown once."""

    node: str
    token: str
