"""Every setting there is: environment variables named `JOBLEDGER_*`, or options of the same name.

An option on the command line wins over the environment. `docs/reference/settings.md` is made from
this page.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SOCKET = "jobledger.sock"
"""The name of the service's Unix socket in its data directory."""

STATUS_SOCKET = "follow.sock"
"""The name of the socket beside it that tells how the service is, also while the master is away."""


class NoService(Exception):
    """It can't be told which service is meant."""


class Settings(BaseSettings):
    """All settings. Each may be left out; its description says what is done then."""

    model_config = SettingsConfigDict(
        env_prefix="JOBLEDGER_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    url: str = Field(
        default="",
        description="The service that commands talk to: `unix:DIR/jobledger.sock` or `http://…`. "
        "Left out: the socket in the data directory.",
    )
    token: SecretStr = Field(
        default=SecretStr(""),
        description="The bearer token that says who you are. Left out: the Unix socket tells the "
        "service which account you have on its machine.",
    )
    data: Path | None = Field(
        default=None,
        description="The service's data directory: its socket, and on SQLite its log. Left out: "
        "the `jobledger` directory among your own application data.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="`postgresql://…`: the log and all projections are kept in this database. "
        "Left out: in SQLite files in the data directory.",
    )
    expect_log: bool = Field(
        default=False,
        description="Never begin a new log. Set it once the service has one: a data directory that "
        "is not mounted, or a database that is another, is then refused instead of becoming a new, "
        "empty cluster. Left out: the master begins a log where there is none and was none.",
    )
    listen: str = Field(
        default="",
        description="`HOST:PORT` on which the master listens beside its Unix socket; several are "
        "separated by commas. Left out: the socket only.",
    )
    status_listen: str = Field(
        default="",
        description="`HOST:PORT` on which `jobledger follow` listens beside its Unix socket, to "
        "tell how the service is while the master is away; several are separated by commas. Left "
        "out: the socket only.",
    )
    status_url: str = Field(
        default="",
        description="Where `follow` is asked how the service is when the master does not answer: "
        "`unix:DIR/follow.sock` or `http://…`. Left out: the socket beside the service's own.",
    )
    insecure_listen: bool = Field(
        default=False,
        description="Allow a listener that is neither on the loopback interface nor behind TLS. "
        "Tokens then travel in clear text.",
    )
    accept_clock: bool = Field(
        default=False,
        description="Start although this machine's clock lies before the log's last time, or more "
        "than seven days after it.",
    )
    run_as: str = Field(
        default="",
        description="The account that a root agent runs every job as. Left out: the account that "
        "is called like the job's user.",
    )
    backup_every: str = Field(
        default="",
        description="How often a backup is made by itself: `1d`, `6h`. `jobledger follow` makes "
        "it. Left out: only `jobledger backup create` makes one.",
    )
    backup_dir: Path | None = Field(
        default=None,
        description="The folder of the backups: best on another disk than the log. Left out: "
        "`backups` in the data directory.",
    )
    backup_keep: int = Field(
        default=14,
        ge=0,
        description="How many backups of a log are kept. The newest verified one always is; 0 "
        "keeps all.",
    )
    mail: SecretStr = Field(
        default=SecretStr(""),
        description="The mail server that notices go out through, as a URL of apprise: "
        "`mailto://HOST:25?from=jobledger@example.org`, "
        "`mailtos://USER:PASSWORD@HOST?from=…`. Only the master needs it. Left out: nobody can be "
        "told at a mere mail address.",
    )
    mail_domain: str = Field(
        default="",
        pattern=r"^$|^[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?$",
        description="Users who gave no contact are told by mail at USER@ this domain. Left out: "
        "they are not told.",
    )
    channels: str = Field(
        default="mailto,mailtos",
        pattern=r"^[a-z, ]*$",
        description="Which URLs of apprise users may give for themselves, by scheme, beside mere "
        "mail addresses: of mailto, mailtos, json, jsons, form, forms, xml, xmls, joined by "
        "commas. The master connects to whatever host they name: allow a scheme only where that "
        "may be. Operators may set others for anybody.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines that a service writes to its log."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="How a service writes its log lines on stderr."
    )
    timeout: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Seconds for which a command tries again before it gives up on a service that "
        "does not answer, or is not ready.",
    )
    debug: bool = Field(
        default=False, description="Show the Python traceback of an error that ends a command."
    )

    def data_directory(self) -> Path:
        """The data directory: the one that is set, else the user's own."""
        return self.data or default_data()

    def backup_directory(self) -> Path:
        """The folder of the backups: the one that is set, else `backups` in the data directory."""
        return (self.backup_dir or self.data_directory() / "backups").absolute()

    def service_url(self) -> str:
        """The service that is meant: `url`, else the socket of `data`, else of the user's own
        data directory if there is one. Raises `NoService`."""
        if self.url:
            return self.url
        if self.data is not None:
            return f"unix:{self.data.absolute() / SOCKET}"
        if (own := default_data() / SOCKET).exists():
            return f"unix:{own}"
        raise NoService("No service was named, and none runs in your own data directory.")

    def status_service(self) -> str:
        """Where `follow` is asked: `status_url`, else the socket beside the service's own; empty
        where the service is on another machine. Raises `NoService`."""
        if self.status_url:
            return self.status_url
        kind, _, path = self.service_url().partition(":")
        return f"unix:{Path(path).with_name(STATUS_SOCKET)}" if kind == "unix" else ""


def listeners(text: str) -> tuple[str, ...]:
    """The addresses in `listen` or `status_listen`."""
    return tuple(address.strip() for address in text.split(",") if address.strip())


def keep_private(data: Path) -> None:
    """Make the data directory if there is none; what this process, and those it starts, write from
    now on is their own account's alone.

    Others may pass through the directory to the socket, which tells the master who they are.
    """
    os.umask(0o077)
    if not data.exists():
        data.mkdir(parents=True)
        data.chmod(0o711)


def default_data() -> Path:
    """The data directory of a service that somebody runs for himself."""
    import platformdirs

    return Path(platformdirs.user_data_dir("jobledger", appauthor=False))
