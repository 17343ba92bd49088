"""Any log comes to the findings that a scan of all its events comes to, by whatever takeovers."""

from random import Random
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import SetPolicy
from ledger.domain.cluster import fold
from ledger.domain.snapshot import from_bytes, to_bytes
from ledger.testing.evidence import Evidence
from ledger.testing.stories import OPERATOR, Story

from .abusing import RULES, SECOND, check, ended, notice, strict, submitted


class Step(NamedTuple):
    """Something that happens, by whom, how, and how long after the last."""

    what: str
    user: str
    a: int
    b: int
    after_s: float


KINDS = ("submit",) * 4 + ("end",) * 6 + ("notice", "notice", "policy", "takeover")
PAUSES_S = (*(0, 0.5, 1, 5, 20) * 4, 59, 60, 600, 3_540, 3_600, 3_660, 7_300, 40_000, 50_000)
steps = st.builds(
    Step,
    st.sampled_from(KINDS),
    st.sampled_from(("ann", "ann", "bob")),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from(PAUSES_S),
)


def take(story: Story, step: Step) -> None:
    """One step."""
    story.tick(step.after_s)
    if step.what == "submit":
        submitted(story, step.user, 1 + step.a % 2, ("", "physics")[step.b % 2], 1 + step.b // 5)
    elif step.what == "end":
        outcome = ("failed", "failed", "failed", "completed", "out_of_memory", "node_fail")[step.a]
        cause = ("exit", "signal", "no_such_account")[step.b % 3]
        ran_s = (1, 4.9, 5, 60, 0, 30)[step.b]
        used = (None, 0, SECOND // 2, 5 * SECOND, 6 * SECOND, 0)[(step.a + step.b) % 6]
        nodes = ("n1", "n2")[: 1 + step.a % 2]
        facts = {"outcome": outcome, "cause": cause, "cpu_us": used, "nodes": nodes}
        ended(story, step.user, ran_s, state="failed", account=("", "a")[step.b % 2], **facts)
    elif step.what == "notice":
        notice(story)
    elif step.what == "policy":
        changes: tuple[dict[str, int], ...] = (
            {"abuse_submissions_per_min": step.b},
            {"abuse_fail_percent": 20 * step.b},
            {"abuse_fail_within_s": step.b},
            {"abuse_idle_node_s": 40 * step.b},
            {"abuse_idle_percent": 4 * step.b},
            {"kill_grace_s": step.b},
        )
        story.ask(OPERATOR, SetPolicy(**changes[step.a]))
    else:
        story.cluster = from_bytes(to_bytes(fold(story.events)))
        story.restart()


@settings(max_examples=80)
@given(st.lists(steps, max_size=70))
def test_any_log(told: list[Step]) -> None:
    """As it happens, by a takeover at any moment, on replay, and from a checkpoint."""
    story = strict(**RULES)
    for step in told:
        take(story, step)
    check(story)
    assert to_bytes(fold(story.events)) == to_bytes(story.cluster)
    half = len(story.events) // 2
    again = fold(story.events[half:], from_bytes(to_bytes(fold(story.events[:half]))))
    assert to_bytes(again) == to_bytes(story.cluster)


def test_generated_logs(full: bool, evidence: Evidence) -> None:
    """More of them, and longer, than are worth shrinking."""
    logs, length = (3_000, 300) if full else (60, 150)
    found = takeovers = 0
    for seed in range(logs):
        rng, story = Random(seed), strict(**RULES)  # noqa: S311 - to be drawn again
        for _ in range(length):
            step = Step(
                rng.choice(KINDS),
                rng.choice(("ann", "ann", "bob")),
                rng.randrange(6),
                rng.randrange(6),
                rng.choice(PAUSES_S),
            )
            take(story, step)
            takeovers += step.what == "takeover"
        check(story)
        found += story.cluster.watch.findings
    assert found > logs
    evidence(
        "abuse",
        f"{logs} generated logs of {length} steps with {takeovers} takeovers: {found} findings, "
        "exactly those of a scan of all events",
    )
