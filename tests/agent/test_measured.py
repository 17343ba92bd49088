"""What the processes of an attempt used, those that left it too."""

import pytest

from ledger.agent.processes import Processes

from .agent_support import order, run

COUNT = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"


@pytest.mark.parametrize(
    "command",
    [
        COUNT,
        f"sh -c '{COUNT}'; true",
        f"(setsid sh -c '{COUNT}; echo > done' &); while [ ! -e done ]; do sleep 0.02; done",
        f"{COUNT}; kill -9 $$",
    ],
    ids=["itself", "a child", "one that has left", "killed"],
)
def test_processor_time_is_that_of_every_process(runner: Processes, command: str) -> None:
    idle = run(runner, order("sleep", "0.3")).ending
    busy = run(runner, order("/bin/sh", "-c", command)).ending
    assert idle.cpu_us is not None
    assert busy.cpu_us is not None
    assert idle.cpu_us < 100_000 <= idle.ran_us
    assert 3 * idle.cpu_us < busy.cpu_us < 60_000_000


def test_processor_time_is_told_of_what_was_stopped(runner: Processes) -> None:
    ending = run(
        runner, order("/bin/sh", "-c", "while :; do :; done", time_limit_s=1, kill_grace_s=0)
    ).ending
    assert ending.cause == "time_limit"
    assert ending.cpu_us is not None
    assert 100_000 < ending.cpu_us < 10_000_000
