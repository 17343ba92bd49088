"""What is told of each job that the loss of a service hit, source by source."""

import gzip
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.agent.spool import Spool
from ledger.commands import SYSTEM, StartMaster
from ledger.events import LogRestored
from ledger.models import SalvagedJobOut, SalvageOut
from ledger.salvage.report import NothingLeft, salvage
from ledger.store import backup
from ledger.store.location import open_log
from ledger.store.transfer import export
from ledger.testing.stories import START, Story, Wanderer
from ledger.wire import Order, Report, Seen
from places import Place

NODES = ("n1", "n2", "n3", "n4", "n5", "n6")


def kept(story: Story, folder: Path) -> Path:
    """The story's log in a directory."""
    with closing(open_log(folder, None, write=True, create=True)) as log:
        story.append_to(log)
    return folder


def spool_of(
    folder: Path, node: str, story: Story, *, shown: int | None = None, made: str = ""
) -> Spool:
    """The spool of a node's agent, which was shown the log as far as it goes now."""
    spool = Spool(folder / f"{node}.ndjson", lambda: story.now, made or f"{node}-1")
    position = story.cluster.position if shown is None else shown
    spool.see(Seen(incarnation=story.incarnation, epoch=story.epoch, position=position, hash="x"))
    return spool


def begin(spool: Spool, story: Story, job: int, user: str = "", attempt: int = 0) -> None:
    """The agent is about to begin an attempt; of a job that the log knows, the one it placed."""
    known = story.cluster.jobs.get(job)
    placed = known.attempt if known is not None and not attempt else None
    order = Order(
        job=job,
        attempt=placed.n if placed else attempt,
        user=known.user if known else user,
        nodes=placed.nodes if placed else (spool.id.partition("-")[0],),
        restartable=False,
        time_limit_s=60,
        kill_grace_s=1,
    )
    spool.begin(order, "boot")


def end(spool: Spool, job: int, attempt: int = 1, end: Any = "completed", code: int = 0) -> None:
    """The agent notes an end, which no master has heard of."""
    ended = Report(
        seq=0, kind="ended", job=job, attempt=attempt, end=end, cause="exit", exit_code=code,
        ran_us=7_000_000,
    )  # fmt: skip
    spool.report(ended)


def jobs_of(found: SalvageOut) -> dict[int, SalvagedJobOut]:
    """What is listed, by number."""
    return {job.job: job for user in found.users for job in user.jobs}


def cluster() -> tuple[Story, dict[str, int]]:
    """Six nodes, each with a job; one that waits; one node falls silent."""
    story = Story()
    for name in NODES:
        story.node(name)
    jobs = {}
    for name in NODES:
        jobs[name] = story.submit(f"user-{name}", account="physics")
        story.place(jobs[name], name)
        if name != "n4":
            story.start(jobs[name])
    jobs["waits"] = story.submit("ann", account="bio", nodes=2)
    over = story.submit("zoe")
    story.cancel(over)
    story.tick(100)
    story.silence("n6")
    return story, jobs


