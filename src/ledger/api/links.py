"""Which request can follow which: the links of the API's description (OpenAPI).

Clients may go by them, and a fuzzer does: it asks for what an answer spoke of.
"""

from typing import Any

OF_JOB = (
    "show_job",
    "why_job",
    "wait_job",
    "job_events",
    "job_output",
    "cancel",
    "hold",
    "release",
    "requeue",
    "change",
)
OF_NODE = ("show_node", "configure", "drain", "resume", "down", "retire")
PAST_OF_NODE = ("node_history", "node_jobs")
AGENTS = ("sync",)
OF_TOKEN = ("revoke",)
OF_OUTAGE = ("show_outage", "affected", "find_cause", "close_outage")
OF_CONTACT = ("show_contact", "set_contact", "try_contact", "remove_contact")
OF_PROJECTION = ("show_projection", "skip_projection")

ASKABLE = {"projection": "projections/0/projection", "query": "projections/0/queries/0/query"}

AFTER: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "submit": ({"job": "first_job"}, OF_JOB),
    "list_jobs": ({"job": "jobs/0/job"}, OF_JOB),
    **dict.fromkeys(OF_JOB[5:], ({"job": "job"}, ("show_job", "cancel"))),
    "list_nodes": ({"node": "nodes/0/node"}, (*OF_NODE, *PAST_OF_NODE, *AGENTS)),
    "enrol": ({"node": "node"}, ("show_node", "drain", "retire", *AGENTS)),
    **dict.fromkeys(OF_NODE[1:], ({"node": "node"}, ("show_node",))),
    "issue": ({"token": "token"}, OF_TOKEN),
    "tokens": ({"token": "tokens/0/token"}, OF_TOKEN),
    "list_abuse": ({"finding": "findings/0/finding"}, ("show_finding", "answer_finding")),
    "open_outage": ({"outage": "outage"}, OF_OUTAGE),
    "list_outages": ({"outage": "outages/0/outage"}, OF_OUTAGE),
    "list_contacts": ({"owner": "contacts/0/owner"}, OF_CONTACT),
    "list_notices": ({"notice": "notices/0/notice"}, ("show_notice",)),
    "askable": (ASKABLE, ("ask",)),
    "list_projections": ({"projection": "projections/0/projection"}, OF_PROJECTION),
}
"""By operation: the path parameters that its answers give, where each stands in them, and what can
be asked with them."""


def link(operation: dict[str, Any]) -> None:
    """Add to an operation's good answers what can be asked next."""
    if (found := AFTER.get(operation["operationId"])) is None:
        return
    pointers, following = found
    links = {
        operation_id: {
            "operationId": operation_id,
            "parameters": {name: f"$response.body#/{at}" for name, at in pointers.items()},
        }
        for operation_id in following
    }
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            response["links"] = links
