"""Secrets that are planted on purpose, and the search for them in whatever form they may lie."""

import base64
import gzip
import secrets
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg


def forms(secret: str) -> Iterator[bytes]:
    """The ways in which a secret may be written down."""
    raw = secret.encode()
    yield raw
    yield from (secret.encode("utf-16-le"), secret.encode("utf-16-be"), raw[::-1])
    yield from (raw.hex().encode(), raw.hex().upper().encode(), quote(secret, safe="").encode())
    for shift in range(3):  # what stands before it decides how base64 cuts it
        text = base64.b64encode(b"\0" * shift + raw + b"\0\0")
        start = -(-shift * 8 // 6)
        yield text[start : (shift + len(raw)) * 8 // 6]
        yield base64.urlsafe_b64encode(b"\0" * shift + raw + b"\0\0")[
            start : (shift + len(raw)) * 8 // 6
        ]


class Canaries:
    """What was planted, by the name of the place, and how much was searched for it."""

    def __init__(self) -> None:
        self._forms: dict[str, set[bytes]] = {}
        self.bytes = self.sources = 0

    def plant(self, place: str) -> str:
        """A new secret for a place."""
        secret = f"canary{secrets.token_hex(12)}"
        self.know(place, secret)
        return secret

    def know(self, place: str, secret: str) -> None:
        """A secret that somebody else has made."""
        self._forms[place] = set(forms(secret))

    def __len__(self) -> int:
        return len(self._forms)

    def found(self, source: str, data: bytes, but: Collection[str] = ()) -> list[str]:
        """Where which secret stands that should not; those of the places `but` may stand there."""
        self.bytes += len(data)
        self.sources += 1
        return [
            f"{place} in {source}"
            for place, wanted in self._forms.items()
            if place not in but and any(form in data for form in wanted)
        ]

    def in_files(self, folder: Path, tokens: dict[Path, str]) -> list[str]:
        """Every file below a folder, packed ones unpacked too. `tokens`: which may lie where."""
        found = []
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            data = path.read_bytes()
            found += self.found(str(path), data, [tokens[path]] if path in tokens else ())
            if data[:2] == b"\x1f\x8b":
                try:
                    data = gzip.decompress(data)
                except (EOFError, OSError, zlib.error):
                    continue
                found += self.found(f"{path}, unpacked", data)
        return found

    def in_database(self, url: str) -> list[str]:
        """Every row of every table, as text and, where it holds bytes, as these bytes."""
        found = []
        with psycopg.connect(url, autocommit=True) as connection:
            tables = connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
                "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
            ).fetchall()
            for (table,) in tables:
                rows = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()  # noqa: S608
                values = [value for row in rows for value in row if value is not None]
                data = b"\n".join(
                    bytes(v) if isinstance(v, bytes | memoryview) else str(v).encode()
                    for v in values
                )
                found += self.found(table, data)
        return found
