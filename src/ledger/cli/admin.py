"""`token …`, `whoami`: who may speak."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, OutputFormat, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.words import BadWord, duration
from ledger.models import TokenIn, TokenOut

token_app = App(name="token")


@token_app.command
def issue(
    *,
    owner: Annotated[str, Parameter(help="Whom the token stands for; left out: you.")] = "",
    role: Annotated[
        Literal["user", "operator", "node", "join"], Parameter(help="What its holder may do.")
    ] = "user",
    ttl: Annotated[
        str, Parameter(help="How long it is good: 1h, 30d; 0: for ever (operators only).")
    ] = "30d",
    note: Annotated[str, Parameter(name=["--note", "-m"], help="What it is for.")] = "",
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative="", help="Print the token only.")
    ] = False,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Make a token. It is shown this once and stored nowhere."""
    from pydantic import ValidationError

    with at.client() as client:
        whom = owner or client.whoami().name
        try:
            wanted = TokenIn(owner=whom, role=role, ttl_s=duration(ttl), note=note)
        except ValidationError as error:
            first = error.errors()[0]
            raise BadWord(f"--{first['loc'][0]}: {first['msg']}.".replace("ttl_s", "ttl")) from None
        made = client.issue_token(wanted)
    if quiet:
        shown.data(made.secret)
    elif not shown.tree(made, form, name=made.token):
        shown.data(made.secret)
        until = f"until {when(made.expires_at)}" if made.expires_at else "for ever"
        say(f"Token {made.token}: {made.owner} ({made.role}), {until}. It is not shown again.")
    return exits.OK


@token_app.command(name="list")
def list_(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """List the tokens you may see, without their secrets."""
    columns: list[Column[TokenOut]] = [
        Column("TOKEN", lambda t: t.token),
        Column("OWNER", lambda t: t.owner),
        Column("ROLE", lambda t: t.role),
        Column("ISSUED", lambda t: when(t.issued_at)),
        Column("EXPIRES", lambda t: when(t.expires_at) or "never"),
        Column("NOTE", lambda t: t.note),
    ]
    with at.client() as client:
        found = client.tokens()
    shown.write(
        found.tokens,
        columns,
        form,
        of=TokenOut,
        name=lambda t: t.token,
        tree=found,
        empty="No tokens.",
    )
    return exits.OK


@token_app.command
def revoke(
    *tokens: Annotated[str, Parameter(help="Tokens by the id that `token list` shows.")],
    quiet: Quiet = False,
    at: Service = NOWHERE,
) -> int:
    """Refuse tokens from now on."""
    if not tokens:
        raise BadWord("Name the tokens to revoke.")
    with at.client() as client:
        for token in tokens:
            client.revoke_token(token)
            if not quiet:
                say(f"Token {token} is revoked.")
    return exits.OK


def whoami(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Say who you are to the service, and how it knows."""
    with at.client() as client:
        found = client.whoami()
    if not shown.tree(found, form, name=found.name):
        shown.data(f"{found.name} ({found.role}), by {found.how}")
    return exits.OK
