"""When a notice is tried again, when it is given up, and what a restored log does with it."""

from ledger.commands import SYSTEM, OpenOutage, StartMaster, Tell
from ledger.domain.notices import GIVEN_UP_US, again_at, to_tell
from ledger.testing.stories import OPERATOR, Story


def test_a_notice_is_tried_less_and_less_often_and_given_up_after_three_days() -> None:
    due_at, now, tries, waits = 10**15, 10**15, 0, []
    while now and tries < 1000:
        tries += 1
        again = again_at(tries, now, due_at)
        waits.append((again - now) // 1_000_000)
        now = again
    assert waits[:8] == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert sum(waits[:-1]) <= 3 * 86_400 < sum(waits[:-1]) + 1800
    assert again_at(10**6, due_at, due_at) == due_at + 1_800 * 1_000_000


def test_a_restored_log_tells_nobody_of_what_was_days_ago() -> None:
    story = Story()
    for name in ("n1", "n2"):
        story.node(name)
    old, young = GIVEN_UP_US // 1_000_000, 60
    for name, user, age in (("n1", "ann", old), ("n2", "bob", young)):
        job = story.submit(user)
        story.place(job, name)
        story.start(job)
        story.down(name)
        number = story.cluster.nodes[name].outage
        if user == "ann":
            as_of = story.cluster.position
            story.ask(SYSTEM, Tell(outage=number, why="hit", users=("ann",), as_of=as_of))
            story.ask(OPERATOR, OpenOutage(since=story.now - 1, reason="the room was hot"))
        story.tick(age + 1)
    assert [n.to for n in story.cluster.notices.values()] == ["ann"]
    story.incarnation = "copy"
    start = StartMaster(incarnation="copy", build="1", durability="full", recovered={})
    story.ask(SYSTEM, start)
    assert not story.cluster.notices
    due_now = to_tell(story.cluster, story.now)
    assert [(t.outage, t.why) for t in due_now if t.why == "hit"] == [
        (story.cluster.nodes["n2"].outage, "hit")
    ]
