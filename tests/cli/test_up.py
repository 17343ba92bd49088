"""`up` starts processes, starts them again, ends them, and leaves none behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PYTHON = sys.executable
DEADLINE_S = 20
PAUSE = threading.Event()
HARNESS = """
import json, sys
from pathlib import Path
from ledger.up import Part, Supervisor
place = Path(sys.argv[1])
parts = [Part(name, tuple(command), stage) for name, command, stage in json.loads(sys.argv[2])]
def say(text): print(text, flush=True)
sys.exit(Supervisor(parts, place / "logs", place / "run", say, term_s=1.0).run(
    lambda: say("started")))
"""
LASTING = [PYTHON, "-c", "import signal; signal.pause()"]
STUBBORN = [
    *(PYTHON, "-c"),
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()",
]
FAILING = [PYTHON, "-c", "print('no good'); raise SystemExit(3)"]

Start = Callable[..., subprocess.Popen[str]]


def until(what: str, true: Callable[[], bool]) -> None:
    """Poll until it is true, or fail."""
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        PAUSE.wait(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor of such parts in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(*parts: tuple[str, list[str], int]) -> subprocess.Popen[str]:
        command = [PYTHON, "-c", HARNESS, str(tmp_path), json.dumps(parts)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def pid_of(place: Path, name: str) -> int:
    path = place / "run" / f"{name}.pid"
    until(f"{name} runs", lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def has_become(pid: int, word: str) -> bool:
    """Has the tether become the command?"""
    try:
        return word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[1:3][-1]
    except (FileNotFoundError, IndexError):
        return False


def test_what_dies_is_started_again(start: Start, tmp_path: Path) -> None:
    process = start(("a", LASTING, 0), ("b", LASTING, 0))
    first, other = pid_of(tmp_path, "a"), pid_of(tmp_path, "b")
    os.kill(first, signal.SIGKILL)
    assert process.stdout is not None
    assert process.stdout.readline() == "a was ended by signal 9; starting it again.\n"
    until("a runs again", lambda: pid_of(tmp_path, "a") != first)
    assert pid_of(tmp_path, "b") == other
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert not alive(other)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.fault("A9")
def test_what_crashes_at_once_is_let_rest_and_the_others_run_on(
    start: Start, tmp_path: Path
) -> None:
    process = start(("bad", FAILING, 0), ("good", LASTING, 0))
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(4)]
    assert "3 times at once" in said[2]
    assert said[3] == "  no good\n"
    assert alive(pid_of(tmp_path, "good"))
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 0


def test_what_does_not_end_is_killed(start: Start, tmp_path: Path) -> None:
    process = start(("stubborn", STUBBORN, 0), ("stopped", LASTING, 1))
    stubborn, stopped = pid_of(tmp_path, "stubborn"), pid_of(tmp_path, "stopped")
    until("it ignores TERM", lambda: ignores_term(stubborn))
    os.kill(stopped, signal.SIGSTOP)
    process.terminate()
    assert process.wait(DEADLINE_S) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "stubborn did not end within 1 s: killed.\n"
    assert not alive(stubborn)
    assert not alive(stopped)


def ignores_term(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (ignored,) = [text.split()[1] for text in status.splitlines() if text.startswith("SigIgn")]
    return bool(int(ignored, 16) & (1 << (signal.SIGTERM - 1)))


def test_nothing_is_left_when_it_is_killed_itself(start: Start, tmp_path: Path) -> None:
    process = start(("a", LASTING, 0), ("b", STUBBORN, 0))
    pids = [pid_of(tmp_path, "a"), pid_of(tmp_path, "b")]
    until("both are tied", lambda: all(has_become(pid, "signal") for pid in pids))
    process.kill()
    until("both are gone", lambda: not any(alive(pid) for pid in pids))


def test_a_whole_service_runs_jobs_and_leaves_nothing(tmp_path: Path) -> None:
    account = ["--run-as", "nobody"] if os.geteuid() == 0 else []
    data = tmp_path / "d"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    there = kept | {"JOBLEDGER_URL": f"unix:{data}/jobledger.sock"}

    def command(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PYTHON, "-m", "ledger", *words],
            env=there,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    up = subprocess.Popen(
        [PYTHON, "-m", "ledger", "up", "--data", str(data), "--agents", "1", *account],
        env=kept,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert up.stderr is not None
        said = iter(up.stderr.readline, "")
        assert any(text.startswith(f"  export JOBLEDGER_URL=unix:{data}") for text in said)
        ran = command("run", "--", "sh", "-c", "echo hello; echo there >&2; exit 7")
        assert (ran.returncode, ran.stdout) == (7, "hello\nthere\n")
        assert "Job 1 failed (exit code 7)" in ran.stderr
        script = "#!/bin/sh\n#SBATCH -a 3-4 --mem=1G\necho task $JOBLEDGER_ARRAY_TASK_ID $1\n"
        made = command("submit", "-", "x", text=script)
        assert made.stdout == "Submitted job 2 (array of 2: 2_[3-4])\n"
        assert command("wait", "2_3", "2_4").returncode == 0
        assert command("output", "2_4").stdout == "task 4 x\n"
        held = command("submit", "-q", "-H", "--", "true").stdout.strip()
        assert "JobHeldUser" in command("why", held).stdout
        assert command("cancel", held).returncode == 0
        assert command("wait", "-q", held).returncode == 143
        assert command("jobs", "-a", "-o", "name").stdout.split() == ["1", "2", "3", "4"]
        assert command("doctor").returncode == 0
        assert "The log is whole" in command("log", "verify", "--data", str(data)).stdout
        second = command("master", "--data", str(data))
        assert (second.returncode, "held by" in second.stderr) == (75, True)
        again = command("up", "--data", str(data), "--agents", "3")
        assert (again.returncode, again.stdout) == (75, "")
        assert f"the `jobledger up` with pid {up.pid}." in again.stderr
        pids = [int(path.read_text()) for path in (data / "run").iterdir()]
        assert len(pids) == 3
    finally:
        up.kill()
        up.communicate()
    until("all are gone", lambda: not any(alive(pid) for pid in pids))
