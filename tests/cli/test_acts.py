"""Acting on several jobs or nodes: what is sent, and what is said of each."""

import pytest

from .conftest import Call, Service


def test_each_job_is_acted_on(service: Service, call: Call) -> None:
    service.refuse("POST", "/v1/jobs/17/cancel", 409, "job_ended")
    answer = {"job": 18, "state": "cancelled", "position": 9}
    service.say("POST", "/v1/jobs/18/cancel", answer)
    done = call("cancel", "17", "18", "-m", "enough")
    assert (done.status, done.out) == (1, "")
    assert "Job 18 is cancelled." in done.err
    assert service.body == {"note": "enough"}


@pytest.mark.parametrize(
    ("act", "state", "changed", "said"),
    [
        ("cancel", "cancelled", True, "is cancelled"),
        ("cancel", "running", True, "is told to stop"),
        ("cancel", "running", False, "is told to stop already"),
        ("hold", "pending", True, "is held"),
        ("hold", "pending", False, "is held already"),
        ("release", "pending", True, "is released"),
        ("release", "running", False, "was not held"),
        ("requeue", "running", True, "is told to stop, and waits again then"),
        ("requeue", "pending", False, "waits again already"),
    ],
)
def test_what_was_done_is_said(
    service: Service, call: Call, act: str, state: str, changed: bool, said: str
) -> None:
    answer = {"job": 17, "state": state, "changed": changed, "position": 9}
    service.say("POST", f"/v1/jobs/17/{act}", answer)
    assert call(act, "17").err == f"Job 17 {said}.\n"


def test_a_task_that_was_named_by_its_number_alone_is_told_as_one(
    service: Service, call: Call
) -> None:
    answer = {"job": 17, "array": "17_0", "state": "cancelled", "position": 9}
    for name in ("17", "17_0"):
        service.say("POST", f"/v1/jobs/{name}/cancel", answer)
    assert call("cancel", "17", "17_0").err == (
        "Job 17 (17_0, one task of an array) is cancelled.\nJob 17_0 is cancelled.\n"
    )


def test_tasks_are_named_by_ranges(service: Service, call: Call) -> None:
    for name in ("17_0", "17_3", "18"):
        answer = {"job": 17, "state": "cancelled", "position": 9}
        service.say("POST", f"/v1/jobs/{name}/cancel", answer)
    done = call("cancel", "17_[0-3:3]", "18", "17_3")
    assert (done.status, len(service.requests)) == (0, 3)


def test_nodes_are_named_by_ranges(service: Service, call: Call) -> None:
    for name in ("n1", "n2"):
        answer = {"node": name, "state": "drained", "position": 9}
        service.say("POST", f"/v1/nodes/{name}/drain", answer)
    done = call("node", "drain", "n[1-2]", "--reason", "disk")
    assert (done.status, len(service.requests)) == (0, 2)
    assert service.body == {"reason": "disk"}
