"""What the tests with agents and jobs share: nodes, what agents say, what is waited for."""

from concurrent.futures import Future
from typing import Any

from live import Http, Live, until


def cluster(service: Live) -> Live:
    """A pool `still` whose node is drained, a pool `busy` with one node that takes jobs."""
    service.node("s1", pool="still")
    service.operator.ok("POST", "/v1/nodes/s1/drain", {})
    service.agent = service.node("b1", pool="busy")  # type: ignore[attr-defined]
    return service


def agent_of(world: Live) -> Http:
    """The agent of the node that works."""
    found: Http = world.agent  # type: ignore[attr-defined]
    return found


def started(seq: int, job: int, attempt: int = 1) -> dict[str, Any]:
    """An agent's report of a start."""
    return {"seq": seq, "kind": "started", "job": job, "attempt": attempt}


def ended(seq: int, job: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """An agent's report of an end."""
    return {
        "seq": seq,
        "kind": "ended",
        "job": job,
        "attempt": attempt,
        "end": "completed",
        "cause": "exit",
        "exit_code": 0,
        **more,
    }


def placed(world: Live, job: int, attempt: int = 1) -> tuple[str, ...]:
    """Wait for an attempt of a job; its nodes."""

    def look() -> tuple[str, ...]:
        def nodes(c: Any) -> tuple[str, ...]:
            known = c.jobs[job]
            return known.attempt.nodes if known.attempt and known.attempts == attempt else ()

        return world.state(nodes)

    return until(look, f"attempt {attempt} of job {job}")


def has(job: int, phase: str, attempt: int = 1) -> dict[str, Any]:
    """An attempt as an agent says that it has it."""
    return {"job": job, "attempt": attempt, "phase": phase}


def orders(answer: Any) -> list[dict[str, Any]]:
    """The orders in a reply."""
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json().get("orders", [])
    return found


def health(s: Live, node: str) -> str:
    """A node's state."""
    return s.state(lambda c: c.nodes[node].state)


def outcome(s: Live, job: int) -> str:
    """How a job has ended; empty while it lives."""
    return s.state(lambda c: c.outcome(job)) or ""


def waiting(s: Live, agent: Http, node: str, **said: Any) -> "Future[Any]":
    """An agent's long poll, once the master has heard it."""
    before = s.running.contacts._heard[node].sent_ns
    asked = s.beside(agent.sync, node, wait_s=20, **said)
    until(lambda: s.running.contacts._heard[node].sent_ns > before, "the poll is heard")
    return asked


def silent(s: Live, speaking: dict[str, Http], seconds: float = 320) -> None:
    """Let the lease of all nodes pass but of those that go on speaking."""
    for _ in range(4):
        s.clock.advance(seconds / 4)
        for name, agent in speaking.items():
            holds = s.state(lambda c, n=name: sorted(c.nodes[n].attempts))  # type: ignore[misc]
            assert agent.sync(name, has=[has(j, "running", n) for j, n in holds]).is_success
