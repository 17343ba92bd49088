"""A client's connection, with an end to every wait: no client holds one for as long as it likes.

uvicorn waits for ever for the head of a request, keeps all of it however long it grows, and waits for
ever for a client that reads nothing. Here each has a limit; a request's body has its own in `bodies`.
"""  # noqa: E501

import asyncio
import secrets
from typing import Any

import msgspec

from ledger.api.auth import PeerProtocol
from ledger.api.problems import PROBLEM_JSON, described
from ledger.domain.errors import HeadTooLarge, NotHttp, Refusal, TooSlow

HEAD_BYTES = 64 << 10
"""Of a request line and headers; what one read brings at once may go beyond it."""

HEAD_S = 10.0
"""From the connection, or a head's first byte, to its last."""

DRAIN_S = 10.0
"""For which the rest of what is refused is read: where a connection is closed on bytes that nobody
has read, the client's machine is told of a failure, and may drop the answer that it has got."""

STALLED_S = 15.0
"""For which an answer waits for a client that takes nothing of it."""


class Connection(PeerProtocol):
    """uvicorn's protocol with limits on heads, on bodies that nobody wants, and on deaf clients."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head, self._head_bytes, self._whole = True, 0, True
        self._refused = False
        self._waits: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: Any) -> None:
        """From now on a head is due."""
        super().connection_made(transport)
        self._await("head", HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        for what in tuple(self._waits):
            self._done(what)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on, and count what comes of a head."""
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(HeadTooLarge(f"The head has more than {HEAD_BYTES} bytes."))

    def on_message_begin(self) -> None:
        """The first byte of a head came."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._whole = True, 0, False
        if self._idle():
            self._await("head", HEAD_S)

    def on_headers_complete(self) -> None:
        """A head is there."""
        self._in_head = False
        self._done("head")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """A request is there."""
        self._whole = True
        self._done("body")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is out: what is left of its request is read for a while."""
        super().on_response_complete()
        if not self._whole and not self.transport.is_closing():
            self._await("head" if self._in_head else "body", DRAIN_S)

    def pause_writing(self) -> None:
        """The client takes nothing of what we have for it."""
        super().pause_writing()
        self._await("reader", STALLED_S)

    def resume_writing(self) -> None:
        """It does again."""
        self._done("reader")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is not HTTP."""
        self._refuse(NotHttp("What was sent is not an HTTP request."))

    def _idle(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _await(self, what: str, seconds: float) -> None:
        self._done(what)
        self._waits[what] = self.loop.call_later(seconds, self._over, what)

    def _done(self, what: str) -> None:
        if (timer := self._waits.pop(what, None)) is not None:
            timer.cancel()

    def _over(self, what: str) -> None:
        """It has waited long enough."""
        self._waits.pop(what, None)
        if what == "head" and self._head_bytes and self._idle():
            self._refuse(TooSlow(f"The head was not complete within {HEAD_S:g} s."))
        elif what == "reader" or not self._idle():
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer past the application, and end: there is no request it could be passed."""
        if not self._idle():
            self.transport.abort()
            return
        request = secrets.token_hex(8)
        body = msgspec.json.encode(described(refusal, request))
        head = (
            f"HTTP/1.1 {refusal.status} {refusal.code}\r\nContent-Type: {PROBLEM_JSON}\r\n"
            f"Content-Length: {len(body)}\r\nX-Request-Id: {request}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.write_eof()
        self._refused = True
        self._done("head")
        self._await("refused", DRAIN_S)
