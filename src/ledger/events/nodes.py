"""What can happen to nodes and to the agents on them."""

from ledger.events.base import Event, NodeState, Part, event


class NodeEvent(Event, frozen=True, kw_only=True):
    """What every event about a node repeats."""

    node: str

    @property
    def stream(self) -> str:
        return f"node-{self.node}"


@event("node.enrolled.v1", "agent")
class NodeEnrolled(NodeEvent, frozen=True, kw_only=True):
    """A machine joined the cluster; it takes jobs of `pool` once it has reported itself empty."""

    pool: str
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: tuple[str, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0
    boot_id: str = ""


@event("node.configured.v1", "person")
class NodeConfigured(NodeEvent, frozen=True, kw_only=True):
    """A node's place and kind are now these: all fields, not only the changed ones."""

    pool: str
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: tuple[str, ...] = ()
    cpus: int = 0
    memory_bytes: int = 0


class Struck(Part, frozen=True, kw_only=True):
    """An attempt that a node's trouble touched, with what its owner needs to know."""

    job: int
    attempt: int
    user: str
    account: str = ""
    pool: str = ""
    restartable: bool = False
    placed_at: int = 0


@event("node.state_changed.v1", "clock")
class NodeStateChanged(NodeEvent, frozen=True, kw_only=True):
    """A node's state changed. `silent_since` is its last answered contact when `cause` is silence.

    Where `to` is as it `was`, something more was said of it, such as a further reason to drain.
    `struck` are the attempts on it at that moment: their owners are on record as affected.
    `outage` is the number of the outage it belongs to, 0 for none.
    """

    was: NodeState
    to: NodeState
    cause: str
    pool: str = ""
    rack: str = ""
    reason: str = ""
    silent_since: int = 0
    struck: tuple[Struck, ...] = ()
    outage: int = 0


@event("node.software_changed.v1", "agent")
class NodeSoftwareChanged(NodeEvent, frozen=True, kw_only=True):
    """What a node has installed is now this."""

    image: str = ""
    kernel: str = ""
    packages_sha256: str = ""
    build: str = ""


@event("node.checked.v1", "agent")
class NodeChecked(NodeEvent, frozen=True, kw_only=True):
    """A node was compared with its known state."""

    passed: bool
    check: str = ""
    detail: str = ""


@event("node.retired.v1", "person")
class NodeRetired(NodeEvent, frozen=True, kw_only=True):
    """A node left the cluster for good; its name may be enrolled again, its history stays."""

    reason: str = ""


@event("agent.seen.v1", "agent")
class AgentSeen(NodeEvent, frozen=True, kw_only=True):
    """An agent came with another build or boot id, or as a new process, than last time."""

    build: str
    boot_id: str
    instance: str
    protocol: int
