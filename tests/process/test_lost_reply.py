"""The database commits, and its answer is lost on the way: clients get the truth, or doubt."""

from collections.abc import Iterator

import pytest

from ledger.events import JobsSubmitted
from ledger.testing.evidence import Evidence
from proxy import Fault, Proxy

from .harness import NO_ANSWER, Answer, Site, site
from .processes import Zygote

FAILED = 70
JOB = [{"argv": ["true"], "held": True}]


@pytest.fixture
def proxy(pg_url: str) -> Iterator[Proxy]:
    """What stands between the master and PostgreSQL."""
    made = Proxy(pg_url)
    yield made
    made.close()


@pytest.fixture
def served(zygote: Zygote, proxy: Proxy) -> Iterator[Site]:
    """A service behind the proxy, with a node, so that jobs are possible."""
    with site(zygote, proxy.url) as made:
        made.start()
        made.web().json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}})
        yield made


def queued(where: Site, url: str) -> list[int]:
    """The jobs that the log holds under the key."""
    where.database_url = url
    found = [r.event for r in where.events() if isinstance(r.event, JobsSubmitted)]
    return [event.first_job for event in found if event.key == "k"]


def submitted(where: Site) -> Answer | None:
    """The answer to the request; None if the connection ended without one."""
    try:
        return where.web(timeout_s=30).ask("POST", "/v1/jobs", JOB, "k")
    except NO_ANSWER:
        return None


@pytest.mark.fault("A3")
def test_the_answer_to_commit_is_lost_and_the_client_is_told_the_truth(
    served: Site, proxy: Proxy, pg_url: str, evidence: Evidence
) -> None:
    proxy.fault = "reply"
    answer = submitted(served)
    assert proxy.fired == 1
    assert answer is not None
    assert answer.status == 201
    again = served.web().ask("POST", "/v1/jobs", JOB, "k")
    assert (again.status, again.json()["repeated"]) == (200, True)
    assert queued(served, pg_url) == [answer.json()["first_job"]]
    assert served.master is not None
    assert served.master.status is None
    evidence("reply to COMMIT lost (PostgreSQL)", "acknowledged, in the log once")


@pytest.mark.fault("A3")
@pytest.mark.parametrize(("fault", "kept"), [("reply", True), ("request", False)])
def test_what_cannot_be_found_out_is_told_as_doubt_and_the_key_brings_the_truth(
    served: Site, proxy: Proxy, pg_url: str, fault: str, kept: bool, evidence: Evidence
) -> None:
    proxy.fault = "reply" if fault == "reply" else "request"
    proxy.then_refuse = fault == "reply"
    answer = submitted(served)
    assert proxy.fired == 1
    assert answer is None or (answer.status, answer.json()["code"]) == (503, "outcome_unknown")
    assert served.master is not None
    assert served.master.ends(20) == FAILED
    assert len(queued(served, pg_url)) == kept
    served.age_leadership()
    served.start()  # past the proxy: `queued` has set the URL of the database itself
    again = served.web().ask("POST", "/v1/jobs", JOB, "k")
    assert again.status == (200 if kept else 201)
    assert queued(served, pg_url) == [again.json()["first_job"]]
    told = "no answer" if answer is None else "outcome_unknown"
    evidence(
        f"{fault} of COMMIT lost, outcome not to be found (PostgreSQL)",
        f"{told}; after the repeat in the log once",
    )


@pytest.mark.full
@pytest.mark.fault("A3")
@pytest.mark.parametrize("at", [b"LOCK TABLE", b"INSERT INTO"])
@pytest.mark.parametrize("fault", ["request", "reply"])
def test_the_connection_is_cut_at_any_statement_of_a_commit(
    served: Site, proxy: Proxy, pg_url: str, at: bytes, fault: Fault, evidence: Evidence
) -> None:
    proxy.at, proxy.fault = at, fault
    answer = submitted(served)
    assert proxy.fired == 1
    assert answer is None or answer.status in (201, 503)
    master = served.master
    assert master is not None
    if answer is None or not answer.good:
        assert master.ends(20) == FAILED
        served.age_leadership()
        served.start()
    again = served.web().ask("POST", "/v1/jobs", JOB, "k")
    assert again.status == (200 if answer is not None and answer.good else 201)
    assert queued(served, pg_url) == [again.json()["first_job"]]
    told = "no answer" if answer is None else answer.status
    evidence(f"{fault} of {at.decode()} lost (PostgreSQL)", f"{told}; after the repeat once")
