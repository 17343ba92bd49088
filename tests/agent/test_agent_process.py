"""The whole agent as a process of its own, over HTTP: a job's life, kill -9, restart, SIGTERM."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ledger.agent.run import AgentBusy, AgentSettings, run_agent
from ledger.agent.transport import Rejected, read_token
from ledger.wire import Facts

from .agent_support import alive, order, pid_in, soon
from .fake_master import OWN, FakeMaster

PROGRAM = """
import sys
from pathlib import Path
from ledger.agent.run import AgentSettings, Place, run_agent
name, url, state, scratch = sys.argv[1:]
run_agent(AgentSettings(name, url, Path(state), join_token="join-me", wait_s=5.0,
    place=Place(pool="big", rack="r1", features=("gpu",)), scratch_root=Path(scratch)))
"""


class Agent:
    """An agent's process and where it keeps its things."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.state = folder / "state"
        self.log = folder / "agent.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROGRAM,
                    "n1",
                    self.url,
                    self.state,
                    self.folder / "scratch",
                ],
                stdout=log,
                stderr=log,
            )

    async def end(self, number: int = signal.SIGKILL) -> int:
        """Send a signal; the status it left with."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait)


@contextlib.asynccontextmanager
async def cluster(folder: Path, unix: bool = False) -> AsyncIterator[tuple[FakeMaster, Agent]]:
    """A fake master that listens, and a real agent."""
    master = FakeMaster()
    async with master.listening(folder / "socket" if unix else None) as url:
        agent = Agent(folder, url)
        try:
            yield master, agent
        finally:
            if agent.process.poll() is None:
                await agent.end()


WRONG = "not-the-join-token"
Story = Callable[[FakeMaster, Agent], Awaitable[None]]


def tell(folder: Path, story: Story, unix: bool = False) -> None:
    """Run a story."""

    async def main() -> None:
        async with cluster(folder, unix) as (master, agent):
            try:
                await story(master, agent)
            except AssertionError as e:
                raise AssertionError(f"{e}\n{agent.log.read_text()}") from e

    asyncio.run(main())


@pytest.mark.parametrize("unix", [False, True])
def test_a_job_from_its_order_to_its_end(open_path: Path, unix: bool) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        script = "#!/bin/sh\necho hello from $JOBLEDGER_JOB_ID $1\n"
        master.give(order("again", script=script))
        report = await soon(master.ended)
        assert (report.end, report.exit_code) == ("completed", 0)
        assert report.ran_us > 0
        assert report.cpu_us is not None
        assert 0 < report.cpu_us < 10_000_000
        assert master.output[17, 1] == b"hello from 17 again\n"
        assert report.output is not None
        assert report.output.bytes == report.output.kept == 20
        assert [r.kind for r in master.reports] == ["started", "ended"]
        assert read_token(agent.state) == OWN
        assert (agent.state / "token").stat().st_mode & 0o777 == 0o600
        enrolled = master.enrolled[0]
        assert (enrolled.pool, enrolled.rack, enrolled.features) == ("big", "r1", ("gpu",))
        assert enrolled.facts.cpus > 0
        assert len(enrolled.boot_id) == 36
        assert len(master.request_ids) >= 4
        assert list((open_path / "scratch").iterdir()) == []

    tell(open_path, story, unix)


@pytest.mark.fault("E1", "E9")
def test_a_killed_agent_takes_its_job_with_it_and_the_next_never_runs_it_again(
    open_path: Path,
) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        witness, main_pid, escaped = (open_path / n for n in ("witness", "main", "escaped"))
        command = (
            f"echo ran >> {witness}; setsid sh -c 'echo $$ > {escaped}; exec sleep 300' & "
            f"echo first words; echo $$ > {main_pid}; while :; do sleep 0.05; done"
        )
        what = order("/bin/sh", "-c", command)
        master.give(what)
        await soon(lambda: pid_in(main_pid) and pid_in(escaped))
        await soon(lambda: master.output)
        await agent.end(signal.SIGKILL)
        await soon(lambda: not alive(pid_in(main_pid)) and not alive(pid_in(escaped)), 3.0)
        master.acks = False
        agent.start()
        report = await soon(master.ended)
        assert (report.end, report.cause) == ("node_fail", "agent_restarted")
        assert report.output is not None
        assert report.output.bytes == len("first words\n")
        assert len({r.spool for r in master.requests}) == 1
        asked = len(master.requests)
        await soon(lambda: len(master.requests) > asked + 2)
        await agent.end(signal.SIGKILL)  # again, with the report unacknowledged
        agent.start()
        asked = len(master.requests)
        await soon(lambda: len(master.requests) > asked + 2)
        master.acks = True
        await soon(lambda: not master.requests[-1].reports)
        master.give(what)  # a master that was restored
        asked = len(master.requests)
        await soon(lambda: len(master.requests) > asked + 2)
        assert witness.read_text() == "ran\n"
        assert master.output[17, 1] == b"first words\n"
        assert list((open_path / "scratch").iterdir()) == []

    tell(open_path, story)


@pytest.mark.fault("E1")
def test_killed_again_and_again_no_attempt_runs_twice(open_path: Path) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        for job in range(1, 13):
            await soon(lambda: len(master.requests) > 0 and not master.has())
            ran = open_path / f"ran.{job}"
            master.give(order("/bin/sh", "-c", f"echo $$ >> {ran}; sleep 0.02", job=job))
            if job % 3:
                await soon(lambda ran=ran: ran.exists())
            else:
                await soon(lambda job=job: (job, 1) in master.has() or master.ended(job))
            await agent.end(signal.SIGKILL)
            agent.start()
            await soon(lambda job=job: master.ended(job))
            if ran.exists():
                assert len(ran.read_text().splitlines()) == 1

    tell(open_path, story)


@pytest.mark.fault("F2", "G4")
def test_a_frozen_agents_job_ends_with_its_lease(open_path: Path) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        master.lease_s = 2
        main_pid = open_path / "main"
        command = f"echo $$ > {main_pid}; while :; do sleep 0.05; done"
        master.give(order("/bin/sh", "-c", command))
        await soon(lambda: pid_in(main_pid))
        asked = len(master.requests)
        await soon(
            lambda: len(master.requests) > asked + 5
        )  # it lives on while the lease is renewed
        assert alive(pid_in(main_pid))
        agent.process.send_signal(signal.SIGSTOP)
        await soon(lambda: not alive(pid_in(main_pid)), 4.0)
        agent.process.send_signal(signal.SIGCONT)
        report = await soon(master.ended)
        assert (report.end, report.cause) == ("node_fail", "lease_expired")

    tell(open_path, story)


def test_sigterm_leaves_nothing_behind(open_path: Path) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        main_pid = open_path / "main"
        master.give(order("/bin/sh", "-c", f"echo $$ > {main_pid}; while :; do sleep 0.05; done"))
        await soon(lambda: pid_in(main_pid))
        assert await agent.end(signal.SIGTERM) == 0
        assert not alive(pid_in(main_pid))
        assert not (open_path / "scratch").exists()
        assert master.ended() is None
        agent.start()
        assert (await soon(master.ended)).cause == "agent_restarted"

    tell(open_path, story)


def test_two_agents_on_one_state_directory_are_one_too_many(open_path: Path) -> None:
    async def story(master: FakeMaster, agent: Agent) -> None:
        await soon(lambda: master.requests)
        settings = AgentSettings("n1", agent.url, agent.state, facts=Facts())
        with pytest.raises(AgentBusy, match=f"pid {agent.process.pid}"):
            run_agent(settings)

    tell(open_path, story)


def test_a_wrong_join_token_is_refused(open_path: Path) -> None:
    async def main() -> None:
        async with FakeMaster().listening() as url:
            settings = AgentSettings("n1", url, open_path / "s", join_token=WRONG, facts=Facts())
            with pytest.raises(Rejected, match="401"):
                await asyncio.to_thread(run_agent, settings)

    asyncio.run(main())


def test_it_waits_for_a_master_that_is_not_there_yet(open_path: Path) -> None:
    async def main() -> None:
        socket = open_path / "socket"
        agent = Agent(open_path, f"unix:{socket}")
        await soon(lambda: b"enrol_failed" in agent.log.read_bytes())
        master = FakeMaster()
        async with master.listening(socket):
            await soon(lambda: master.requests)
            await agent.end()

    asyncio.run(main())
