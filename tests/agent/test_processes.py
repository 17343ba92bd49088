"""Real processes: how they start, what they see, how they end, and that nothing of them stays."""

import asyncio
import os
import pwd
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ledger.agent.accounts import NoSuchAccount, account_for
from ledger.agent.lease import boottime
from ledger.agent.processes import Processes, Refused
from ledger.agent.warden import send, stat_of
from ledger.wire import Order

from .agent_support import ACCOUNT, alive, eventually, order, parent_of, pid_in, run, soon

ROOT = os.geteuid() == 0


def sh(command: str, **changes: Any) -> Order:
    """An order to run a line of shell (the job's choice, not ours)."""
    return order("/bin/sh", "-c", command, **changes)


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_the_exit_code_is_the_jobs_own(runner: Processes, code: int) -> None:
    ending = run(runner, sh(f"exit {code}")).ending
    assert (ending.end, ending.cause) == ("failed" if code else "completed", "exit")
    assert (ending.exit_code, ending.signal) == (code, None)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
def test_a_signal_is_told_as_one(runner: Processes, number: int) -> None:
    ending = run(runner, sh(f"kill -{int(number)} $$")).ending
    assert (ending.end, ending.cause) == ("failed", "signal")
    assert (ending.exit_code, ending.signal) == (None, number)


def test_argv_is_run_as_it_is_and_no_shell_reads_it(runner: Processes) -> None:
    words = ("printf", "%s|", "$HOME", "a b", "*", "", "ü;`id`")
    assert run(runner, order(*words)).output.decode() == "$HOME|a b|*||ü;`id`|"


def test_the_environment_is_clean(runner: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBLEDGER_TOKEN", "secret-of-the-agent")
    monkeypatch.setenv("LD_PRELOAD_CANARY", "1")
    done = run(runner, order("env", nodes=("n1", "n2"), request="r-9"))
    found = dict(line.split("=", 1) for line in done.output.decode().splitlines())
    scratch = str(runner.root / "17.1")
    home = pwd.getpwnam(ACCOUNT).pw_dir
    assert found == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": home,
        "USER": ACCOUNT,
        "LOGNAME": ACCOUNT,
        "LANG": "C.UTF-8",
        "TMPDIR": scratch,
        "JOBLEDGER_SCRATCH": scratch,
        "JOBLEDGER_JOB_ID": "17",
        "JOBLEDGER_ATTEMPT": "1",
        "JOBLEDGER_NODES": "n1,n2",
        "JOBLEDGER_REQUEST": "r-9",
    }


def test_a_task_of_an_array_knows_its_index(runner: Processes) -> None:
    command = "echo $JOBLEDGER_ARRAY_JOB_ID.$JOBLEDGER_ARRAY_TASK_ID${SLURM_JOB_ID:-}"
    assert run(runner, sh(command, array_first=12, array_index=5)).output == b"12.5\n"


def test_a_job_inherits_nothing_but_its_three_files(runner: Processes) -> None:
    listed = run(runner, order("ls", "-l", "/proc/self/fd")).output.decode().splitlines()
    targets = [line.rpartition(" -> ")[2] for line in listed if " -> " in line]
    assert targets[0] == "/dev/null"
    assert targets[1] == targets[2]
    assert targets[1].startswith("pipe:")
    assert targets[3].endswith("/fd")  # the directory that ls reads
    assert len(targets) == 4


def test_a_job_has_default_signals_a_umask_and_no_new_privileges(runner: Processes) -> None:
    command = "umask; exec grep -E 'NoNewPrivs|Sig(Ign|Blk)' /proc/self/status"
    umask, _, blocked, _, ignored, _, privileges = run(runner, sh(command)).output.decode().split()
    reserved = 0b11 << 31  # 32 and 33 are the C library's own: nobody can set them back
    assert (umask, privileges) == ("0077", "1")
    assert (int(blocked, 16), int(ignored, 16) & ~reserved) == (0, 0)


def test_a_job_leads_a_session_of_its_own(runner: Processes) -> None:
    pid, session = run(runner, sh("cut -d' ' -f1,6 /proc/$$/stat")).output.split()
    assert pid == session != str(os.getsid(0)).encode()


