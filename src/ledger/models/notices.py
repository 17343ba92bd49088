"""What `/v1` is told and tells of how people are told: contacts and notices."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from ledger.models.answered import Answer
from ledger.models.asked import Body, Flag, one_line
from ledger.models.outages import NoticeOut

Address = Annotated[
    str,
    StringConstraints(min_length=3, max_length=1_000),
    AfterValidator(one_line),
    Field(json_schema_extra={"pattern": "^[!-~]+$"}),
]


class ContactIn(Body):
    """How somebody is told: mail addresses, and URLs of apprise."""

    addresses: Annotated[tuple[Address, ...], Field(min_length=1, max_length=5)]
    desk: Flag = False


class ChannelOut(Answer):
    """One way to tell somebody, as much of it as is shown to anybody: its scheme, and its host
    where that is no secret. `problem` says why nothing can go out over it at this time."""

    scheme: str
    host: str
    problem: str


class ContactOut(Answer):
    """How a user or a desk is told. `by_default`: nobody has said so, and he gets mail at the
    site's own domain."""

    owner: str
    desk: bool
    by_default: bool
    channels: list[ChannelOut]
    position: int


class ContactsOut(Answer):
    """The contacts that one may see, desks first."""

    contacts: list[ContactOut]
    position: int


class TriedOut(Answer):
    """What came of a test message: `problem` is empty where the channel took it."""

    channels: list[ChannelOut]


class NoticeRowOut(NoticeOut):
    """A notice with the outage that it is about."""

    outage: int


class NoticesOut(Answer):
    """Notices, the latest first; `next` is the cursor of the next page."""

    notices: list[NoticeRowOut]
    next: int | None
    position: int


class LetterOut(Answer):
    """The exact text of a notice, as it would be sent now, and over which channels."""

    to: str
    desk: bool
    channels: list[ChannelOut]
    title: str
    body: str
    position: int


class NoticeDetailOut(NoticeRowOut):
    """A notice, and while it waits what it would say if it were sent now; else null."""

    letter: LetterOut | None
    position: int
