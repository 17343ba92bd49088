"""`token …`, `policy …`, `whoami`: who may speak, under which policy."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from ledger.cli import exits, shown
from ledger.cli.abuse import NO_RULES, RulesOfUse
from ledger.cli.common import NOWHERE, OutputFormat, Quiet, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.words import BadWord, duration, shown_duration
from ledger.models import PolicyIn, PolicyOut, TokenIn, TokenOut

token_app = App(name="token", help="Issue, list and revoke tokens.")
policy_app = App(name="policy", help="Show and change the policy.")


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
    shown.write(found.tokens, columns, form, name=lambda t: t.token, tree=found, empty="No tokens.")
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


@policy_app.command
def show(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Show the policy in force, and what each part of it means: the site's rules of use."""
    with at.client() as client:
        _show_policy(client.policy(), form)
    return exits.OK


@policy_app.command(name="set")
def set_(
    *,
    job_lease: Annotated[str, Parameter(help="How long an agent may be silent: 30, 5m.")] = "",
    lease_margin: Annotated[
        str, Parameter(help="How much longer the master waits before it places jobs again.")
    ] = "",
    lost_after: Annotated[
        str, Parameter(help="When a job that is out of contact is given up: 24h.")
    ] = "",
    kill_grace: Annotated[str, Parameter(help="From TERM to KILL: 10.")] = "",
    max_jobs_per_user: Annotated[int | None, Parameter(help="Live jobs of one user.")] = None,
    max_time_limit: Annotated[str, Parameter(help="The longest time limit: 7d.")] = "",
    output_head_bytes: Annotated[
        int | None, Parameter(help="Bytes kept of the beginning of a job's output.")
    ] = None,
    output_tail_bytes: Annotated[
        int | None, Parameter(help="Bytes kept of the end of a job's output.")
    ] = None,
    use: RulesOfUse = NO_RULES,
    outage_window: Annotated[
        str, Parameter(help="Nodes of a rack lost within it of one another are one outage: 60.")
    ] = "",
    absence: Annotated[
        str, Parameter(help="A master that was away for longer is an outage: 60.")
    ] = "",
    notify: Annotated[
        bool | None, Parameter(help="May people be told of outages? None are yet.")
    ] = None,
    notice_delay: Annotated[
        str, Parameter(help="How long an outage gathers before people are told: 60.")
    ] = "",
    notice_jobs: Annotated[int | None, Parameter(help="Jobs named in one notice.")] = None,
    form: OutputFormat = "table",
    at: Service = NOWHERE,
) -> int:
    """Change the policy; what is left out stays as it is."""
    durations = {
        "job_lease_s": job_lease,
        "lease_margin_s": lease_margin,
        "lost_after_s": lost_after,
        "kill_grace_s": kill_grace,
        "max_time_limit_s": max_time_limit,
        "outage_window_s": outage_window,
        "absence_s": absence,
        "notice_delay_s": notice_delay,
    }
    numbers = {
        "max_jobs_per_user": max_jobs_per_user,
        "output_head_bytes": output_head_bytes,
        "output_tail_bytes": output_tail_bytes,
        "notify": notify,
        "notice_jobs": notice_jobs,
    }
    given = {field: duration(text) for field, text in durations.items() if text}
    given |= use.given()
    given |= {field: int(number) for field, number in numbers.items() if number is not None}
    if not given:
        raise BadWord("Say what to change, such as --job-lease 30.")
    with at.client() as client:
        _show_policy(client.set_policy(PolicyIn(**given)), form)
    return exits.OK


def _show_policy(policy: PolicyOut, form: OutputFormat) -> None:
    if shown.tree(policy, form, name=str(policy.policy)):
        return
    rows = []
    for field, value in policy.model_dump(exclude={"meanings"}).items():
        text = f"{value:,}" if field.endswith("_bytes") else str(value)
        is_time = field.endswith("_s")
        text = shown_duration(value) if is_time else text
        text += " %" if field.endswith("_percent") else ""
        rows.append([field.removesuffix("_s"), text, policy.meanings.get(field, "")])
    shown.table(["", "", ""], rows, wrap=True)


def whoami(*, form: OutputFormat = "table", at: Service = NOWHERE) -> int:
    """Say who you are to the service, and how it knows."""
    with at.client() as client:
        found = client.whoami()
    if not shown.tree(found, form, name=found.name):
        shown.data(f"{found.name} ({found.role}), by {found.how}")
    return exits.OK
