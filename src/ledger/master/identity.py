"""Who asks: tokens and the Unix socket's peer credentials. There is no third way, and no default.

A token looks like `jl_ID_SECRET`: the id may be shown and logged, the whole is known to its holder
alone. The log has the SHA-256 of the whole; it is random, so a fast digest is the right one.
"""

import hashlib
import pwd
import re
import secrets
import time
from functools import lru_cache
from typing import NamedTuple

from ledger.commands import Subject
from ledger.domain.errors import TokenExpired, Unauthenticated
from ledger.domain.state import Cluster

RESERVED = frozenset({"system"})
"""Names nobody may have: events that we cause ourselves are `by` them."""

ACCOUNT_S = 5
"""An account's name is looked up again after so long."""

_TOKEN = re.compile(r"^jl_[0-9a-f]{12}_[A-Za-z0-9_-]{43}$")


class NewToken(NamedTuple):
    """A token just made: its public id, the secret to hand out, the digest to record."""

    id: str
    secret: str
    sha256: str


def make_token() -> NewToken:
    """A new random token of 256 bits."""
    token_id = secrets.token_hex(6)
    secret = f"jl_{token_id}_{secrets.token_urlsafe(32)}"
    return NewToken(token_id, secret, digest(secret))


def digest(secret: str) -> str:
    """What the log knows of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def by_token(c: Cluster, secret: str, now: int) -> Subject:
    """The subject a bearer token stands for. Raises `Unauthenticated` or `TokenExpired`."""
    if not _TOKEN.match(secret):
        raise Unauthenticated("That is not a jobledger token.")
    token = c.tokens.get(digest(secret))
    if token is None:
        raise Unauthenticated("The token is not known here, or was revoked.")
    if token.expires_at and token.expires_at <= now:
        raise TokenExpired(f"The token {token.id} has expired.")
    if token.role not in ("user", "operator", "node", "join"):
        raise Unauthenticated("The token has a role this release does not know.")
    return Subject(token.owner, token.role)  # type: ignore[arg-type]


def expiry(c: Cluster, secret: str) -> int:
    """When a token expires, µs; 0: never, or it is none."""
    token = c.tokens.get(digest(secret))
    return token.expires_at if token is not None else 0


@lru_cache(1024)
def _account(uid: int, _span: int) -> str:
    """The name of an account. Looking it up opens a file, or asks a directory."""
    return pwd.getpwuid(uid).pw_name


def by_peer(uid: int, operator_uids: frozenset[int]) -> Subject:
    """The subject at the other end of the Unix socket: an account of this machine."""
    try:
        name = _account(uid, int(time.monotonic() / ACCOUNT_S))
    except KeyError:
        raise Unauthenticated(f"The uid {uid} has no account on the master's machine.") from None
    if name in RESERVED:
        raise Unauthenticated(f"The account name {name} is reserved.")
    return Subject(name, "operator" if uid in operator_uids else "user")
