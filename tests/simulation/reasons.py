"""Why a job waits, told from the state without the code that chooses the word."""

from ledger.domain.explain import REASONS, Heads, why
from ledger.domain.state import Cluster
from ledger.testing.simulation.witness import demand


def check_reasons(c: Cluster) -> None:
    """I15: every waiting job has one reason, the same to whoever asks, and it is true."""
    heads = Heads(c, c.at)
    for job in c.jobs.values():
        if job.attempt is None:
            token = why(c, job.id, c.at).reason
            same = token in REASONS and heads.reason(job) == token
            demand(same and is_true(c, job.id, token), f"I15: {token} is not why {job} waits")


def is_true(c: Cluster, job_id: int, token: str) -> bool:
    """Is this why the job waits?"""
    job = c.jobs[job_id]
    suited = [n for n in c.nodes.values() if n.name not in job.spec.exclude]
    others = [n for n in suited if n.name not in job.avoid]
    suited = others if len(others) >= job.spec.nodes else suited
    serving = [n for n in suited if n.health == "ok" and not n.drain]
    idle = [n for n in serving if not n.attempts]
    ahead = [
        other
        for other in c.jobs.values()
        if other.id < job_id and other.attempt is None and other.hold is None
    ]
    return {
        "JobHeldUser": job.hold == "user",
        "JobHeldAdmin": job.hold == "admin",
        "JobHeldSystem": job.hold == "system",
        "ReqNodeNotAvail": len(serving) < job.spec.nodes,
        "Resources": len(idle) < job.spec.nodes <= len(serving),
        "Priority": bool(ahead) and len(serving) >= job.spec.nodes,
        "None": len(idle) >= job.spec.nodes,
    }[token]