def test_each_job_is_told_of_as_far_as_anybody_knows(tmp_path: Path) -> None:
    story, jobs = cluster()
    data = kept(story, tmp_path / "data")
    spools = {name: spool_of(tmp_path, name, story) for name in ("n1", "n2", "n3", "n4")}
    for name in ("n1", "n2", "n3"):
        begin(spools[name], story, jobs[name])
    end(spools["n1"], jobs["n1"])
    end(spools["n2"], jobs["n2"], end="failed", code=3)
    begin(spools["n1"], story, 77, "kim", 2)
    found = salvage([data, *tmp_path.glob("*.ndjson")], str)
    told = jobs_of(found)
    assert {name: (told[job].effect, told[job].end) for name, job in jobs.items()} == {
        "n1": ("ended", "completed"),
        "n2": ("ended", "failed"),
        "n3": ("may_run", ""),
        "n4": ("not_begun", ""),
        "n5": ("unknown", ""),
        "n6": ("out_of_contact", ""),
        "waits": ("waiting", ""),
    }
    assert set(told) == {*jobs.values(), 77}
    assert (told[77].effect, told[77].known_from, told[77].attempt) == ("may_run", "spool", 2)
    users = {user.user: user for user in found.users}
    assert [name for name, user in users.items() if not user.needs_owner] == [
        "kim", "user-n1", "user-n3",
    ]  # fmt: skip
    assert [name for name, user in users.items() if user.submit_again] == ["ann", "user-n4"]
    stakes = {name: told[job].at_stake_node_s for name, job in jobs.items()}
    assert stakes == {
        "n1": 0.0, "n2": 7.0, "n3": 400.0, "n4": 0.0, "n5": 400.0, "n6": 400.0, "waits": 0.0,
    }  # fmt: skip
    assert (users["kim"].account, users["user-n5"].account) == ("", "physics")
    assert "7 jobs of 7 users were live then" in found.verdict
    said = "4 agents' spools say what became of 3 of them, and add 1 job of 1 user"
    assert said in found.verdict
    assert "What became of what ran on n[5-6]" in " ".join(found.unknown)
    assert "log.db holds all of the log up to there" in found.advice[0]


def test_a_spool_that_was_shown_less_says_nothing_of_a_later_placement(tmp_path: Path) -> None:
    story, jobs = cluster()
    data = kept(story, tmp_path / "data")
    spool_of(tmp_path, "n4", story, shown=5)
    found = salvage([data, tmp_path / "n4.ndjson"], str)
    assert jobs_of(found)[jobs["n4"]].effect == "unknown"


def test_those_who_lost_a_job_before_are_told_of_when_asked_for(tmp_path: Path) -> None:
    story, jobs = cluster()
    story.give_up(jobs["n6"])
    data = kept(story, tmp_path / "data")
    assert jobs["n6"] not in jobs_of(salvage([data], str))
    told = jobs_of(salvage([data], str, since=story.now - 1))[jobs["n6"]]
    assert (told.effect, told.end) == ("lost", "node_fail")
    assert jobs["n6"] not in jobs_of(salvage([data], str, since=story.now + 1))


def test_agents_of_other_services_are_left_out(tmp_path: Path) -> None:
    story, _ = cluster()
    data = kept(story, tmp_path / "data")
    other = Story(incarnation="another")
    begin(spool_of(tmp_path, "n1", other), other, 900, "eve", 1)
    found = salvage([data, tmp_path / "n1.ndjson"], str)
    assert 900 not in jobs_of(found)
    assert found.sources[-1].trouble == ["it is of an agent of another service"]


def test_logs_of_other_services_are_left_out(tmp_path: Path) -> None:
    """The one that went on the longest is meant, whatever its length."""
    ours, theirs = (
        Wanderer(Story(now=START + n), Random(n)).walk(80 + n)  # noqa: S311 - to be drawn again
        for n in (1, 40)
    )
    ours.now = theirs.now + 1_000_000
    job = ours.submit("ann")
    place = [kept(ours, tmp_path / "ours"), kept(theirs, tmp_path / "theirs")]
    found = salvage(reversed(place), str)
    alone = salvage(place[:1], str)
    assert (found.position, found.users) == (alone.position, alone.users)
    assert job in jobs_of(found)
    left_out = {source.path: source.trouble for source in found.sources if source.trouble}
    assert left_out == {
        str(place[1] / "log.db"): ["it is of another log, and was left out: ask for it alone"]
    }


