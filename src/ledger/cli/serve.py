"""`up`, `master`, `follow`, `agent`: the processes of a service."""

import os
import socket
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.cli import exits
from ledger.cli.common import NOWHERE, Service
from ledger.cli.exits import Stop, say
from ledger.cli.words import BadWord, duration

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.master.outbox import Post
    from ledger.settings import Settings
    from ledger.up import Supervisor

JOIN_S = 20.0
"""How long the greeting waits for the agents."""

LONG_LOG = 10_000
"""Events whose replay is worth telling of."""

Data = Annotated[
    Path | None,
    Parameter(help="The data directory: socket, log, output. Left out: your own."),
]
Listen = Annotated[
    str,
    Parameter(help="HOST:PORT to listen on beside the Unix socket; several joined by commas."),
]
StatusListen = Annotated[
    str, Parameter(help="HOST:PORT on which `follow` tells how the service is, beside its socket.")
]
InsecureListen = Annotated[
    bool,
    Parameter(negative="", help="Allow a listener beyond the loopback interface without TLS."),
]
AcceptClock = Annotated[
    bool,
    Parameter(negative="", help="Start although clock and log do not fit together."),
]
Lease = Annotated[
    str, Parameter(help="How long a node may be silent before it is lost: 10s, 5m; kept as policy.")
]
RunAs = Annotated[
    str, Parameter(help="The account that a root agent runs every job as; left out: the user's.")
]


def up(
    *,
    data: Data = None,
    agents: Annotated[int, Parameter(help="How many local nodes, n1, n2 …")] = 4,
    listen: Listen = "",
    status_listen: StatusListen = "",
    lease: Lease = "",
    run_as: RunAs = "",
    insecure_listen: InsecureListen = False,
    accept_clock: AcceptClock = False,
) -> int:
    """Run a whole service on this machine: master, projections and local agents.

    It starts again what dies, and ends everything when it is told to end (Ctrl-C).
    """
    from ledger.alone import Held, alone
    from ledger.settings import SOCKET, keep_private
    from ledger.sink import begin
    from ledger.up import Supervisor, parts

    settings = _settings(data)
    if not 0 <= agents <= 1000:
        raise BadWord("--agents: between 0 and 1000.")
    place = settings.data_directory().absolute()
    options = ["--accept-clock"] * (accept_clock or settings.accept_clock)
    options += ["--lease", lease] if lease else []
    # In a database a dead master keeps the lead until its lease has run out.
    options += ["--wait"] if settings.database_url else []
    account = run_as or settings.run_as
    # What says where another service is and who we are there is not for ours.
    kept = {k: v for k, v in os.environ.items() if k not in ("JOBLEDGER_URL", "JOBLEDGER_TOKEN")}
    keep_private(place)
    begin()
    supervisor = Supervisor(
        parts(
            place,
            agents=agents,
            listen=listen or settings.listen,
            status_listen=status_listen or settings.status_listen,
            run_as=account,
            insecure=insecure_listen or settings.insecure_listen,
            master_options=options,
        ),
        logs=place / "logs",
        pids=place / "run",
        say=say,
        environment=kept,
    )
    try:
        with alone(place / "up.lock"):
            return _keep(supervisor, place, agents, account)
    except Held as held:
        raise Stop(
            exits.TEMPORARY,
            f"This service is kept running already, by the `jobledger up` with pid {held.pid}.",
            f"To use it: export JOBLEDGER_URL=unix:{place / SOCKET}",
        ) from None


def _keep(supervisor: "Supervisor", place: Path, agents: int, account: str) -> int:
    """Say what is started, and keep it running until `up` is told to end."""
    nodes = f"{agents} agents (n1 to n{agents})" if agents > 1 else f"{agents} agent"
    say(f"Starting a master and {nodes} in {place}; their logs are in {place / 'logs'}.")
    if os.geteuid() == 0 and not account and agents:
        say(
            "As root, each job runs as the account that is called like its user, and is refused "
            "where there is none: say --run-as ACCOUNT to run all jobs as one account."
        )
    return supervisor.run(
        lambda: threading.Thread(target=_greet, args=(place, agents), daemon=True).start()
    )


