"""`contact …`: how you, or others, are told of outages."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column
from ledger.cli.words import BadWord
from ledger.models import ChannelOut, ContactIn, ContactOut

if TYPE_CHECKING:
    from ledger.client.blocking import Client

contact_app = App(name="contact")
User = Annotated[str, Parameter(name=["--user", "-u"], help="Whose (operators); left out: yours.")]
Desk = Annotated[str, Parameter(help="A support desk's, by its name (operators).")]


@contact_app.command(name="set")
def set_(
    *addresses: Annotated[str, Parameter(help="Mail addresses, URLs of apprise.")],
    file: Annotated[
        Path | None, Parameter(name=["--file", "-f"], help="A file with an address on each line.")
    ] = None,
    user: User = "",
    desk: Desk = "",
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Say how you are told: so, and no longer as before.

    Without addresses and --file they are read from stdin, a line each. So read what has a password
    or a token in it: what stands on the command line is seen by others, and kept in the history.
    """
    wanted = _addresses(addresses, file)
    with at.client() as client:
        whom, is_desk = _whom(client, user, desk)
        told = client.set_contact(whom, _body(wanted, desk=is_desk))
    if not quiet:
        say(_sentence(told))
        for channel in told.channels:
            if channel.problem:
                say(f"Nothing can go out over {_channel(channel)} yet: {channel.problem}.")
    return exits.OK


@contact_app.command
def show(
    *, user: User = "", desk: Desk = "", form: OutputFormat = "table", at: Service = NOWHERE
) -> int:
    """Show how you are told. Of an address no more is shown than its scheme and host."""
    with at.client() as client:
        whom, is_desk = _whom(client, user, desk)
        found = client.contact(whom, desk=is_desk)
    if shown.tree(found, form, name=found.owner):
        return exits.OK
    shown.data(_sentence(found))
    rows = [[_channel(c), c.problem] for c in found.channels]
    if rows:
        shown.table(["CHANNEL", "PROBLEM"], rows, fit=form == "table")
    return exits.OK


@contact_app.command(name="list")
def list_(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """List how people and desks are told (users: themselves)."""
    with at.client() as client:
        found = client.contacts()
    empty = "Nobody has said how he is told: `jobledger contact set ADDRESS`."
    shown.write(found.contacts, COLUMNS, form, of=ContactOut, name=_name, tree=found, empty=empty)
    return exits.OK


@contact_app.command
def remove(*, user: User = "", desk: Desk = "", quiet: Quiet = False, at: Service = NOWHERE) -> int:
    """Forget how you are told: then it is as the site does by default."""
    with at.client() as client:
        whom, is_desk = _whom(client, user, desk)
        done = client.remove_contact(whom, desk=is_desk)
    if not quiet:
        what = "is forgotten" if done.changed else "was not known"
        say(f"How {whom} is told {what}.")
    return exits.OK


@contact_app.command(name="test")
def try_(*, user: User = "", desk: Desk = "", at: Service = NOWHERE) -> int:
    """Send you a test message now. Status 1 if no channel took it."""
    with at.client() as client:
        whom, is_desk = _whom(client, user, desk)
        found = client.try_contact(whom, desk=is_desk)
    for channel in found.channels:
        shown.data(f"{_channel(channel)}: {channel.problem or 'taken'}")
    taken = any(not channel.problem for channel in found.channels)
    return exits.OK if taken else exits.NOT_NOW_STATE


def _addresses(words: tuple[str, ...], file: Path | None) -> tuple[str, ...]:
    if words and file is not None:
        raise BadWord("Give addresses or --file, not both.")
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadWord(f"{file} can't be read: {error}.") from None
    elif words:
        text = "\n".join(words)
    else:
        if sys.stdin.isatty():
            say("Addresses, one on a line; Ctrl-D ends them:")
        text = sys.stdin.read()
    found = tuple(word.strip() for word in text.splitlines() if word.strip())
    if not found:
        raise BadWord("There is no address; `jobledger contact remove` forgets them.")
    return found


def _body(addresses: tuple[str, ...], *, desk: bool) -> ContactIn:
    from pydantic import ValidationError

    try:
        return ContactIn(addresses=addresses, desk=desk)
    except ValidationError as error:  # its own words would repeat the address
        raise BadWord(f"These can't be addresses: {error.errors()[0]['msg']}.") from None


def _whom(client: "Client", user: str, desk: str) -> tuple[str, bool]:
    if user and desk:
        raise BadWord("Give --user or --desk, not both.")
    return (desk, True) if desk else (user or client.whoami().name, False)


def _channel(channel: ChannelOut) -> str:
    return f"{channel.scheme}://{channel.host or '…'}"


def _name(contact: ContactOut) -> str:
    return contact.owner


def _channels(contact: ContactOut) -> str:
    return ", ".join(map(_channel, contact.channels))


def _sentence(contact: ContactOut) -> str:
    who = f"Desk {contact.owner}" if contact.desk else contact.owner
    if not contact.channels:
        return f"{who} is not told: no contact is known."
    default = ", as the site does by default" if contact.by_default else ""
    return f"{who} is told over {_channels(contact)}{default}."


COLUMNS: list[Column[ContactOut]] = [
    Column("WHO", _name),
    Column("IS A", lambda c: "desk" if c.desk else "user"),
    Column("TOLD OVER", _channels),
    Column("PROBLEM", lambda c: "; ".join(ch.problem for ch in c.channels if ch.problem)),
]
