"""The description of the API is whole and true: a generated client and a fuzzer can go by it."""

import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ledger.models import answered, standing
from ledger.testing.evidence import Evidence
from live import Live

from .test_permissions import ROUTES

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
CASES, CASES_FULL = 200, 5_000
"""Requests of each role, to all routes together."""

NOT_FROM_AN_ANSWER = {
    "/v1/agents/{node}/enrol",  # who enrols a node chooses its name
    "/v1/agents/{node}/output/{job}/{attempt}",  # told in an order, which has no place of its own
    "/v1/inner/{part}",  # a fixed choice
}

SYNC = "POST /v1/agents/{node}/sync"


@pytest.fixture(scope="module")
def world(service: Live) -> Live:
    """Jobs in several states, and a node that has nothing."""
    service.node("n1")
    operator, alice = service.operator, service.user("alice")
    operator.ok("POST", "/v1/nodes/n1/drain", {"reason": "r"})
    alice.submit(name="one", script="#!/bin/sh\n", begin_at="2090-01-01T00:00:00Z")
    alice.submit(array="0-2", depends=[{"kind": "afterok", "job": 1}])
    alice.ok("POST", "/v1/jobs/3/cancel", {"note": "so"})
    operator.ok("PATCH", "/v1/policy", {"max_jobs_per_user": 900})
    return service


@pytest.fixture(scope="module")
def document(world: Live) -> dict[str, Any]:
    found: dict[str, Any] = world.operator.ok("GET", "/v1/openapi.json")
    return found


def references(part: Any) -> set[str]:
    """Every `$ref` in a part of the document."""
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(value) for value in part.values()))
    if isinstance(part, list):
        return set().union(*(references(value) for value in part))
    return set()


def test_the_document_is_whole(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= schemas
    assert document["security"] == [{"token": []}]


def test_every_route_is_described(document: dict[str, Any]) -> None:
    told = {(m.upper(), path) for path, ops in document["paths"].items() for m in ops}
    assert told == set(ROUTES) - {("GET", "/v1/openapi.json")}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            problem = operation["responses"]["401"]["content"]["application/problem+json"]
            assert problem["schema"]["$ref"].endswith("/Problem")
            taken = [status for status in operation["responses"] if status[0] == "2"]
            assert taken, (method, path)
            for status in taken:
                assert operation["responses"][status].get("content"), (method, path)


def test_links_lead_to_operations_and_fill_their_paths(document: dict[str, Any]) -> None:
    paths = {
        operation["operationId"]: path
        for path, operations in document["paths"].items()
        for operation in operations.values()
    }
    led: set[str] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                for link in response.get("links", {}).values():
                    path = paths[link["operationId"]]
                    assert set(link["parameters"]) == set(re.findall(r"{(\w+)}", path))
                    led.add(path)
    assert led == {path for path in paths.values() if "{" in path} - NOT_FROM_AN_ANSWER


def test_answers_are_what_their_models_say(world: Live) -> None:
    operator = world.operator
    sample = {
        "/v1/jobs": answered.JobsOut,
        "/v1/jobs?scope=all": answered.JobsOut,
        "/v1/jobs/1": answered.JobDetailOut,
        "/v1/jobs/3": answered.JobDetailOut,
        "/v1/jobs/2_2": answered.JobDetailOut,
        "/v1/jobs/1/why": answered.WhyOut,
        "/v1/jobs/1/wait?timeout_s=0": answered.JobOut,
        "/v1/nodes": answered.NodesOut,
        "/v1/nodes/n1": answered.NodeOut,
        "/v1/policy": answered.PolicyOut,
        "/v1/tokens": answered.TokensOut,
        "/v1/impact": answered.ImpactOut,
        "/v1/usage?by=day,user": answered.UsageOut,
        "/v1/whoami": answered.WhoOut,
        "/v1/log/head": answered.HeadOut,
        "/v1/status": standing.StatusOut,
        "/v1/inner/queue": standing.InnerOut,
        "/v1/inner/log": standing.InnerOut,
        "/readyz": answered.ReadyOut,
    }
    for path, model in sample.items():
        told = operator.ok("GET", path)
        assert set(told) == set(model.model_fields), path
        assert model.model_validate(told).model_dump(mode="json") == told, path
    refused = operator("GET", "/v1/jobs/0").json()
    assert answered.Problem.model_validate(refused).model_dump(mode="json") == refused


@pytest.mark.parametrize("role", ["join", "user", "node", "operator"])
def test_whatever_is_sent_the_answer_is_as_described(
    world: Live, document: dict[str, Any], role: str, full: bool, evidence: Evidence
) -> None:
    http = world.user("n1" if role in ("node", "join") else "alice", role)
    headers = {"Authorization": f"Bearer {http.token}"}
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    each = -(-(CASES_FULL if full else CASES) // len(operations))
    for operation in operations:

        @seed(2)
        @settings(
            max_examples=each,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(), job=JOBS, node=NODES)
        def ask(case: Any, job: str, node: str) -> None:
            _near(case, job, node)
            answer = case.call(base_url=world.address, headers=headers, timeout=20)
            statuses[answer.status_code] += 1
            assert answer.status_code < 500 or answer.status_code == 503, answer.text
            case.validate_response(answer, checks=CHECKS)

        ask()
    assert sum(statuses.values()) >= CASES
    assert world.fatal == []
    assert world.operator.ok("GET", "/readyz")["ready"] is True
    shown = ", ".join(f"{n} x {status}" for status, n in sorted(statuses.items()))
    evidence(f"fuzzed API, {role}", f"{sum(statuses.values())} requests: {shown}")


JOBS = st.sampled_from(["", "1", "2", "3", "2_1"])
NODES = st.sampled_from(["", "n1"])


def _near(case: Any, job: str, node: str) -> None:
    """Ask of things that there are, more often than chance would, and never wait long."""
    path = case.path_parameters or {}
    if job and "job" in path:
        path["job"] = job
    if node and "node" in path:
        path["node"] = node
    query = case.query if case.query is not None else {}
    for name in ("follow", "wait_s", "timeout_s"):
        if name in query:
            query[name] = "false" if name == "follow" else 0
    if case.operation.path.endswith("/wait"):
        query["timeout_s"] = 0
    if case.operation.label == SYNC and isinstance(case.body, dict):
        case.body["wait_s"] = 0
    if case.headers:
        case.headers.pop("Accept", None)
