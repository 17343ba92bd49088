"""A fuzzer that goes by the service's own description: schemathesis, and what it has to know."""

import copy
import random
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

PHASES = ("examples", "coverage", "fuzzing", "stateful")
UNSAYABLE = (
    "demand",  # times, time zones
    "ask",  # each query has parameters of its own
    "change",  # 60.0 is an integer to the schema, and refused here, as in all that follow
    "close_outage",  # times
    "enrol",  # names among the features
    "set_contact",  # addresses that apprise understands, schemes that are allowed
    "find_cause",  # words, not blanks
    "impact",  # sets of nodes, times
    "issue",  # who may have a token without end
    "list_jobs",  # times
    "list_outages",  # times
    "node_failures",  # times, as in the two that follow
    "node_history",
    "node_jobs",
    "open_outage",  # times, and how they follow one another
    "set_policy",  # what a policy may be depends on the whole of it
    "skip_projection",  # words, not blanks
    "submit",  # an argv or a script; ranges of indices; a time with its zone; other jobs
    "usage",  # times, time zones
    "sync",  # how long and how plain a line is, how large a number; which protocol (426)
)
"""Operations that refuse (422) more than a schema can say. All others take what it allows."""

CHECKS: dict[str, Any] = {
    "max_response_time": 10.0,
    # Users see others' jobs: the table of permissions has its own tests, cell by cell.
    "object_level_authorization": {"enabled": False},
    # No header is required but the credential, which `ignored_auth` looks after.
    "missing_required_header": {"enabled": False},
}
"""All the checks there are, but for these."""

ACCEPTED = ["2xx", "401", "403", "404", "409", "422", "426"]
KNOWN = re.compile(r"^[0-9]{1,15}(_[0-9]{1,15})?$|^[A-Za-z0-9][A-Za-z0-9._-]*$")
TRUE = {"true", "1", "yes", "on", "t", "y"}


@dataclass
class Found:
    """What came of it: answers by status, what was wrong by check, operation and first words."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return self.statuses.total()

    def add(self, other: "Found") -> None:
        """Both together."""
        self.statuses += other.statuses
        self.wrong |= other.wrong

    def take(self, event: events.EngineEvent) -> None:
        """Note what an event of the engine tells."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.wrong[f"engine: {getattr(event, 'label', '')}"] = repr(
                getattr(event, "value", None) or getattr(event, "exception", None)
            )
        if not isinstance(event, events.ScenarioFinished):
            return
        for case in event.recorder.interactions.values():
            if case.response is None:
                self.wrong[f"no answer: {case.request.method} {case.request.uri}"] = ""
            else:
                self.statuses[case.response.status_code] += 1
        for checks in event.recorder.checks.values():
            for check in checks:
                if (info := check.failure_info) is not None:
                    what = f"{check.name}: {info.failure.operation}"
                    self.wrong[what] = f"{info.failure.message[:400]} {info.code_sample[:600]}"


@dataclass
class Aim:
    """What is there to be asked for, more often than chance would: nodes and jobs by name. `own`
    is the id of the token that is asked with, which must not be revoked half-way."""

    nodes: list[str]
    jobs: list[str]
    own: str
    draw: random.Random

    def before_call(self, context: Any, case: Any, kwargs: Any) -> None:
        """Ask for what there is, never wait long, nor for what the log does not have yet."""
        self._named(case)
        path, query = case.operation.path, case.query
        if path.endswith(("/wait", "/output")):
            _shorten(query, "timeout_s" if path.endswith("/wait") else "wait_s")
        if path.endswith("/sync") and isinstance(case.body, dict):
            _shorten(case.body, "wait_s")
        if str(query.get("follow", "")).lower() in TRUE:
            query["follow"] = "false"
        if str(query.get("at_least", "")).isdigit():
            query["at_least"] = "1"
        _look_back(query)
        case.headers.pop("Accept", None)

    def _named(self, case: Any) -> None:
        names = case.path_parameters
        if names.get("token") == self.own:
            names["token"] = "unknown"  # noqa: S105 - the name of a token, no secret
        if case.meta is None or case.meta.phase.name == "stateful" or self.draw.random() < 0.3:
            return
        for parameter, known in (("node", self.nodes), ("job", self.jobs)):
            if KNOWN.match(str(names.get(parameter, ""))):
                names[parameter] = self.draw.choice(known)


def _look_back(query: dict[str, Any]) -> None:
    """Into a past that there is, where any would be taken; not into two at once."""
    at, position = query.get("at"), query.get("at_position")
    if isinstance(at, str) and 0 < len(at) <= 40:
        query["at"] = "2001-01-01T00:00:00Z"
    if isinstance(position, str) and position.isdigit() and len(position) <= 15:
        query["at_position"] = "" if query.get("at") else "1"


def _shorten(holder: Any, name: str) -> None:
    """No time to wait, in place of one that would be taken, or of none."""
    wait = holder.get(name, 60)
    if isinstance(wait, int | float | str) and not isinstance(wait, bool):
        try:
            if 0 <= float(wait) <= 3600:
                holder[name] = 0
        except ValueError:
            return


@contextmanager
def aimed(aim: Aim) -> Iterator[None]:
    """Have every request pass `aim`."""

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        aim.before_call(context, case, kwargs)

    schemathesis.hook(before_call)
    try:
        yield
    finally:
        schemathesis.hooks.unregister(before_call)


def configured(address: str, token: str, examples: int, phases: tuple[str, ...]) -> Any:
    """How schemathesis is to go about it."""
    return SchemathesisConfig.from_dict(
        {
            "seed": 7,
            "base-url": address,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "continue-on-failure": True,
            "workers": 1,
            "request-timeout": 30,
            "cache": {"enabled": False},
            "generation": {"database": "none", "no-shrink": True, "max-examples": examples},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "checks": CHECKS,
            "operations": [
                {
                    "include-operation-id": list(UNSAYABLE),
                    "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
                }
            ],
        }
    )


def only(document: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """A description of these paths alone, with all their methods; they lead nowhere."""
    made: dict[str, Any] = {**document, "paths": {}}
    for path in paths:
        methods = made["paths"][path] = copy.deepcopy(document["paths"][path])
        for operation in methods.values():
            for response in operation["responses"].values():
                response.pop("links", None)
    return made


def fuzz(
    address: str,
    document: dict[str, Any],
    token: str,
    aim: Aim,
    *,
    examples: int,
    paths: list[str] | None = None,
    phases: tuple[str, ...] = PHASES,
) -> Found:
    """Send what schemathesis thinks of, as the holder of `token`; "" has none.

    With `paths`, to these alone.
    """
    config = configured(address, token, examples, phases)
    if paths is not None:
        document = only(document, paths)
    schema = schemathesis.openapi.from_dict(document, config=config)
    found = Found()
    with aimed(aim):
        for event in from_schema(schema).execute():
            found.take(event)
    return found