def test_it_runs_in_its_scratch_which_is_wiped(runner: Processes) -> None:
    command = (
        "pwd; ls -ld . | cut -c1-10; mkdir -p a/b; echo x > a/b/c; chmod 0 a/b a; ln -s / root"
    )
    done = run(runner, sh(command))
    assert done.output.decode().splitlines() == [str(runner.root / "17.1"), "drwx------"]
    assert list(runner.root.iterdir()) == []


def test_it_runs_in_the_directory_asked_for(runner: Processes, open_path: Path) -> None:
    assert run(runner, order("pwd", workdir=str(open_path))).output.decode().strip() == str(
        open_path
    )


@pytest.mark.fault("E12")
def test_a_directory_that_is_not_there_is_said(runner: Processes) -> None:
    ending = run(runner, order("pwd", workdir="/no/such/place")).ending
    assert (ending.end, ending.cause) == ("failed", "exec_failed")
    assert "/no/such/place: No such file or directory" in ending.detail


@pytest.mark.fault("E12")
def test_a_command_that_is_not_there_is_said(runner: Processes) -> None:
    ending = run(runner, order("no-such-command")).ending
    assert (ending.end, ending.cause) == ("failed", "exec_failed")
    assert ending.detail == "can't run no-such-command: No such file or directory"
    assert list(runner.root.iterdir()) == []


def test_a_script_is_run_by_its_own_first_line(runner: Processes) -> None:
    script = '#!/bin/sh -u\necho "$0 $# $2"\n'
    done = run(runner, order("one", "two words", script=script))
    assert done.output.decode() == f"{runner.root}/17.1/script 2 two words\n"


def test_a_script_without_a_first_line_is_refused_with_a_hint(runner: Processes) -> None:
    ending = run(runner, order(script="echo hello\n")).ending
    assert (ending.end, ending.cause) == ("failed", "exec_failed")
    assert "#!/bin/bash" in ending.detail


@pytest.mark.fault("E12")
def test_a_script_with_an_interpreter_that_is_not_there_is_said(runner: Processes) -> None:
    ending = run(runner, order(script="#!/bin/bsh\n")).ending
    assert ending.cause == "exec_failed"
    assert "#!/bin/bsh: No such file or directory" in ending.detail


def test_the_owners_output_file_is_opened_as_the_owner(runner: Processes, open_path: Path) -> None:
    target = open_path / "out.txt"
    assert run(runner, order("echo", "one", output_path=str(target))).output == b""
    run(runner, order("echo", "two", output_path=str(target)))
    assert target.read_text() == "one\ntwo\n"
    assert target.stat().st_uid == pwd.getpwnam(ACCOUNT).pw_uid
    assert target.stat().st_mode & 0o777 == 0o600


def test_an_output_file_behind_a_link_is_refused(runner: Processes, open_path: Path) -> None:
    (open_path / "secret").write_text("before")
    (open_path / "link").symlink_to(open_path / "secret")
    ending = run(runner, order("echo", "x", output_path=str(open_path / "link"))).ending
    assert ending.cause == "exec_failed"
    assert (open_path / "secret").read_text() == "before"


def test_a_fifo_as_output_file_holds_nobody_up(runner: Processes, open_path: Path) -> None:
    os.mkfifo(open_path / "fifo")
    (open_path / "fifo").chmod(0o666)
    ending = run(runner, order("echo", "x", output_path=str(open_path / "fifo"))).ending
    assert ending.cause == "exec_failed"


def test_much_output_comes_whole(runner: Processes) -> None:
    done = run(runner, sh("head -c 5000000 /dev/zero; echo end >&2"))
    assert len(done.output) == 5_000_004
    assert done.output.endswith(b"end\n")


# ── how it is ended ──


def test_the_time_limit_ends_it_with_a_word_of_warning(runner: Processes) -> None:
    command = "trap 'echo warned; exit 3' TERM; while :; do sleep 0.05; done"
    done = run(runner, sh(command, time_limit_s=1, kill_grace_s=30))
    assert (done.ending.end, done.ending.cause) == ("timeout", "time_limit")
    assert done.ending.exit_code == 3
    assert b"warned\n" in done.output  # among what the shell says of its own child
    assert 1_000_000 <= done.ending.ran_us < 10_000_000


