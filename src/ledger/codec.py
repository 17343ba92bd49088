"""Bytes to events and back: one place that knows how the log writes things down.

An event is stored as JSON, `{"by", "via", "request", "event"}`, under its stable name. Defaults are
left out, unknown fields are ignored when reading, so that an older release reads a newer log as far
as it can. A name that was renamed or whose fields changed meaning is brought up to date by an
upcaster: a pure function from the old name's JSON object to the new name and its JSON object, tried
again and again until the name is a current one.
"""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from ledger.events import EVENTS, Envelope, Event, Via

Raw = dict[str, Any]
Upcaster = Callable[[Raw], tuple[str, Raw]]
T = TypeVar("T")


class UnknownEvent(Exception):
    """The log holds an event whose name this release does not know."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"this release does not know the event {name!r}: "
            "the log was written by a newer one; install that release, or a later one"
        )
        self.name = name


class BrokenEvent(Exception):
    """Stored bytes are not what their event's name promises, or an event can't be stored."""


class Stored(msgspec.Struct, Generic[T], frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the `state` column of an event's row holds."""

    by: str = "system"
    via: Via = Via()
    request: str = ""
    event: T


class Codec:
    """Writes and reads events of one registry; `upcasters` are tried by the stored name."""

    def __init__(
        self,
        registry: Mapping[str, type[Event]] = EVENTS,
        upcasters: Mapping[str, Upcaster] | None = None,
    ) -> None:
        self._encoder = msgspec.json.Encoder()
        self._types = {name: Stored[cls] for name, cls in registry.items()}  # type: ignore[valid-type]
        self._decoders = {n: msgspec.json.Decoder(stored) for n, stored in self._types.items()}
        self._upcasters = dict(UPCASTERS if upcasters is None else upcasters)
        self._current = {
            name: decoder.decode
            for name, decoder in self._decoders.items()
            if name not in self._upcasters
        }

    def encode(self, event: Event, envelope: Envelope) -> bytes:
        """The bytes of an event, proved readable: decoded back and compared before they are used.

        Raises `BrokenEvent` where the bytes would not give the same event again.
        """
        stored: Stored[Event] = Stored(
            by=envelope.by, via=envelope.via, request=envelope.request, event=event
        )
        try:
            data = self._encoder.encode(stored)
            back = self._decoders[event.name].decode(data)
        except (msgspec.MsgspecError, UnicodeEncodeError, OverflowError, RecursionError) as error:
            raise BrokenEvent(f"{event.name} can't be written down: {error}") from error
        if back != stored:
            raise BrokenEvent(f"{event.name} would not be read back as it was written")
        return data

    def decode(self, name: str, data: bytes) -> tuple[Event, Envelope]:
        """The event stored under `name`, its envelope. Raises `UnknownEvent` or `BrokenEvent`."""
        decode = self._current.get(name)
        try:
            stored = self._decode_old(name, data) if decode is None else decode(data)
        except msgspec.MsgspecError as error:
            raise BrokenEvent(f"the stored bytes of a {name} can't be read: {error}") from error
        return stored.event, Envelope(stored.by, stored.via, stored.request)

    def _decode_old(self, name: str, data: bytes) -> Any:
        if name not in self._upcasters:
            raise UnknownEvent(name)
        raw: Raw = msgspec.json.decode(data)
        while name in self._upcasters:
            name, raw["event"] = self._upcasters[name](raw["event"])
        if name not in self._types:
            raise UnknownEvent(name)
        return msgspec.convert(raw, self._types[name])


UPCASTERS: dict[str, Upcaster] = {}
"""Old names of this release's events. Empty so far: the first release has no past."""

CODEC = Codec()
