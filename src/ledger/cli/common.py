"""What commands share: which service, which format, and a client for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from ledger.client.blocking import Client
    from ledger.settings import Settings

Format = Literal["table", "wide", "json", "jsonl", "csv", "name"]
OutputFormat = Annotated[
    Format, Parameter(name=["--format", "-o"], help="How the answer is written to stdout.")
]
Job = Annotated[str, Parameter(help="A job: 17, or 17_3 for a task of an array.")]
Jobs = Annotated[str, Parameter(help="Jobs: 17; of an array 17_3, or 17_[0-9].")]
Nodes = Annotated[str, Parameter(help="Nodes: n3, n[7-9], or several of these.")]
Note = Annotated[str, Parameter(name=["--note", "-m"], help="Why, in your own words.")]
Quiet = Annotated[
    bool, Parameter(name=["--quiet", "-q"], negative="", help="Say nothing but data.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Service:
    """Which service is spoken to."""

    url: Annotated[
        str, Parameter(help="The service: unix:DIR/jobledger.sock or http://HOST:PORT.")
    ] = ""
    data: Annotated[
        Path | None, Parameter(help="The data directory of a service on this machine.")
    ] = None

    def settings(self) -> "Settings":
        """The settings, with what stands on the command line."""
        from ledger.settings import Settings

        given: dict[str, object] = {}
        if self.url or self.data:  # one on the command line leaves out both of the environment
            given = {"url": self.url, "data": self.data}
        return Settings(**given)  # type: ignore[arg-type]

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """A client of the service that is meant."""
        import stamina.instrumentation

        from ledger.client.blocking import Client

        # Its own hook would write each repetition to stdout; `Patience` says it to people.
        stamina.instrumentation.set_on_retry_hooks([])
        settings = self.settings()
        with (
            _place(settings) as (url, token),
            Client(
                url,
                token,
                patience_s=settings.timeout,
                on_retry=Patience(),
            ) as client,
        ):
            yield client


NOWHERE = Service()


@Parameter(name="*")
@dataclass(frozen=True)
class AsOf:
    """As of when a question is asked."""

    at: Annotated[
        str,
        Parameter(
            help="As it was then: -2h, tuesday, yesterday 10:00, 2026-11-20T10:00.",
            allow_leading_hyphen=True,
        ),
    ] = ""
    at_position: Annotated[int | None, Parameter(help="As it was at this position of the log.")] = (
        None
    )

    @property
    def present(self) -> bool:
        """Is it asked as of now?"""
        return not self.at and self.at_position is None

    def of(self, client: "Client") -> "Client":
        """The client that asks as of then; the same one for the present. Raises `BadWord`."""
        from ledger.cli.words import BadWord, moment

        if self.present:
            return client
        if self.at and self.at_position is not None:
            raise BadWord("Give --at or --at-position, not both.")
        return client.as_of(moment(self.at, now()) if self.at else None, self.at_position)

    def now(self, then: "Client") -> datetime:
        """What time it was then, by a client of `of`."""
        if self.present:
            return now()
        from ledger.cli.words import moment

        return moment(self.at, now()) if self.at else then.head().at or now()


PRESENT = AsOf()


@contextmanager
def _place(settings: "Settings") -> Iterator[tuple[str, str]]:
    """The URL of the service that is meant, and the token for it. An archive gets a URL for as long
    as this lasts, and knows no tokens."""
    from ledger.settings import SOCKET

    data, token = settings.data, settings.token.get_secret_value()
    if settings.url or data is None or (data / SOCKET).exists() or not data.is_dir():
        yield settings.service_url(), token
        return
    from ledger import logs
    from ledger.api import archive

    logs.quiet()
    if not archive.found(data):
        yield settings.service_url(), token
        return
    with archive.served(data, Making() if sys.stderr.isatty() else None) as url:
        yield url, ""


class Making:
    """Tells a person at a terminal how far the making of projections is."""

    def __call__(self, name: str, position: int, head: int) -> None:
        sys.stderr.write(f"\rreading the ledger for {name}: {100 * position // head} % … ")
        sys.stderr.write("\r\033[K" if position >= head else "")
        sys.stderr.flush()


class Patience:
    """Tells whoever waits, once, that a command is trying again."""

    def __init__(self) -> None:
        self._told = False

    def __call__(self, error: Exception) -> None:
        from ledger.cli.exits import say
        from ledger.cli.text import line

        if not self._told:
            say(f"{line(str(error))} Trying again.")
        self._told = True


def now() -> datetime:
    """The present, in the zone of this machine."""
    return datetime.now().astimezone()