def test_a_job_that_ignores_the_warning_is_killed_after_the_grace(runner: Processes) -> None:
    command = "trap '' TERM; while :; do sleep 0.05; done"
    ending = run(runner, sh(command, time_limit_s=1, kill_grace_s=1)).ending
    assert (ending.end, ending.cause, ending.signal) == ("timeout", "time_limit", signal.SIGKILL)
    assert ending.ran_us >= 2_000_000


def test_stop_is_a_warning_and_kill_is_none(runner: Processes, open_path: Path) -> None:
    async def ended(how: str) -> tuple[str, bool]:
        ready = open_path / how
        command = f"trap 'echo warned; exit 0' TERM; echo 1 > {ready}; while :; do sleep 0.05; done"
        written = bytearray()
        running = await runner.start(sh(command), written.extend, 0.0)
        await soon(ready.exists)
        if how == "stop":
            running.stop(30)
        else:
            running.kill()
        return (await running.wait()).cause, b"warned\n" in written

    assert asyncio.run(ended("stop")) == ("stopped", True)
    assert asyncio.run(ended("kill")) == ("stopped", False)


def test_a_shorter_grace_hurries_a_stop(runner: Processes, open_path: Path) -> None:
    async def main() -> int | None:
        ready = open_path / "ready"
        command = f"trap '' TERM; echo 1 > {ready}; while :; do sleep 0.05; done"
        running = await runner.start(sh(command), bytearray().extend, 0.0)
        await soon(ready.exists)
        running.stop(3600)
        running.stop(0)
        return (await running.wait()).signal

    assert asyncio.run(main()) == signal.SIGKILL


def test_the_lease_ends_it_even_if_the_agent_sleeps(runner: Processes) -> None:
    ending = run(runner, order("sleep", "60"), lease_until=boottime() + 0.5).ending
    assert (ending.end, ending.cause) == ("node_fail", "lease_expired")


def test_a_longer_lease_lets_it_run(runner: Processes) -> None:
    async def main() -> str:
        running = await runner.start(order("sleep", "1"), bytearray().extend, boottime() + 0.5)
        running.extend(boottime() + 60)
        return (await running.wait()).cause

    assert asyncio.run(main()) == "exit"


ESCAPES = {
    "background": "sleep 300 & echo $! > {pid}",
    "own session": "setsid sh -c 'echo $$ > {pid}; exec sleep 300' &",
    "forked twice": "( ( sh -c 'echo $$ > {pid}; exec sleep 300' & ) & )",
    "session of a double fork": "( setsid sh -c 'echo $$ > {pid}; exec sleep 300' & ) &",
    "deaf": "( trap '' TERM HUP INT; setsid sh -c 'echo $$ > {pid}; sleep 300; sleep 300' & ) &",
    "without environment": "env -i setsid sh -c 'echo $$ > {pid}; exec sleep 300' &",
    "stopped": "setsid sh -c 'echo $$ > {pid}; kill -STOP $$; sleep 300' &",
    "without its files": "setsid sh -c 'echo $$ > {pid}; exec sleep 300' <&- >&- 2>&- &",
}


def assert_gone(pid: Path) -> None:
    """The process that a job wrote down is no more; a survivor is not left behind."""
    left = alive(pid_in(pid))
    if left:
        os.kill(pid_in(pid), signal.SIGKILL)
    assert not left


@pytest.mark.fault("E5")
@pytest.mark.parametrize("way", ESCAPES)
def test_no_process_outlives_its_job(runner: Processes, open_path: Path, way: str) -> None:
    pid = open_path / "pid"
    wait = f"while ! [ -s {pid} ]; do sleep 0.01; done; exit 4"
    done = run(runner, sh(ESCAPES[way].format(pid=pid) + "\n" + wait))
    assert (done.ending.cause, done.ending.exit_code) == ("exit", 4)
    assert_gone(pid)


@pytest.mark.fault("E5")
@pytest.mark.parametrize("way", ESCAPES)
def test_no_process_outlives_the_time_limit(runner: Processes, open_path: Path, way: str) -> None:
    pid = open_path / "pid"
    command = ESCAPES[way].format(pid=pid) + "\ntrap '' TERM; while :; do sleep 0.05; done"
    done = run(runner, sh(command, time_limit_s=1, kill_grace_s=0))
    assert done.ending.cause == "time_limit"
    assert_gone(pid)


