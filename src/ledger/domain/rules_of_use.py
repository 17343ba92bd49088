"""The policy in words: what each field means, what a finding says, how one stays within a rule."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from ledger.events import AbuseRule, AttemptEnded, Event, JobsSubmitted

WORDS: dict[str, str] = {
    "job_lease_s": "An agent out of contact this long stops its restartable attempts.",
    "lease_margin_s": "The master waits this much longer before it places them again.",
    "lost_after_s": "Out of contact this long, an attempt that may not be restarted is given up.",
    "kill_grace_s": "A job that is to stop gets TERM, and KILL this much later.",
    "max_jobs_per_user": "A user may have this many jobs that have not ended.",
    "max_time_limit_s": "The longest time limit that a job may ask for.",
    "output_head_bytes": "So much is kept of the beginning of what an attempt prints.",
    "output_tail_bytes": "So much is kept of the end of what an attempt prints.",
    "abuse_submissions_per_min": (
        "More submissions of one user in a minute are noticed as abuse; an array, or many jobs in "
        "one request, count as one. 0: none are."
    ),
    "abuse_fail_percent": (
        "This share of a user's attempts that ended within an hour, or more, failing at once is "
        "noticed as abuse. 0: none is."
    ),
    "abuse_fail_jobs": "The share of failing attempts counts from this many attempts on.",
    "abuse_fail_within_s": "An attempt that failed in less time has failed at once.",
    "abuse_idle_node_s": (
        "More node time held idle by one user within 12 hours is noticed as abuse. 0: none is."
    ),
    "abuse_idle_percent": (
        "An attempt that used less of one processor than this holds its nodes idle; measured is "
        "its leading node, when it has ended."
    ),
    "outage_window_s": (
        "Nodes of one rack, switch or power feed (where none is known, of one pool) that are lost "
        "within it of one another are one outage."
    ),
    "absence_s": "A master that was away for longer is an outage.",
    "notify": "1: people are told of outages; 0: nobody is.",
    "notice_delay_s": (
        "So long after an outage has last grown those whom it hit are told; if it goes on growing, "
        "after five times that."
    ),
    "notice_jobs": "So many jobs are named in one notice; it says how many others there are.",
}
"""What each field of the policy means, in a sentence for users."""


class Told(Protocol):
    """What there is to say about a finding: see `events.AbuseFound`."""

    rule: AbuseRule
    user: str
    found: int
    limit: int
    count: int
    of: int
    terms: dict[str, int]


def sentence(f: Told) -> str:
    """What a finding says."""
    if f.rule == "submissions":
        what = f"{f.user} made {f.count} submissions within a minute"
        allowed = str(f.limit)
    elif f.rule == "failing":
        within = f.terms.get("abuse_fail_within_s", 0)
        what = (
            f"Of {f.of} attempts of {f.user} that ended within an hour, {f.count} ({f.found} %) "
            f"failed in less than {within} s"
        )
        allowed = f"less than {f.limit} %"
    else:
        percent = f.terms.get("abuse_idle_percent", 0)
        attempts = "1 attempt" if f.count == 1 else f"{f.count} attempts"
        what = (
            f"{f.user} held nodes idle for {_node_time(f.found)} within 12 hours, in {attempts} "
            f"that used less than {percent} % of one processor"
        )
        allowed = _node_time(f.limit)
    return f"{what}; the rules of use allow {allowed}."


def _node_time(seconds: int) -> str:
    return f"{seconds / 3600:.1f} node-hours" if seconds >= 3600 else f"{seconds} node-seconds"


ADVICE: dict[AbuseRule, tuple[str, ...]] = {
    "submissions": (
        "Submit many jobs at once, as an array (`jobledger submit --array 0-999 …`) or a file of "
        "jobs (`--jsonl`): each counts as one submission.",
        "A program that waits for a job need not submit again: `jobledger wait JOB`.",
    ),
    "failing": (
        "Try one job before submitting many: `jobledger run -- COMMAND`.",
        "`jobledger show JOB` and `jobledger output JOB` say why one failed; `jobledger cancel` "
        "ends those that would fail as well.",
    ),
    "idle": (
        "End a job when its work is done (`jobledger cancel JOB`), and ask for no more nodes and "
        "time than it needs.",
        "Processor time is measured on the leading node of a job only: tell the operators if the "
        "work is done elsewhere, on other nodes or on a GPU.",
    ),
}
"""How to stay within each rule."""


def advice(rule: AbuseRule, evidence: Sequence[Event]) -> Iterator[str]:
    """How to stay within a rule; first, whether it may be somebody else's fault."""
    ends = [e for e in evidence if isinstance(e, AttemptEnded)]
    leaders = {e.nodes[0] for e in ends if e.nodes}
    if rule == "failing" and len(leaders) == 1 and len(ends) > 1:
        (node,) = leaders
        yield f"All of these ran on {node}: see first whether that node is at fault."
    yield from ADVICE[rule]


def proof(e: Event) -> str:
    """An event that a finding rests on, in words."""
    if isinstance(e, JobsSubmitted):
        last = e.first_job + e.count - 1
        if e.count == 1:
            return f"submitted job {e.first_job}"
        what = "an array of" if e.array else "together"
        return f"submitted {what} {e.count} jobs, {e.first_job} to {last}"
    assert isinstance(e, AttemptEnded)
    nodes = ",".join(e.nodes[:3]) + (", …" if len(e.nodes) > 3 else "")
    how = f"{e.outcome} ({e.cause})"
    if e.exit_code is not None:
        how = f"{e.outcome} (exit code {e.exit_code})"
    elif e.signal is not None:
        how = f"{e.outcome} (signal {e.signal})"
    used = "" if e.cpu_us is None else f", used {e.cpu_us / 1e6:,.2f} s of processor time"
    return f"attempt {e.attempt} on {nodes} ran {e.ran_us / 1e6:,.2f} s{used}: {how}"