def test_a_log_that_went_another_way_since_a_restore_is_left_out_from_there(tmp_path: Path) -> None:
    story = Wanderer(Story(), Random(3)).walk(60)  # noqa: S311 - to be drawn again
    former = kept(story, tmp_path / "former")
    with closing(open_log(former, None, write=False)) as log:
        made = backup.create(log, tmp_path)
    with closing(open_log(former, None, write=True)) as log:
        story.submit("lost")  # behind the backup
        story.append_to(log)
    backup.restore(made, tmp_path / "new", None)
    again = Wanderer(Story(), Random(3)).walk(60)  # noqa: S311 - to be drawn again
    again.incarnation = "restored"
    again.record(LogRestored(incarnation="restored", after=again.cluster.position, first_job=9000))
    asked = StartMaster(incarnation="restored", build="0", durability="full", recovered={})
    again.tick(60)
    again.ask(SYSTEM, asked)
    job = again.submit("found")
    with closing(open_log(tmp_path / "new", None, write=True)) as log:
        again.append_to(log)
    found = salvage([former, made, tmp_path / "new"], str)
    users = {user.user for user in found.users}
    assert "found" in users
    assert "lost" not in users
    assert job in jobs_of(found)
    trouble = {Path(source.path).parent.name: source.trouble for source in found.sources}
    assert "it tells of another log" in trouble["former"][0]
    assert trouble["new"] == []
    # what an agent began before the restore was lost by that, and is no news
    for name, began_at in (("n1", again.now - 70_000_000), ("n2", again.now)):
        spool = spool_of(tmp_path, name, again)
        spool.now = partial(int, began_at)
        begin(spool, again, 800 + int(name[1:]), "kim", 1)
    found = salvage([tmp_path / "new", *tmp_path.glob("*.ndjson")], str)
    assert {801, 802} & set(jobs_of(found)) == {802}


def test_what_does_not_follow_from_what_came_before_is_not_proven(tmp_path: Path) -> None:
    """An export that goes on as another log does, each of whose commits is whole in itself."""
    lines = []
    for user in ("ann", "bob"):
        story = Story()
        story.node("n1")
        begun = story.cluster.position
        jobs = [story.submit(user) for _ in range(6)]
        file = tmp_path / f"{user}.jsonl"
        data = kept(story, tmp_path / user)
        with closing(open_log(data, None, write=False)) as log, open(file, "wb") as stream:
            export(log, stream)
        lines.append(file.read_bytes().splitlines(keepends=True))
    cut = 1 + begun + 6  # three submissions, each a header and an event
    spliced = tmp_path / "spliced.jsonl"
    spliced.write_bytes(b"".join(lines[0][:cut] + lines[1][cut:]))
    found = salvage([spliced], str)
    assert found.position == begun + 6
    told = {user.user: [(job.job, job.known_from) for job in user.jobs] for user in found.users}
    assert told == {
        "ann": [(job, "log") for job in jobs[:3]],
        "bob": [(job, "unproven") for job in jobs[3:]],
    }
    assert f"in part up to {begun + 12}" in found.verdict


@pytest.mark.parametrize("what", ["log", "wal", "export", "backup", "spool"])
def test_damage_is_never_taken_for_proof(tmp_path: Path, what: str) -> None:
    """Bytes are changed anywhere: what is called proven is what was written."""
    story = Wanderer(Story(), Random(8)).walk(70)  # noqa: S311 - to be drawn again
    data, rng = kept(story, tmp_path / "data"), Random(what)  # noqa: S311 - to be drawn again
    with closing(open_log(data, None, write=True)) as log:
        files = {
            "log": data / "log.db",
            "wal": data / "log.db-wal",
            "export": tmp_path / "export",
            "backup": backup.create(log, tmp_path),
            "spool": tmp_path / "n1.ndjson",
        }
        with open(files["export"], "wb") as file:
            export(log, file)
        story.submit("last")
        story.append_to(log)
        begin(spool_of(tmp_path, "n1", story), story, 77, "kim", 1)
        whole = files[what].read_bytes()
    ends = {at: n for n, at in enumerate(ends_of(story))}
    for _ in range(15):
        bad = bytearray(whole)
        for _ in range(rng.choice((1, 1, 5, 100))):
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        (tmp_path / "bad").mkdir(exist_ok=True)
        place = tmp_path / "bad" / files[what].name
        place.write_bytes(bytes(bad))
        try:
            found = salvage([place], str)
        except NothingLeft:
            continue
        assert found.position in ends
        truth = story_until(story, ends[found.position])
        for user in found.users:
            for job in user.jobs:
                if job.known_from == "log":
                    assert (user.user, user.account) == truth[job.job]


