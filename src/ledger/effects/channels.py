"""How somebody is told: the addresses he gives, what they may be, and how they are shown.

An address is a mere mail address, `ann@example.org`, which goes out through the site's own mail
server, or a URL of the library apprise, `jsons://hooks.example.org/ann`. URLs hold passwords and
tokens, and of most schemes even the host is one: so no more of them is shown than the scheme, and
the host where it is a host.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

MAX_CHANNELS = 5
MAX_LENGTH = 1_000
"""So many channels one may have, each of so many characters."""

MAIL = frozenset({"mailto", "mailtos"})
WEBHOOKS = frozenset({"json", "jsons", "form", "forms", "xml", "xmls"})

LOCAL = frozenset(
    "syslog dbus kde qt glib gnome macosx windows blink1 file vapid".split()  # noqa: SIM905
)
"""Schemes that act on the master's own machine, or read its files."""

FILES = frozenset(
    "template templates keyfile subfile pgp pgppub pgpprv wkd attach config include".split()  # noqa: SIM905
)
"""Parameters by which a URL would have the master's machine read files of its own."""

_PARAMETERS = {
    **dict.fromkeys(MAIL, frozenset({"to", "from", "name", "user", "pass", "smtp", "mode"})),
    **dict.fromkeys(WEBHOOKS, frozenset({"method", "user", "pass"})),
}
_METHODS = frozenset({"", "POST", "PUT"})
_ADDRESS = re.compile(r"^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$")
_URL = re.compile(r"^[!-~]+$")


class BadChannel(ValueError):
    """An address that can't be, or may not be, one to tell somebody at; the sentence says why, and
    repeats nothing of it that is secret."""


class Channel(NamedTuple):
    """An address, its scheme, and its host where that may be shown. `mail`: through the site's own
    server."""

    address: str
    scheme: str
    host: str
    mail: bool = False

    @property
    def shown(self) -> str:
        """As much of it as may be shown."""
        return f"{self.scheme}://{self.host or '…'}"


def parse(address: str) -> Channel:
    """An address as a channel. Raises `BadChannel`."""
    if len(address) > MAX_LENGTH:
        raise BadChannel(f"an address has at most {MAX_LENGTH} characters")
    if _ADDRESS.match(address):
        return Channel(address, "mailto", address.rpartition("@")[2].lower(), mail=True)
    scheme, separator, _ = address.partition("://")
    if not separator or not re.match(r"^[A-Za-z][A-Za-z0-9+.-]{0,30}$", scheme):
        raise BadChannel(
            "an address is a mail address, or a URL of apprise such as jsons://HOST/PATH"
        )
    if not _URL.match(address):
        raise BadChannel("a URL has no spaces and only ASCII characters; write others as %XX")
    scheme = scheme.lower()
    try:
        host = urlsplit(address).hostname or "" if scheme in MAIL | WEBHOOKS else ""
    except ValueError:
        raise BadChannel(f"the host of this {scheme} URL can't be understood") from None
    if scheme in MAIL | WEBHOOKS and not host:
        raise BadChannel(f"this {scheme} URL has no host")
    return Channel(address, scheme, host)


def demand(channels: Sequence[Channel], schemes: Collection[str] | None) -> None:
    """Raise `BadChannel` unless these may be somebody's channels. `schemes`: those that users may
    give for themselves; None: whoever gives them is an operator."""
    if len(channels) > MAX_CHANNELS:
        raise BadChannel(f"one has at most {MAX_CHANNELS} channels")
    for channel in channels:
        if channel.mail:
            continue
        if channel.scheme in LOCAL:
            raise BadChannel(f"{channel.scheme} would act on the master's own machine")
        names = [name.lower() for name, _ in parse_qsl(_query(channel), keep_blank_values=True)]
        if of_files := FILES.intersection(names):
            raise BadChannel(f"{min(of_files)}= would read files of the master's own machine")
        if schemes is not None:
            _demand_of_user(channel, names, schemes)


def _demand_of_user(channel: Channel, names: Sequence[str], schemes: Collection[str]) -> None:
    if channel.scheme not in schemes or channel.scheme not in _PARAMETERS:
        allowed = ", ".join(sorted(set(schemes) & _PARAMETERS.keys()))
        raise BadChannel(
            f"users may not use {channel.scheme} here, but a mail address"
            + (f", and {allowed}" if allowed else "")
        )
    free = channel.scheme in WEBHOOKS
    for name in names:
        own = free and name[:1] in ("+", "-", ":", " ")  # a header, parameter or field of theirs
        if name not in _PARAMETERS[channel.scheme] and not own:
            raise BadChannel(f"users may not use {name[:40]}= in a URL")
    methods = [v.upper() for n, v in parse_qsl(_query(channel)) if n.lower() == "method"]
    if not _METHODS.issuperset(methods):
        raise BadChannel("users may not use another method than POST or PUT")


def _query(channel: Channel) -> str:
    return channel.address.partition("?")[2]


def url(channel: Channel, mail: str) -> str:
    """The URL that apprise sends to; `mail` is the site's own mail server, as such a URL. Raises
    `BadChannel` where there is none and one is needed."""
    if not channel.mail:
        return channel.address
    if not mail:
        raise BadChannel("no mail server is set (JOBLEDGER_MAIL), so mail can't go out")
    joint = "&" if "?" in mail else "?"
    return f"{mail}{joint}to={quote(channel.address, safe='')}"
