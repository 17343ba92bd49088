"""How a request can fail, as its client sees it.

ClientError
├── Refused         the service understood and said no
├── Unreachable     no answer: nothing is known of what the service did
└── NotUnderstood   an answer that is not jobledger's: another program listens there
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """A request failed: `sentence` says what happened, `hint` what to do, `request` names it."""

    def __init__(self, sentence: str, *, hint: str = "", request: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.hint, self.request = sentence, hint, request


class Refused(ClientError):
    """The service said no: `status` of HTTP, `code` for programs, `details` as facts.

    `retry_after` is the service's own advice in seconds, None if it gave none.
    """

    def __init__(
        self,
        sentence: str,
        *,
        status: int,
        code: str,
        hint: str = "",
        request: str = "",
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(sentence, hint=hint, request=request)
        self.status, self.code, self.retry_after = status, code, retry_after
        self.details = dict(details or {})


class Unreachable(ClientError):
    """No answer came. `patience`: seconds for which it is worth trying again."""

    def __init__(self, sentence: str, *, hint: str, request: str = "", patience: float) -> None:
        super().__init__(sentence, hint=hint, request=request)
        self.patience = patience


class NotUnderstood(ClientError):
    """An answer came that jobledger does not give."""