def ends_of(story: Story) -> list[int]:
    """Where each commit ends, from the empty log on."""
    found = [0]
    for draft in story.drafts:
        found.append(found[-1] + 1 + len(draft.facts))
    return found


def story_until(story: Story, commits: int) -> dict[int, tuple[str, str]]:
    """Whose every job was that the first commits speak of."""
    found = {}
    for draft in story.drafts[:commits]:
        for fact in draft.facts:
            for place in range(getattr(fact.event, "count", 0)):
                e: Any = fact.event
                spec = e.specs[0 if e.array else place]
                found[e.first_job + place] = (e.user, spec.account)
    return found


def test_an_export_from_either_database(place: Place, tmp_path: Path) -> None:
    story, jobs = cluster()
    with closing(place.open()) as log, open(tmp_path / "all.jsonl", "wb") as file:
        story.append_to(log)
        export(log, file)
    packed = tmp_path / "all.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "all.jsonl").read_bytes()))
    headless = tmp_path / "headless.jsonl"
    headless.write_bytes((tmp_path / "all.jsonl").read_bytes().partition(b"\n")[2])
    for made in (tmp_path / "all.jsonl", packed, headless):
        found = salvage([made], str)
        assert set(jobs_of(found)) == set(jobs.values())
        assert found.position == story.cluster.position
        assert [source.kind for source in found.sources] == ["export"]
    (advice,) = salvage([tmp_path / "all.jsonl"], str).advice
    assert "all.jsonl holds all of the log" in advice
    assert "jobledger log import" in advice


def test_a_directory_is_all_that_is_useful_in_it(tmp_path: Path) -> None:
    story, _ = cluster()
    data = kept(story, tmp_path / "data")
    (data / "projections").mkdir()
    (data / "projections" / "jobs.v1.db").write_bytes(b"SQLite format 3\0 and so on")
    (data / "agents" / "n1").mkdir(parents=True)
    spool_of(data / "agents" / "n1", "n1", story)
    (data / "notes.txt").write_text("nothing of ours")
    (data / "torn.backup").write_bytes(b"")
    found = salvage([data, data / "log.db", data / "notes.txt"], str)
    named = {Path(s.path).name: (s.kind, s.trouble) for s in found.sources}
    assert named == {
        "log.db": ("log", []),
        "n1.ndjson": ("spool", []),
        "torn.backup": ("unknown", ["it is empty"]),
        "notes.txt": ("unknown", ["it is nothing of jobledger's"]),
    }


def test_nothing_at_all(tmp_path: Path) -> None:
    for content in (b"", b"nonsense", b"SQLite format 3\0", bytes(9000), b"[1,2]\n", b"\x1f\x8b"):
        for name in ("log.db", "x.backup", "spool.ndjson", "anything"):
            file = tmp_path / name
            file.write_bytes(content)
            with pytest.raises(NothingLeft) as nothing:
                salvage([file], str)
            assert all(source.trouble for source in nothing.value.sources)
    with pytest.raises(NothingLeft):
        salvage([tmp_path / "gone"], str)


def test_spools_alone(tmp_path: Path) -> None:
    """Without a log only what no master has heard of counts, and that is said."""
    story = Story()
    spool = spool_of(tmp_path, "n1", story)
    for job in (1, 2, 3):
        begin(spool, story, job, "kim", 1)
    end(spool, 1)
    spool.ack([1])
    end(spool, 2)
    spool.close()
    data = (tmp_path / "n1.ndjson").read_bytes().splitlines(keepends=True)
    data.insert(2, b'{"c":1,"r":{"t":"begun"}}\n')
    (tmp_path / "n1.ndjson").write_bytes(b"".join(data))
    found = salvage([tmp_path / "n1.ndjson"], str)
    assert (
        found.verdict
        == "No log can be read: 1 agent's spool names 2 jobs of 1 user that had begun."
    )
    assert {job: told.effect for job, told in jobs_of(found).items()} == {2: "ended", 3: "may_run"}
    assert (found.position, found.hash, found.at) == (0, "", None)
    assert found.sources[0].trouble == ["1 of its lines can't be read, first line 3"]
    assert "Which jobs waited" in found.unknown[0]