def _greet(place: Path, agents: int) -> None:
    """Once the master answers and the nodes have joined: say how to use the service."""
    from ledger.client.blocking import Client
    from ledger.client.errors import ClientError
    from ledger.settings import SOCKET

    url = f"unix:{place / SOCKET}"
    told, pause = "", threading.Event()
    with Client(url, patience_s=0) as client:
        # The log may be long: patience until `up` itself is ended.
        while True:
            try:
                state = client.ready()
                if state.ready:
                    break
                if state.sentence != told and state.head > LONG_LOG:
                    say(told := state.sentence)
            except ClientError:
                pass
            pause.wait(0.2)
        # A job that comes before its pool has a node would be refused.
        deadline = time.monotonic() + JOIN_S
        while (missing := _missing(client, agents)) and time.monotonic() < deadline:
            pause.wait(0.1)
    for warning in state.warnings:
        say(f"Warning: {warning}")
    if missing:
        say(f"Warning: {missing} of the agents have not joined yet; see {place / 'logs'}.")
    say(f"Ready (epoch {state.epoch}, position {state.head}). In another shell:")
    say(f"  export JOBLEDGER_URL={url}")
    say("  jobledger submit -- hostname")
    say("Ctrl-C ends it.")


def _missing(client: "Client", agents: int) -> int:
    """How many of the nodes `n1`, `n2` … are not in contact."""
    from ledger.client.errors import ClientError

    wanted = {f"n{number}" for number in range(1, agents + 1)}
    try:
        nodes = client.nodes().nodes
    except ClientError:
        return agents
    return len(wanted - {node.node for node in nodes if node.silent_since is None})


def master(
    *,
    data: Data = None,
    wait: Annotated[
        bool, Parameter(negative="", help="Wait until no other master is there, then take over.")
    ] = False,
    listen: Listen = "",
    insecure_listen: InsecureListen = False,
    accept_clock: AcceptClock = False,
    lease: Lease = "",
) -> int:
    """Run the master: decide, record, place; come back by replaying the log."""
    from ledger.api.server import run
    from ledger.logs import configure
    from ledger.master.main import MasterSettings
    from ledger.settings import keep_private, listeners
    from ledger.store.log import LogBusy

    settings = _settings(data)
    place = settings.data_directory().absolute()
    keep_private(place)
    configure(settings.log_level, settings.log_format, process="master")
    heard = listen or settings.listen
    wanted = MasterSettings(
        data=place,
        database_url=_database(settings),
        listen=listeners(heard),
        wait=wait,
        accept_clock=accept_clock or settings.accept_clock,
        job_lease_s=duration(lease) if lease else None,
        operator_uids=frozenset({0, place.stat().st_uid}),
        backups=settings.backup_directory(),
        backup_every_s=_backup_every(settings),
        expect_log=settings.expect_log,
        post=_post(settings),
    )
    try:
        return run(wanted, say, insecure=insecure_listen or settings.insecure_listen)
    except LogBusy as busy:
        raise Stop(
            exits.TEMPORARY,
            str(busy)[:1].upper() + str(busy)[1:] + ".",
            "End that master first, or start this one with --wait to take over when it is gone.",
        ) from None


def follow(
    *, data: Data = None, status_listen: StatusListen = "", insecure_listen: InsecureListen = False
) -> int:
    """Keep the projections: follow the log and write the tables that answers are read from.

    It also has a backup made every JOBLEDGER_BACKUP_EVERY, and tells on DIR/follow.sock how the
    service is, while the master is away too.
    """
    from ledger.api.board import BoardSettings, telling
    from ledger.backups import Schedule, scheduled
    from ledger.follow import Doing, run_follow
    from ledger.logs import configure
    from ledger.settings import SOCKET, keep_private, listeners

    settings = _settings(data)
    configure(settings.log_level, settings.log_format, process="follow")
    place, url = settings.data_directory().absolute(), _database(settings)
    keep_private(place)
    seconds, folder, doing = _backup_every(settings), settings.backup_directory(), Doing()
    board = BoardSettings(
        data=place,
        database_url=url,
        master=settings.url or f"unix:{place / SOCKET}",
        token=settings.token.get_secret_value(),
        listen=listeners(status_listen or settings.status_listen),
        insecure=insecure_listen or settings.insecure_listen,
        operator_uids=frozenset({0, place.stat().st_uid}),
        backups=folder,
        backup_every_s=seconds,
    )
    every: AbstractContextManager[None] = nullcontext()
    if seconds:
        every = scheduled(Schedule(place, url, folder, seconds))
    with every, telling(board, doing):
        run_follow(place, url, doing)
    return exits.OK


