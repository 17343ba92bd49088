"""The ways in: `run_agent` for a node, `run_simulated` for many that only pretend.

Both return when they get SIGTERM or SIGINT. A node's state directory holds its token, its spool and
the output that is not delivered yet; one agent at a time may use it.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import structlog

from ledger.agent.daemon import Agent
from ledger.agent.facts import boot_id, build, find_facts
from ledger.agent.local import Identity
from ledger.agent.output import Uploads
from ledger.agent.processes import Processes, scratch_root
from ledger.agent.simulated import SimulatedAgent
from ledger.agent.spool import Spool
from ledger.agent.steady import SteadyTransport
from ledger.agent.transport import (
    HttpTransport,
    Rejected,
    Unreachable,
    client,
    read_token,
    save_token,
)
from ledger.alone import Held, alone
from ledger.wire import EnrolRequest, Facts

log = structlog.get_logger("agent")

SIMULATED_FACTS = Facts(cpus=1, image="simulated", kernel="simulated")


class AgentBusy(Exception):
    """Another agent uses this state directory."""


@dataclass(frozen=True)
class Place:
    """Where a node stands and what kind it is, told to the master when it enrols."""

    pool: str = "default"
    serial: str = ""
    rack: str = ""
    switch: str = ""
    power: str = ""
    features: tuple[str, ...] = ()


@dataclass(frozen=True)
class AgentSettings:
    """All that an agent is told. `url`: `http(s)://…` or `unix:/path`.

    The credential is `token` (the node's own), else the one saved in `state_dir`, else the one got
    by enrolling: with `join_token`, or over the Unix socket as an operator.
    """

    name: str
    url: str
    state_dir: Path
    token: str = ""
    join_token: str = ""
    place: Place = Place()
    run_as: str = ""
    scratch_root: Path | None = None
    wait_s: float = 20.0
    facts: Facts | None = None


@dataclass(frozen=True)
class SimulatedSettings:
    """Simulated nodes, their names, and what all have in common.

    `credential`: a join token for any of the names, or an operator's token. With a `state_dir` the
    nodes' tokens are kept there (one folder a node), so that they need not enrol again.
    """

    names: tuple[str, ...]
    url: str
    credential: str = ""
    place: Place = Place()
    facts: Facts = SIMULATED_FACTS
    state_dir: Path | None = None


def run_agent(settings: AgentSettings) -> None:
    """Be the agent of this node. `AgentBusy`, `SpoolCorrupt`, `SpoolFailed`, `Rejected` end it."""
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with alone(settings.state_dir / "agent.lock"):
            _run_until_told(_agent(settings))
    except Held as held:
        where = settings.state_dir
        raise AgentBusy(f"{where} is in use by the agent with pid {held.pid}") from None


def run_simulated(settings: SimulatedSettings) -> None:
    """Be many simulated nodes."""
    _run_until_told(simulate(settings))


async def _agent(settings: AgentSettings) -> NoReturn:
    facts = settings.facts
    if facts is None:
        facts = await asyncio.to_thread(find_facts)
    identity = Identity(settings.name, boot_id(), build(), facts)
    http = client(settings.url)
    token = settings.token or read_token(settings.state_dir)
    if not token:
        enrolling = HttpTransport(http, settings.name, settings.join_token)
        token = await enrol(enrolling, identity, settings.place)
        save_token(settings.state_dir, token)
    transport = HttpTransport(http, settings.name, token)
    root = settings.scratch_root or scratch_root(settings.state_dir, settings.name)
    agent = Agent(
        identity,
        transport,
        Spool(settings.state_dir / "spool.ndjson"),
        Processes(root, settings.run_as),
        Uploads(settings.state_dir / "output", transport.upload),
        wait_s=settings.wait_s,
    )
    try:
        await agent.run()
    finally:
        with contextlib.suppress(OSError):  # it holds something that could not be wiped in time
            root.rmdir()


async def simulate(settings: SimulatedSettings) -> NoReturn:
    """Be many simulated nodes in this loop, until cancelled."""
    http = client(settings.url, connections=None)
    boot = boot_id()

    async def one(name: str) -> NoReturn:
        identity = Identity(name, boot, build(), settings.facts)
        folder = settings.state_dir / name if settings.state_dir else None
        token = read_token(folder) if folder else ""
        if not token:
            enrolling = HttpTransport(http, name, settings.credential)
            token = await enrol(enrolling, identity, settings.place)
            if folder:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                save_token(folder, token)
        plain = not settings.url.startswith("https:")
        transport = (
            SteadyTransport(settings.url, name, token)
            if plain
            else HttpTransport(http, name, token)
        )
        await SimulatedAgent(identity, transport).run()

    async with asyncio.TaskGroup() as group:
        for name in settings.names:
            group.create_task(one(name))
    raise AssertionError("agents have no end")


async def enrol(transport: HttpTransport, identity: Identity, place: Place) -> str:
    """Join the cluster; the node's own token. Tries until the master is there; or Rejected."""
    request = EnrolRequest(
        pool=place.pool,
        serial=place.serial,
        rack=place.rack,
        switch=place.switch,
        power=place.power,
        features=place.features,
        boot_id=identity.boot_id,
        facts=identity.facts,
    )
    pause_s = 0.1
    while True:
        try:
            reply = await transport.enrol(request)
        except Unreachable as e:
            log.warning("enrol_failed", node=identity.name, error=str(e), retry_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(5.0, pause_s * 2)
            continue
        except Rejected as e:
            log.error("enrol_refused", node=identity.name, error=str(e))
            raise
        log.info("enrolled", node=identity.name, pool=place.pool)
        return reply.token


def _run_until_told(work: Coroutine[object, object, NoReturn]) -> None:
    """Run until SIGTERM or SIGINT."""

    async def main() -> None:
        task = asyncio.ensure_future(work)
        if threading.current_thread() is threading.main_thread():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())
