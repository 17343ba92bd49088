"""The description of the API is whole and true: a generated client and a fuzzer can go by it.

`process/test_own_programs.py` has the one, `process/test_fuzz.py` the other.
"""

import re
from typing import Any

import pytest
import schemathesis
from pydantic import BaseModel

from ledger.models import (
    abuse,
    answered,
    demanded,
    outages,
    policies,
    projections,
    questions,
    standing,
)
from live import Live

from .test_permissions import ROUTES, abused

NOT_FROM_AN_ANSWER = {
    "/v1/agents/{node}/enrol",  # who enrols a node chooses its name
    "/v1/agents/{node}/output/{job}/{attempt}",  # told in an order, which has no place of its own
    "/v1/inner/{part}",  # a fixed choice
}


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
    assert abused(service, "bob", "default") == 1
    outage = {"nodes": ["n1"], "since": "2023-01-01T00:00:00Z", "reason": "r"}
    assert operator("POST", "/v1/outages", outage).json()["outage"] == 1
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
    sample: dict[str, type[BaseModel]] = {
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
        "/v1/policy/history": policies.PolicyHistoryOut,
        "/v1/tokens": answered.TokensOut,
        "/v1/impact": answered.ImpactOut,
        "/v1/usage?by=day,user": answered.UsageOut,
        "/v1/abuse": abuse.FindingsOut,
        "/v1/abuse/1": abuse.FindingDetailOut,
        "/v1/queue": demanded.QueueOut,
        "/v1/demand?by=day,pool": demanded.DemandOut,
        "/v1/ask": questions.AskablesOut,
        "/v1/ask/jobs/show_job?job=3": questions.AskedOut,
        "/v1/outages": outages.OutagesOut,
        "/v1/outages/1": outages.OutageDetailOut,
        "/v1/outages/1/affected": outages.AffectedOut,
        "/v1/whoami": answered.WhoOut,
        "/v1/log/head": answered.HeadOut,
        "/v1/status": standing.StatusOut,
        "/v1/projections": projections.ProjectionsOut,
        "/v1/projections/jobs": projections.ProjectionDetailOut,
        "/v1/inner/queue": standing.InnerOut,
        "/v1/inner/log": standing.InnerOut,
        "/readyz": standing.ReadyOut,
    }
    for path, model in sample.items():
        told = operator.ok("GET", path)
        assert set(told) == set(model.model_fields), path
        assert model.model_validate(told).model_dump(mode="json") == told, path
    refused = operator("GET", "/v1/jobs/0").json()
    assert answered.Problem.model_validate(refused).model_dump(mode="json") == refused
