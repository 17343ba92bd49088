"""What may be sent to `/v1`, and within which bounds.

Strict: an unknown field is refused, text has no control characters, and everything has a size.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, StringConstraints

from ledger.events import DependencyKind

_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_FORBIDDEN = re.compile(f"[{_CONTROLS}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(value: str) -> str:
    """Text of several lines: no control characters but tab and newline, no bidi overrides."""
    if _FORBIDDEN.search(value):
        raise ValueError("has a control or a direction-changing character")
    if _SURROGATE.search(value):
        raise ValueError("has a lone surrogate, which is not text")
    return value


def one_line(value: str) -> str:
    """Text of one line, without tabs."""
    if "\n" in value or "\t" in value or "\r" in value:
        raise ValueError("must be one line, without tabs")
    return _text(value)


NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_])?$"
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=64)]
OptionalName = Annotated[str, StringConstraints(pattern=f"^$|{NAME}", max_length=64)]
_IS_TEXT = Field(json_schema_extra={"pattern": f"^[^{_CONTROLS}]*$"})
_IS_LINE = Field(json_schema_extra={"pattern": rf"^[^\t\n\r{_CONTROLS}]*$"})
Line = Annotated[str, StringConstraints(max_length=200), AfterValidator(one_line), _IS_LINE]
Text = Annotated[str, StringConstraints(max_length=4_000), AfterValidator(_text), _IS_TEXT]
Argument = Annotated[str, StringConstraints(max_length=32_768), AfterValidator(_text), _IS_TEXT]
Script = Annotated[str, StringConstraints(max_length=512 * 1024), AfterValidator(_text), _IS_TEXT]
Path = Annotated[
    str, StringConstraints(max_length=1_024, pattern=r"^$|^/"), AfterValidator(one_line)
]
JobId = Annotated[int, Field(ge=1, le=2**53, strict=True)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Names = Annotated[tuple[Name, ...], Field(max_length=1_000), FailFast()]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


class DependencyIn(Body):
    """Wait for the end of another job."""

    kind: DependencyKind
    job: JobId


class JobIn(Body):
    """A job to be queued: either `argv`, or a `script` whose arguments are `argv`.

    `array` (such as `0-9`) makes it one job for each index. `begin_at`: not before. `key` is not
    here: it is the header `Idempotency-Key`.
    """

    name: Line = ""
    argv: Annotated[tuple[Argument, ...], Field(max_length=1_000), FailFast()] = ()
    script: Script = ""
    account: OptionalName = ""
    pool: Name = "default"
    qos: OptionalName = ""
    nodes: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 1
    time_limit_s: Annotated[int, Field(ge=1, le=10**9, strict=True)] = 3600
    restartable: Flag = False
    features: Annotated[tuple[Name, ...], Field(max_length=32), FailFast()] = ()
    exclude: Names = ()
    depends: Annotated[tuple[DependencyIn, ...], Field(max_length=100), FailFast()] = ()
    begin_at: datetime | None = None
    held: Flag = False
    workdir: Path = ""
    output_path: Path = ""
    comment: Text = ""
    array: Annotated[str, StringConstraints(max_length=1_000, pattern=r"^[0-9,:-]*$")] = ""


class NoteIn(Body):
    """Why, in one's own words."""

    note: Text = ""


class ChangeIn(Body):
    """What to change about a live job."""

    restartable: Flag | None = None
    time_limit_s: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = None
    note: Text = ""


class ReasonIn(Body):
    """Why, in one line: it is shown beside the node."""

    reason: Line = ""


class ConfigureIn(Body):
    """Where a node stands and what kind it is; absent fields stay."""

    pool: Name | None = None
    serial: Line | None = None
    rack: Line | None = None
    switch: Line | None = None
    power: Line | None = None
    features: Annotated[tuple[Name, ...], Field(max_length=32)] | None = None


class TokenIn(Body):
    """A token to be made. `ttl_s` 0: it does not expire (operators only)."""

    owner: Name
    role: Literal["user", "operator", "node", "join"] = "user"
    ttl_s: Annotated[int, Field(ge=0, le=10 * 366 * 86_400, strict=True)] = 30 * 86_400
    note: Line = ""


class PolicyIn(Body):
    """The fields of the policy to change; see docs/reference/events.md, PolicySet."""

    job_lease_s: Whole | None = None
    lease_margin_s: Whole | None = None
    lost_after_s: Whole | None = None
    kill_grace_s: Whole | None = None
    max_jobs_per_user: Whole | None = None
    max_time_limit_s: Whole | None = None
    output_head_bytes: Whole | None = None
    output_tail_bytes: Whole | None = None
    abuse_submissions_per_min: Whole | None = None
    abuse_fail_within_s: Whole | None = None
    abuse_fail_percent: Whole | None = None
    abuse_fail_jobs: Whole | None = None
    abuse_idle_node_s: Whole | None = None
    abuse_idle_percent: Whole | None = None
    outage_window_s: Whole | None = None
    absence_s: Whole | None = None
    notify: Whole | None = None
    notice_delay_s: Whole | None = None
    notice_jobs: Whole | None = None
