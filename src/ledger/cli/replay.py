"""`replay-trace`: submit a real cluster's jobs, as its users, through the real API."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, Service
from ledger.cli.exits import Stop, say
from ledger.cli.text import json_text
from ledger.cli.words import BadWord
from ledger.importing.trace import BadTrace, TraceJob, read
from ledger.models import JobIn, TokenIn

if TYPE_CHECKING:
    from ledger.client.aio import AsyncClient
    from ledger.settings import Settings

AT_ONCE = 48
"""Submissions under way at the same time: enough to share commits, few enough to be bounded."""

MAX_DIVISOR = 1_000_000.0
TOKEN_TTL_S = 86_400
TELL_S = 5.0
LOOK_S = 0.1
NODES_S = 60.0


@dataclass
class Replay:
    """What has come of a trace so far. `accepted`: the trace's numbers by the ids they got."""

    jobs: list[TraceJob]
    speed: float | None
    pool: str
    accepted: dict[int, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    start: int = 0
    submitted_s: float = 0.0
    ended_s: float = 0.0

    def request(self, job: TraceJob) -> JobIn:
        """The trace's job as it is submitted: a sleep as long as it ran, divided by the speed."""
        seconds = job.run / (self.speed or MAX_DIVISOR)
        return JobIn(
            name=f"swf-{job.number}",
            argv=("sleep", f"{seconds:.6f}"),
            pool=self.pool,
            nodes=job.procs,
            time_limit_s=job.limit,
            comment=f"swf:{job.number}",
        )


def replay_trace(
    file: Annotated[
        Path, Parameter(help="A trace in the Standard Workload Format, .swf or .swf.gz.")
    ],
    /,
    *,
    speed: Annotated[
        str, Parameter(help="How many times faster than it was; max: without any pause.")
    ] = "max",
    agents: Annotated[int, Parameter(help="Simulated one-processor nodes to start for it.")] = 0,
    pool: Annotated[
        str, Parameter(name=["--pool", "-p"], help="The pool to submit to.")
    ] = "default",
    limit: Annotated[int, Parameter(help="Only the first so many jobs; 0: all.")] = 0,
    check: Annotated[
        bool,
        Parameter(negative="", help="Read the event stream once more: has each exactly one end?"),
    ] = False,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print the summary as JSON.")
    ] = False,
    at: Service = NOWHERE,
) -> int:
    """Submit the jobs of a real cluster's trace as its users, and wait until all have ended.

    Each user gets a short-lived token, so this needs an operator. A job's comment holds its number
    in the trace (swf:17); it sleeps for as long as it ran, divided by the speed (max: a million).
    """
    replay = Replay(_read(file, limit), _speed(speed), pool)
    if not replay.jobs:
        raise Stop(exits.DATA, f"There is no job in {file}.")
    settings = at.settings()
    with _agents(settings, agents) as nodes:
        faults = asyncio.run(_replay(settings, replay, agents, nodes, check=check))
    _summary(replay, faults, checked=check, as_json=as_json)
    return exits.NOT_NOW_STATE if faults else exits.OK


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e12:
        raise BadWord(f"--speed: {text!r} is neither a number nor max.")
    return speed


def _read(path: Path, limit: int) -> list[TraceJob]:
    try:
        jobs = sorted(read(path), key=lambda job: (job.submit, job.number))
    except BadTrace as bad:
        raise Stop(exits.DATA, f"{path} is not a trace: {bad}.") from None
    return jobs[:limit] if limit else jobs


