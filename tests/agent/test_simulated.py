"""Simulated nodes speak the real protocol and run nothing; facts are what the machine says."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from ledger.agent.facts import boot_id, build, find_facts
from ledger.agent.run import Place, SimulatedSettings, simulate
from ledger.agent.simulated import simulated_run
from ledger.wire import Order

from .agent_support import order, soon
from .fake_master import FakeMaster

JOIN = "join-me"


@pytest.mark.parametrize(
    ("argv", "meaning"),
    [
        (("sleep", "1.5"), (1.5, 0)),
        (("sleep", "0.000001", "exit=3"), (0.000001, 3)),
        (("sleep", "-4"), (0.0, 0)),
        (("sleep", "long", "exit=3"), (0.0, 0)),
        (("echo", "5"), (0.0, 0)),
        ((), (0.0, 0)),
    ],
)
def test_what_a_simulated_command_means(argv: tuple[str, ...], meaning: tuple[float, int]) -> None:
    assert simulated_run(argv) == meaning


def test_jobs_end_as_their_commands_say() -> None:
    async def main() -> None:
        master = FakeMaster()
        async with master.listening() as url:
            settings = SimulatedSettings(("n1",), url, JOIN, Place(pool="sim"))
            nodes = asyncio.create_task(simulate(settings))
            try:
                for job, (what, end, cause, code) in enumerate(
                    [
                        (order("sleep", "0"), "completed", "exit", 0),
                        (order("sleep", "0.2", "exit=3"), "failed", "exit", 3),
                        (order("sleep", "60", time_limit_s=1), "timeout", "time_limit", None),
                    ],
                    start=1,
                ):
                    master.give(_as(what, job))
                    report = await soon(lambda job=job: master.ended(job))
                    assert (report.end, report.cause, report.exit_code) == (end, cause, code)
                assert [r.kind for r in master.reports] == ["started", "ended"] * 3
                master.give(order("sleep", "60", job=9))
                await soon(lambda: master.has() == {(9, 1): "running"})
                master.give(order("sleep", "60", job=9, stop="cancelled"))
                assert (await soon(lambda: master.ended(9))).cause == "stopped"
                assert master.enrolled[0].pool == "sim"
                assert master.output == {}
            finally:
                nodes.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await nodes

    asyncio.run(main())


def _as(what: Order, job: int) -> Order:
    return order(*what.argv, job=job, time_limit_s=what.time_limit_s)


def test_an_instant_job_takes_two_calls() -> None:
    async def main() -> None:
        master = FakeMaster()
        async with master.listening() as url:
            nodes = asyncio.create_task(simulate(SimulatedSettings(("n1",), url, JOIN)))
            await soon(lambda: master.requests)
            asked = len(master.requests)
            for job in range(1, 21):
                master.give(order("sleep", "0", job=job))
                await soon(lambda job=job: master.ended(job))
            assert len(master.requests) - asked <= 2 * 20 + 1
            nodes.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await nodes

    asyncio.run(main())


def test_many_nodes_share_one_process_and_keep_their_tokens(tmp_path: Path) -> None:
    async def main() -> None:
        names = tuple(f"n{i}" for i in range(30))
        master = FakeMaster()
        async with master.listening() as url:
            settings = SimulatedSettings(names, url, JOIN, state_dir=tmp_path)
            for _ in range(2):
                nodes = asyncio.create_task(simulate(settings))
                asked = len(master.requests)
                await soon(lambda asked=asked: len(master.requests) >= asked + 30)
                nodes.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await nodes
            assert len(master.enrolled) == 30

    asyncio.run(main())


def test_facts_are_what_the_machine_says(tmp_path: Path) -> None:
    facts = find_facts()
    assert facts.cpus > 0
    assert facts.memory_bytes > 1 << 20
    assert facts.kernel
    assert len(boot_id()) == 36
    assert build().startswith("jobledger ")
    for name, text in {
        "etc/os-release": 'NAME=x\nPRETTY_NAME="Our Linux 7"\nIMAGE_ID=node-image\n',
        "var/lib/dpkg/status": "Package: a\nVersion: 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = find_facts(tmp_path)
    assert found.image == "Our Linux 7 node-image"
    assert len(found.packages_sha256) == 64
    (tmp_path / "var/lib/dpkg/status").write_text("Package: a\nVersion: 2\n")
    assert find_facts(tmp_path).packages_sha256 != found.packages_sha256
    assert find_facts(tmp_path / "empty").packages_sha256 == ""
