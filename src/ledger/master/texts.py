"""What users wrote, out of the blobs beside the log: read once, and kept at hand for a while."""

from collections import OrderedDict

import msgspec

from ledger.domain.state import Job
from ledger.master.reader import LogReader

TEXTS_CACHED_BYTES = 64 << 20


class Words(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job's own words, stored as one blob: what is run, where, and what for."""

    argv: tuple[str, ...] = ()
    workdir: str = ""
    output_path: str = ""
    comment: str = ""


_decode = msgspec.json.Decoder(Words).decode


def parsed(text: bytes | str) -> Words:
    """A blob as words; an erased one has none."""
    return _decode(text) if text else Words()


class Texts:
    """Texts by digest, the last used of them in memory."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._known: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    async def words(self, job: Job) -> Words:
        """What a live job's owner wrote."""
        return parsed(await self.text(job.spec.text.sha256) if job.spec.text else b"")

    async def text(self, sha256: str) -> bytes:
        """A text; empty if it was erased."""
        if sha256 in self._known:
            self._known.move_to_end(sha256)
            return self._known[sha256]
        found = await self._reader.call(lambda log: log.blobs([sha256]))
        text = found.get(sha256, b"")
        self.remember({sha256: text})
        return text

    @property
    def held(self) -> tuple[int, int]:
        """How many texts are at hand, and their bytes."""
        return len(self._known), self._bytes

    def remember(self, texts: dict[str, bytes]) -> None:
        """Keep texts at hand: those just submitted will be wanted soon."""
        for digest, text in texts.items():
            if digest not in self._known:
                self._known[digest] = text
                self._bytes += len(text)
        while self._bytes > TEXTS_CACHED_BYTES:
            _, text = self._known.popitem(last=False)
            self._bytes -= len(text)