@pytest.mark.fault("E7")
def test_a_job_that_forks_as_fast_as_it_can_is_ended(runner: Processes) -> None:
    command = "f() { sleep 0.2 & f2 & }; f2() { sleep 0.2 & f & }; f; f; f; sleep 60"
    ending = run(runner, sh(command, time_limit_s=1, kill_grace_s=0)).ending
    assert ending.cause == "time_limit"


@pytest.mark.fault("E4")
def test_a_stranger_with_the_pid_of_a_dead_process_is_never_signalled() -> None:
    child = subprocess.Popen(["sleep", "300"])
    try:
        stat = stat_of(child.pid)
        assert stat is not None
        send({(child.pid, stat[2] - 1)}, signal.SIGKILL)  # who had this pid before it
        os.kill(child.pid, signal.SIGTERM)  # a SIGKILL would have come first
        assert child.wait(20) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()


def test_a_killed_warden_takes_the_job_with_it(runner: Processes, open_path: Path) -> None:
    main_pid, escaped = open_path / "main", open_path / "escaped"
    command = (
        f"setsid sh -c 'echo $$ > {escaped}; exec sleep 300' &"
        f" echo $$ > {main_pid}; while :; do sleep 0.05; done"
    )

    async def main() -> str:
        running = await runner.start(sh(command), bytearray().extend, 0.0)
        await soon(lambda: pid_in(main_pid) and pid_in(escaped))
        os.kill(parent_of(pid_in(main_pid)), signal.SIGKILL)
        return (await running.wait()).detail

    assert "was killed" in asyncio.run(main())
    assert not alive(pid_in(main_pid))
    assert not alive(pid_in(escaped))


# ── whose uid ──


def test_whose_uid(runner: Processes) -> None:
    found = pwd.getpwnam(ACCOUNT)
    lines = run(runner, sh("id -u; id -ru; id -g; grep Groups /proc/$$/status")).output.split(b"\n")
    assert [int(x) for x in lines[:3]] == [found.pw_uid, found.pw_uid, found.pw_gid]
    if ROOT:
        groups = {int(x) for x in lines[3].split()[1:]}
        assert groups == set(os.getgrouplist(ACCOUNT, found.pw_gid))


@pytest.mark.fault("E12")
def test_who_has_no_account_is_refused(runner: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for user, why in {
        "nobody-we-know": "no account",
        "root": "is root",
        "daemon": "system account",
        "x\0y": "no account",
    }.items():
        ending = run(runner, order("true", user=user)).ending
        assert (ending.end, ending.cause) == ("failed", "no_such_account")
        assert why in ending.detail
    with pytest.raises(NoSuchAccount, match="root"):
        account_for("alice", "root")
    assert account_for("alice", "daemon").name == "daemon"


def test_an_agent_that_is_not_root_is_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    me = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(os, "geteuid", lambda: me.pw_uid or 65534)
    account = account_for("anybody")
    assert account.switch is False
    assert account.uid == (me.pw_uid or 65534)
    with pytest.raises(NoSuchAccount, match="only an agent that is root"):
        account_for("anybody", "somebody-else")


def test_a_scratch_root_of_somebody_elses_is_refused(open_path: Path) -> None:
    (open_path / "link").symlink_to(open_path)
    with pytest.raises(OSError, match="not a directory of this account's own"):
        Processes(open_path / "link")


# ── after a crash ──


def test_what_a_dead_agent_left_is_killed_and_wiped(runner: Processes, open_path: Path) -> None:
    pid = open_path / "pid"
    left = runner.root / "9.1"
    left.mkdir()
    child = os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", f"setsid sh -c 'echo $$ > {pid}; sleep 300; true' & wait"],
        {"TMPDIR": str(left), "PATH": "/usr/bin:/bin"},
    )
    eventually(lambda: pid_in(pid))
    assert asyncio.run(runner.clear()) >= 2
    assert not alive(pid_in(pid))
    assert list(runner.root.iterdir()) == []
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_start_that_is_refused_leaves_nothing(runner: Processes) -> None:
    async def main() -> None:
        await runner.start(order(), bytearray().extend, 0.0)

    with pytest.raises(Refused, match="neither a command nor a script"):
        asyncio.run(main())
    assert list(runner.root.iterdir()) == []
