"""The outputs on the pages of `docs/how-to`, made by carrying out the commands that stand there.

    python -m ledger.testing.outputs [DOCS]     writes them (default: docs), as `make docs` does

A block of a page that begins with three backticks and `console` holds commands, each behind a `$`,
and what they print. They are carried out one after the other, beside a small service that is always
the same: its log is told by a fixed clock, and its present does not go on. A test compares.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import structlog

from ledger import logs
from ledger.api.archive import served
from ledger.cli import main as jobledger
from ledger.commands import (
    SYSTEM,
    FindCause,
    NoteAbuse,
    OpenOutage,
    SetPolicy,
    Subject,
    TendOutages,
)
from ledger.events import TokenIssued
from ledger.store.location import open_log
from ledger.testing.stories import OPERATOR, Story

BLOCK = re.compile(r"^```console\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
MONDAY = 1_772_434_800_000_000
"""2026-03-02 07:00 UTC, when the service begins."""

RANDOM = re.compile(r"(?<=chain head )[0-9a-f]{12}")
"""What differs each time."""

HOUR, DAY = 3_600.0, 86_400.0
SECRET = "jl_0123456789ab_" + "d" * 43
OLGA = Subject("olga", "operator")
ACCOUNTING = """\
JobID|User|Account|Partition|Submit|Start|End|State|NNodes|NCPUS|NodeList|JobName
101|ann|bio|main|2026-01-05T20:00:00|2026-01-05T22:00:00|2026-01-06T04:00:00|COMPLETED|2|16|n[1-2]|fold
102|ann|bio|main|2026-01-06T08:00:00|2026-01-06T09:30:00|2026-01-06T10:01:00|FAILED|1|8|n1|fold
103|bob|hep|main|2026-01-06T08:00:00|2026-01-06T09:00:00|2026-01-06T10:00:00|NODE_FAIL|1|8|n1|scan
103|bob|hep|main|2026-01-06T10:00:00|2026-01-06T10:40:00|2026-01-06T12:00:00|COMPLETED|1|8|n3|scan
104|cleo|hep|main|2026-01-06T09:00:00|Unknown|2026-01-06T09:20:00|CANCELLED|1|0|None|oops
101.batch|||||2026-01-05T22:00:00|2026-01-06T04:00:00|COMPLETED|1|8|n1|batch
"""
"""What `sacct.txt` holds, on the pages that import one."""


def begun() -> Story:
    """A service in which nothing has happened, but that olga has a token."""
    story = Story(now=MONDAY, incarnation="d0c5" * 8)
    token, known = SECRET.split("_")[1], sha256(SECRET.encode()).hexdigest()
    issued = TokenIssued(token=token, sha256=known, owner="olga", role="operator", expires_at=0)
    story.record(issued, by="root")
    return story


def told() -> Story:
    """Two days of a small service: seven nodes, four users, a fuse that blows in a rack, planned
    work, and a loop that submits too much."""
    story = begun()
    story.ask(OPERATOR, SetPolicy(job_lease_s=30, abuse_submissions_per_min=20))
    for n in range(1, 8):
        story.node(f"n{n}", "main" if n < 7 else "gpu", rack="r1" if n < 4 else "r2")
    _monday(story)
    _fuse(story)
    _tuesday(story)
    return story


def _monday(story: Story) -> None:
    """Work, as it always is: some of it waits."""
    story.tick(HOUR)
    for user, account, nodes, name in (
        ("ann", "bio", 2, "fold"),
        ("bob", "hep", 1, "scan"),
        ("bob", "hep", 2, "scan"),
        ("cleo", "bio", 2, "align"),
    ):
        story.tick(60)
        story.submit(
            user, account=account, pool="main", nodes=nodes, name=name, time_limit_s=6 * 3_600,
            restartable=user != "cleo",
        )  # fmt: skip
        for placed in story.plan():
            story.start(placed.job)
    story.submit("dan", account="hep", pool="gpu", name="train", time_limit_s=12 * 3_600)
    for placed in story.plan():
        story.start(placed.job)
    story.tick(3 * HOUR)


def _fuse(story: Story) -> None:
    """Three nodes of one rack are lost, and come back; its cause is found later."""
    story.silence("n1", "n2", "n3")
    story.tick(40 * 60)
    for job in sorted(story.cluster.running):
        if any(story.cluster.nodes[n].health == "down" for n in _nodes(story, job)):
            story.give_up(job)
    for node in ("n1", "n2", "n3"):
        story.reboot(node)
    story.tick(HOUR)
    story.ask(SYSTEM, TendOutages())
    story.ask(OLGA, FindCause(outage=1, cause="a fuse in rack r1 blew"))
    for placed in story.plan():
        story.start(placed.job)
    story.tick(2 * HOUR)


def _tuesday(story: Story) -> None:
    """What ran ends; somebody's loop submits too much; work on the switch is announced."""
    for job in sorted(story.cluster.running):
        story.tick(60)
        story.end(job, cpu_us=3_600_000_000)
    for placed in story.plan():
        story.start(placed.job)
    story.now = MONDAY + round((DAY + 2 * HOUR) * 1e6)
    for _ in range(25):
        story.tick(1)
        story.submit("dan", account="hep", pool="main", name="loop", time_limit_s=600)
        for user, rule in sorted(story.cluster.watch.due):
            story.ask(SYSTEM, NoteAbuse(user=user, rule=rule))
    for placed in story.plan():
        story.start(placed.job)
    story.tick(HOUR)
    story.ask(OLGA, SetPolicy(abuse_submissions_per_min=15, outage_window_s=120))
    begin = story.now + round(8 * HOUR * 1e6)
    story.ask(
        OLGA,
        OpenOutage(
            nodes=("n4", "n5", "n6"), since=begin, until=begin + round(2 * HOUR * 1e6),
            reason="a new switch", planned=True,
        ),
    )  # fmt: skip
    story.tick(60)


