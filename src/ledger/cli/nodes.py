"""`nodes` and `node …`: the machines."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.acts import each
from ledger.cli.common import NOWHERE, Nodes, OutputFormat, Quiet, Service
from ledger.cli.shown import Column, when
from ledger.cli.words import BadWord, node_names
from ledger.models import ConfigureIn, NodeOut

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.models import DoneOut

Reason = Annotated[str, Parameter(name=["--reason", "-m"], help="Why; it is shown beside it.")]
node_app = App(name="node")
node_app.command(
    "ledger.cli.node_history:history",
    name="history",
    help="Say what happened on a node, what it had installed, and what ran there.",
)
node_app.command(
    "ledger.cli.node_history:failures",
    name="failures",
    help="List the nodes where jobs failed that succeeded elsewhere later.",
)


def nodes(
    *names: Nodes,
    pool: Annotated[str, Parameter(name=["--pool", "-p"], help="Only those of this pool.")] = "",
    state: Annotated[str, Parameter(name=["--state", "-t"], help="Only those in this state.")] = "",
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """List the nodes."""
    wanted = set(node_names(",".join(names))) if names else None
    with at.client() as client:
        answer = client.nodes()
    kept = [
        node
        for node in answer.nodes
        if (wanted is None or node.node in wanted)
        and pool in ("", node.pool)
        and state in ("", node.state)
    ]
    tree = answer.model_copy(update={"nodes": kept})
    shown.write(
        kept, COLUMNS, form, of=NodeOut, name=lambda n: n.node, tree=tree, empty="No nodes."
    )
    return exits.OK


def _why(node: NodeOut) -> str:
    """Why it is in its state; of a node that drains all that was said, the first reason first."""
    reasons = [said.reason for said in node.said if said.reason]
    return "; ".join(reasons) or node.reason or node.cause


COLUMNS: list[Column[NodeOut]] = [
    Column("NODE", lambda n: n.node),
    Column("POOL", lambda n: n.pool),
    Column("STATE", lambda n: n.state + (" (drain)" if n.drain and n.state == "down" else "")),
    Column("JOBS", lambda n: ",".join(map(str, n.jobs))),
    Column("SINCE", lambda n: when(n.since)),
    Column("SILENT SINCE", lambda n: when(n.silent_since)),
    Column("WHY", _why),
    Column("CPUS", lambda n: str(n.cpus), wide=True, right=True),
    Column("MEMORY", lambda n: f"{n.memory_bytes / 2**30:.1f} GiB", wide=True, right=True),
    Column("FEATURES", lambda n: ",".join(n.features), wide=True),
    Column("SERIAL", lambda n: n.serial, wide=True),
    Column("RACK", lambda n: n.rack, wide=True),
    Column("SWITCH", lambda n: n.switch, wide=True),
    Column("POWER", lambda n: n.power, wide=True),
    Column("IMAGE", lambda n: n.image, wide=True),
    Column("KERNEL", lambda n: n.kernel, wide=True),
    Column("BUILD", lambda n: n.build, wide=True),
]


@node_app.command
def show(name: str, /, *, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Show everything about one node."""
    with at.client() as client:
        found = client.node(_name(name))
    if not shown.tree(found, form, name=found.node):
        facts = [(c.title.lower(), c.text(found)) for c in COLUMNS if c.title != "WHY"]
        said = [f"{s.reason or s.cause} ({s.by}, {when(s.at)})" for s in found.said]
        whys = [("why", text) for text in said or [_why(found)]]
        shown.pairs([*facts[:3], *whys, *facts[3:]])
    return exits.OK


@node_app.command
def drain(*names: Nodes, reason: Reason = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Give nodes no new jobs; what runs there runs on."""
    return _each(names, lambda c, n: c.node_do(n, "drain", reason), quiet, at)


@node_app.command
def resume(*names: Nodes, reason: Reason = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Let drained nodes take jobs again."""
    return _each(names, lambda c, n: c.node_do(n, "resume", reason), quiet, at)


@node_app.command
def down(*names: Nodes, reason: Reason = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Declare nodes dead: what ran there is lost, and queued again if it is restartable."""
    return _each(names, lambda c, n: c.node_do(n, "down", reason), quiet, at)


@node_app.command
def retire(*names: Nodes, reason: Reason = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Take empty nodes out of the cluster for good."""
    return _each(names, lambda c, n: c.node_do(n, "retire", reason), quiet, at)


@node_app.command(name="set")
def set_(
    *names: Nodes,
    pool: Annotated[str | None, Parameter(help="The pool it belongs to.")] = None,
    serial: Annotated[str | None, Parameter(help="The machine's serial number.")] = None,
    rack: Annotated[str | None, Parameter(help="The rack it stands in.")] = None,
    switch: Annotated[str | None, Parameter(help="The switch it hangs on.")] = None,
    power: Annotated[str | None, Parameter(help="The power feed it hangs on.")] = None,
    features: Annotated[
        str | None, Parameter(help="Its features, joined by commas: all that it has.")
    ] = None,
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Say where nodes stand and what kind they are; what is left out stays."""
    given = {"pool": pool, "serial": serial, "rack": rack, "switch": switch, "power": power}
    fields: dict[str, object] = {k: v for k, v in given.items() if v is not None}
    if features is not None:
        fields["features"] = tuple(f.strip() for f in features.split(",") if f.strip())
    if not fields:
        raise BadWord("Say what to set, such as --rack r7.")
    wanted = ConfigureIn(**fields)  # type: ignore[arg-type]
    said = ", ".join(_what(name, value) for name, value in fields.items())
    return _each(
        names,
        lambda c, n: c.configure(n, wanted),
        quiet,
        at,
        lambda n, done: f"Node {n} has {said} {'now' if done.changed else 'already'}.",
    )


def _what(name: str, value: object) -> str:
    """What a node has: `rack r7`, `features big,gpu`, `no switch`."""
    text = ",".join(value) if isinstance(value, tuple) else value
    return f"{name} {text}" if text else f"no {name}"


def _name(text: str) -> str:
    names = node_names(text)
    if len(names) != 1:
        raise BadWord(f"{text!r} names {len(names)} nodes; name one.")
    return names[0]


def _each(
    names: tuple[str, ...],
    act: Callable[["Client", str], "DoneOut"],
    quiet: bool,
    at: Service,
    said: Callable[[str, "DoneOut"], str] | None = None,
) -> int:
    if not names:
        raise BadWord("Name at least one node.")
    return each(node_names(",".join(names)), act, said or _said, quiet, at)


def _said(node: str, done: "DoneOut") -> str:
    return f"Node {node} is {done.state}{'' if done.changed else ' already'}."