def agent(
    *,
    name: Annotated[str, Parameter(help="The node's name; left out: this machine's.")] = "",
    simulate: Annotated[
        int, Parameter(help="Be so many simulated nodes that run nothing, NAME1, NAME2 …")
    ] = 0,
    pool: Annotated[str, Parameter(help="The pool that the node joins.")] = "default",
    serial: Annotated[str, Parameter(help="The machine's serial number.")] = "",
    rack: Annotated[str, Parameter(help="The rack it stands in.")] = "",
    switch: Annotated[str, Parameter(help="The switch it hangs on.")] = "",
    power: Annotated[str, Parameter(help="The power feed it hangs on.")] = "",
    features: Annotated[str, Parameter(help="The node's features, joined by commas.")] = "",
    run_as: RunAs = "",
    state: Annotated[
        Path | None, Parameter(help="Where the agent keeps its memory; left out: below --data.")
    ] = None,
    at: Service = NOWHERE,
) -> int:
    """Run the agent of a node: it runs what the master orders.

    The first time it joins with JOBLEDGER_TOKEN, a join token, or as an operator over the Unix
    socket; then it has a token of its own.
    """
    from ledger.agent.run import AgentBusy, AgentSettings, Place, run_agent
    from ledger.agent.transport import Rejected
    from ledger.logs import configure

    settings = at.settings()
    place = Place(pool, serial, rack, switch, power, _list(features))
    called = name or socket.gethostname().partition(".")[0]
    configure(settings.log_level, settings.log_format, process=f"agent {called}")
    folder = state or settings.data_directory().absolute() / "agents" / called
    if simulate:
        return _simulated(settings, name or "s", simulate, place, state)
    wanted = AgentSettings(
        name=called,
        url=settings.service_url(),
        state_dir=folder,
        join_token=settings.token.get_secret_value(),
        place=place,
        run_as=run_as or settings.run_as,
    )
    try:
        run_agent(wanted)
    except AgentBusy as busy:
        raise Stop(exits.TEMPORARY, f"{busy}.", "Give this agent another --name.") from None
    except Rejected as refusal:
        raise Stop(
            exits.NO_PERMISSION if refusal.status in (401, 403) else exits.DATA,
            f"The master refuses this agent: {refusal}",
            "An operator makes a join token: jobledger token issue --role join --owner NODE -q",
        ) from None
    return exits.OK


def _simulated(
    settings: "Settings", prefix: str, count: int, place: object, state: Path | None
) -> int:
    from ledger.agent.run import Place, SimulatedSettings, run_simulated

    assert isinstance(place, Place)
    run_simulated(
        SimulatedSettings(
            names=tuple(f"{prefix}{number}" for number in range(1, count + 1)),
            url=settings.service_url(),
            credential=settings.token.get_secret_value(),
            place=place,
            state_dir=state,
        )
    )
    return exits.OK


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _settings(data: Path | None) -> "Settings":
    from ledger.settings import Settings

    if sys.platform != "linux":
        raise Stop(exits.CONFIG, "A service runs on Linux only.")
    return Settings(data=data) if data is not None else Settings()


def _backup_every(settings: "Settings") -> int:
    """Seconds between two backups; 0 for none."""
    return duration(settings.backup_every) if settings.backup_every else 0


def _post(settings: "Settings") -> "Post":
    """How people are told. Raises `Stop` where the mail server can't be understood."""
    from ledger.effects.channels import MAIL, BadChannel, parse
    from ledger.master.outbox import Post
    from ledger.settings import listeners

    mail = settings.mail.get_secret_value()
    try:
        if mail and ((found := parse(mail)).mail or found.scheme not in MAIL):
            raise BadChannel("it is no mailto:// or mailtos:// URL")
    except BadChannel as bad:
        raise Stop(
            exits.CONFIG, f"JOBLEDGER_MAIL: {bad}.", "See docs/how-to/tell-people.md."
        ) from None
    return Post(mail, settings.mail_domain, listeners(settings.channels))


def _database(settings: "Settings") -> str | None:
    return settings.database_url.get_secret_value() if settings.database_url else None
