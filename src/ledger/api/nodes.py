"""Routes about nodes: looking at them, and the operators' chores."""

from fastapi import APIRouter

from ledger.api import show
from ledger.api.auth import Caller, Who
from ledger.api.describe import NodeName
from ledger.commands import Command, Configure, Down, Drain, Resume, Retire
from ledger.domain.errors import UnknownNode
from ledger.domain.schedule import natural
from ledger.domain.state import Cluster
from ledger.models import ConfigureIn, DoneOut, NodeOut, NodesOut, ReasonIn

router = APIRouter(prefix="/v1/nodes", tags=["nodes"])


@router.get("")
async def list_nodes(who: Who) -> NodesOut:
    """All nodes, in the order of their names."""
    who.demand("node.see")
    cluster: Cluster = await who.running.master.settled()
    names = sorted(cluster.nodes, key=natural)
    return NodesOut(
        nodes=[show.node(cluster.nodes[name]) for name in names], position=cluster.position
    )


@router.get("/{node}")
async def show_node(who: Who, node: NodeName) -> NodeOut:
    """One node."""
    who.demand("node.see")
    cluster: Cluster = await who.running.master.settled()
    if node not in cluster.nodes:
        raise UnknownNode(f"There is no node {node[:64]}.")
    return show.node(cluster.nodes[node])


@router.patch("/{node}")
async def configure(who: Who, node: NodeName, body: ConfigureIn) -> DoneOut:
    """Say where a node stands and what kind it is."""
    command = Configure(
        node=node,
        pool=body.pool,
        serial=body.serial,
        rack=body.rack,
        switch=body.switch,
        power=body.power,
        features=body.features,
    )
    return await _tell(who, command, node)


@router.post("/{node}/drain")
async def drain(who: Who, node: NodeName, body: ReasonIn) -> DoneOut:
    """Give a node no new job; what runs there runs on."""
    return await _tell(who, Drain(node=node, reason=body.reason), node)


@router.post("/{node}/resume")
async def resume(who: Who, node: NodeName, body: ReasonIn) -> DoneOut:
    """Let a drained node take jobs again."""
    return await _tell(who, Resume(node=node, reason=body.reason), node)


@router.post("/{node}/down")
async def down(who: Who, node: NodeName, body: ReasonIn) -> DoneOut:
    """Declare a node dead: what ran there is lost."""
    return await _tell(who, Down(node=node, reason=body.reason), node)


@router.post("/{node}/retire")
async def retire(who: Who, node: NodeName, body: ReasonIn) -> DoneOut:
    """Take an empty node out of the cluster for good."""
    return await _tell(who, Retire(node=node, reason=body.reason), node)


async def _tell(who: Caller, command: Command, node: str) -> DoneOut:
    running = who.running
    outcome = await running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    cluster: Cluster = await running.master.settled()
    known = cluster.nodes.get(node)
    return DoneOut(
        node=node,
        state=known.state if known is not None else "retired",
        changed=bool(outcome.events),
        position=running.master.head.position,
    )