@contextmanager
def _agents(settings: "Settings", count: int) -> "Iterator[subprocess.Popen[bytes] | None]":
    """Simulated nodes for as long as they are needed, under names nobody has; then retired."""
    if not count:
        yield None
        return
    import ledger.tether

    prefix = f"sim{secrets.token_hex(2)}-"
    tether = [sys.executable, "-I", "-S", ledger.tether.__file__, str(os.getpid())]
    command = [sys.executable, "-m", "ledger", "agent", "--simulate", str(count), "--name", prefix]
    process = subprocess.Popen(  # noqa: S603
        [*tether, *command, "--url", settings.service_url()],
        env=os.environ | {"JOBLEDGER_LOG_LEVEL": "error"},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _retire(settings, prefix)


def _retire(settings: "Settings", prefix: str) -> None:
    """Take the simulated nodes out of the cluster again, but for those that still have a job."""
    from ledger.client.blocking import Client
    from ledger.client.errors import ClientError

    token = settings.token.get_secret_value()
    with Client(settings.service_url(), token) as client, suppress(ClientError):
        for node in client.nodes().nodes:
            if node.node.startswith(prefix) and not node.jobs:
                client.node_do(node.node, "retire", "the trace is over")


async def _replay(
    settings: "Settings",
    replay: Replay,
    agents: int,
    nodes: "subprocess.Popen[bytes] | None",
    *,
    check: bool,
) -> list[str]:
    """Carry it out; what was found to be wrong."""
    import stamina.instrumentation

    from ledger.client.aio import AsyncClient

    stamina.instrumentation.set_on_retry_hooks([])
    token = settings.token.get_secret_value()
    async with AsyncClient(settings.service_url(), token, connections=AT_ONCE + 4) as client:
        if agents:
            await _until_joined(client, agents, nodes)
        replay.start = (await client.head()).position
        users = sorted({job.user for job in replay.jobs})
        say(f"Submitting {len(replay.jobs)} jobs of {len(users)} users.")
        tokens, speakers = [], {}
        for user in users:
            made = await client.issue_token(
                TokenIn(owner=user, ttl_s=TOKEN_TTL_S, note="replay-trace")
            )
            tokens.append(made.token)
            speakers[user] = client.speaking_as(made.secret)
        began = time.monotonic()
        watcher = asyncio.create_task(_watch(client, replay, settings.timeout))
        teller = asyncio.create_task(_tell(replay))
        try:
            await _submit_all(replay, speakers, began)
            replay.submitted_s = time.monotonic() - began
            await _all_ended(replay, watcher, nodes)
            replay.ended_s = time.monotonic() - began
        finally:
            watcher.cancel()
            teller.cancel()
        for token_id in tokens:
            await client.revoke_token(token_id)
        return await _check(client, replay) if check else []


async def _until_joined(
    client: "AsyncClient", count: int, nodes: "subprocess.Popen[bytes] | None"
) -> None:
    deadline = time.monotonic() + NODES_S
    while True:
        _alive(nodes)
        idle = [n for n in (await client.nodes()).nodes if n.state in ("idle", "allocated")]
        if len(idle) >= count:
            return
        if time.monotonic() > deadline:
            raise Stop(
                exits.UNAVAILABLE, f"Of {count} simulated nodes only {len(idle)} have joined."
            )
        await asyncio.sleep(0.2)


def _alive(nodes: "subprocess.Popen[bytes] | None") -> None:
    """Without its nodes a replay would wait for ever."""
    if nodes is not None and nodes.poll() is not None:
        raise Stop(exits.UNAVAILABLE, "The simulated nodes have ended; jobs may be left behind.")


async def _submit_all(replay: Replay, speakers: dict[str, "AsyncClient"], began: float) -> None:
    """Submit every job at its time, a bounded number at once."""
    from ledger.client.errors import Refused

    first = replay.jobs[0].submit
    coming = iter(replay.jobs)

    async def submit_some() -> None:
        for job in coming:
            if replay.speed is not None:
                due = began + (job.submit - first) / replay.speed
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                made = await speakers[job.user].submit(replay.request(job))
                replay.accepted[made.first_job] = job.number
            except Refused as refusal:
                replay.refused[refusal.code] += 1
                replay.examples.setdefault(
                    refusal.code, f"trace job {job.number}, {job.procs} nodes: {refusal.sentence}"
                )

    async with asyncio.TaskGroup() as group:
        for _ in range(min(AT_ONCE, len(replay.jobs))):
            group.create_task(submit_some())


async def _watch(client: "AsyncClient", replay: Replay, patience_s: float) -> NoReturn:
    """Note each job's end from the event stream. A service away for `patience_s` is given up."""
    from ledger.client.errors import Unreachable

    after = replay.start
    failing_since: float | None = None
    while True:
        try:
            async for text in client.event_lines(after, follow=True):
                failing_since = None
                if ".ended.v1" not in text:
                    continue
                after, ended = _end(text, after)
                if ended:
                    replay.ends[ended[0]] = ended[1]
                    replay.ended.set()
        except Unreachable as error:
            if failing_since is None:
                failing_since = time.monotonic()
                say(f"{error.sentence} Trying again.")
            elif time.monotonic() - failing_since > patience_s:
                raise
        await asyncio.sleep(0.5)


async def _all_ended(
    replay: Replay,
    watcher: "asyncio.Task[NoReturn]",
    nodes: "subprocess.Popen[bytes] | None",
) -> None:
    """Wait until every accepted job has an end, or the watcher or the nodes have failed."""
    while replay.accepted.keys() - replay.ends.keys():
        _alive(nodes)
        await asyncio.sleep(LOOK_S)  # many ends come between two looks
        replay.ended.clear()
        if not replay.accepted.keys() - replay.ends.keys():
            return
        heard = asyncio.ensure_future(replay.ended.wait())
        await asyncio.wait([heard, watcher], timeout=TELL_S, return_when=asyncio.FIRST_COMPLETED)
        if watcher.done():
            await watcher


def _end(text: str, after: int) -> tuple[int, tuple[int, str] | None]:
    """The position of an event, and the job and state of the final end that it is."""
    recorded = json.loads(text)
    name, event = recorded["name"], recorded["event"]
    final = name == "job.ended.v1" or (
        name == "attempt.ended.v1" and event.get("next", "final") == "final"
    )
    position = max(after, int(recorded["position"]))
    return position, (int(event["job"]), str(event["state"])) if final else None


async def _tell(replay: Replay) -> None:
    while True:
        await asyncio.sleep(TELL_S)
        done = len(replay.accepted) + replay.refused.total()
        say(f"  {done} of {len(replay.jobs)} submitted, {len(replay.ends)} ended")


async def _check(client: "AsyncClient", replay: Replay) -> list[str]:
    """Read the whole stream anew: every accepted job has exactly one end, and no other has one."""
    ends: Counter[int] = Counter()
    async for text in client.event_lines(replay.start):
        if ".ended.v1" in text:
            _, ended = _end(text, 0)
            if ended:
                ends[ended[0]] += 1
    faults = [f"job {job} (swf:{number}) has no end"
              for job, number in replay.accepted.items() if job not in ends]  # fmt: skip
    faults += [f"job {job} has {count} ends" for job, count in ends.items() if count != 1]
    return faults


def _summary(replay: Replay, faults: list[str], *, checked: bool, as_json: bool) -> None:
    states = Counter(replay.ends[job] for job in replay.accepted if job in replay.ends)
    facts: dict[str, object] = {
        "submitted": len(replay.jobs),
        "accepted": len(replay.accepted),
        "refused": dict(replay.refused),
        "ended": dict(states),
        "submit_s": round(replay.submitted_s, 2),
        "submitted_per_s": round(len(replay.jobs) / max(replay.submitted_s, 1e-9), 1),
        "all_ended_s": round(replay.ended_s, 2),
        "ended_per_s": round(len(replay.ends) / max(replay.ended_s, 1e-9), 1),
    }
    if checked:
        facts["faults"] = faults
    if as_json:
        shown.data(json_text(facts))
        return
    refused = {f"refused {code}": str(n) for code, n in sorted(replay.refused.items())}
    ended = {f"ended {state}": str(n) for state, n in sorted(states.items())}
    shown.pairs(
        [
            ("jobs in the trace", str(facts["submitted"])),
            ("accepted", str(facts["accepted"])),
            *(refused or {"refused": "0"}).items(),
            *ended.items(),
            ("submitted within", f"{facts['submit_s']} s ({facts['submitted_per_s']} a second)"),
            ("all ended within", f"{facts['all_ended_s']} s ({facts['ended_per_s']} a second)"),
        ]
    )
    for code, example in sorted(replay.examples.items()):
        shown.data(f"refused {code}, for example {example}")
    if checked and not faults:
        shown.data(f"Each of the {len(replay.accepted)} accepted jobs has exactly one end.")
    for fault in faults[:20]:
        shown.data(f"WRONG: {fault}")