def _nodes(story: Story, job: int) -> tuple[str, ...]:
    attempt = story.cluster.jobs[job].attempt
    return attempt.nodes if attempt is not None else ()


# ── carrying out what stands on a page ───────────────────────────────────────────────────────────


@contextlib.contextmanager
def service(story: Story | None = None) -> Iterator[None]:
    """The small service, or one of another story, for the commands of this process; in a folder
    with a `sacct.txt`. A story goes on from `begun`."""
    with tempfile.TemporaryDirectory(prefix="jobledger-docs-") as name:
        folder, story = Path(name), story or told()
        with closing(open_log(folder / "data", None, write=True, create=True)) as log:
            story.append_to(log)
        (folder / "sacct.txt").write_text(ACCOUNTING)
        with (
            _quietly(),
            served(folder / "data", now=story.now) as url,
            _environment(JOBLEDGER_URL=url, JOBLEDGER_TOKEN=SECRET, TZ="UTC"),
            contextlib.chdir(folder),
        ):
            yield


@contextlib.contextmanager
def _environment(**given: str) -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("JOBLEDGER_")]:
        del os.environ[name]
    os.environ.update(given)
    time.tzset()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        time.tzset()


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    before = structlog.get_config()
    logs.quiet()
    try:
        yield
    finally:
        structlog.configure(**before)


def printed(command: str) -> str:
    """What a command of jobledger prints: its data, then what it says beside."""
    program, *words = shlex.split(command)
    assert program == "jobledger", f"only jobledger can be carried out: {command}"
    out, said = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(said),
        contextlib.suppress(SystemExit),
    ):
        jobledger(words)
    return RANDOM.sub("0a1b2c3d4e5f", out.getvalue() + said.getvalue())


def renewed(page: str) -> str:
    """A page with the outputs that its commands have now. Call it beside a `service`."""

    def block(found: re.Match[str]) -> str:
        commands = [line[2:] for line in found[1].splitlines() if line.startswith("$ ")]
        parts = [f"$ {command}\n{printed(command)}" for command in commands]
        return "```console\n" + "\n".join(parts) + "```"

    return BLOCK.sub(block, page)


def pages(docs: Path) -> list[Path]:
    """The pages that have outputs."""
    return [page for page in sorted(docs.rglob("*.md")) if BLOCK.search(page.read_text())]


def main(arguments: list[str]) -> None:
    """Write the outputs anew, as the module's docstring says."""
    for page in pages(Path(arguments[0] if arguments else "docs").absolute()):
        with service():
            page.write_text(renewed(page.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
