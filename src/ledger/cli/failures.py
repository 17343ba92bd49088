"""What is said when a command fails: one sentence, a hint, the request's id; never a traceback."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from ledger.cli import exits
from ledger.cli.exits import say
from ledger.cli.text import line

if TYPE_CHECKING:
    from cyclopts import CycloptsError

    from ledger.store.log import LogCorrupt

BROKEN_HINT = "Keep this copy as it is, and go by docs/runbooks/log-broken.md."


PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}
"""What a system says that has no room, no disk or no descriptors for now."""


def guard(command: Callable[[], int]) -> int:
    """Run a command; its status, also if it failed. A broken pipe is the caller's business."""
    try:
        return command()
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        say()
        return exits.INTERRUPTED
    except exits.Stop as stop:
        if stop.sentence:
            tell(stop.sentence, stop.hint)
        return stop.status
    except Exception as error:
        if os.environ.get("JOBLEDGER_DEBUG", "") not in ("", "0", "false"):
            traceback.print_exc()
        return _explain(error)


def broken(corrupt: "LogCorrupt") -> str:
    """Where a log is broken, and how."""
    where = f" at position {corrupt.position}" if corrupt.position else ""
    return f"The log is broken{where}: {corrupt}."


def _misused(error: "CycloptsError") -> tuple[str, str]:
    """What is wrong with a command line, and how to find out what is right."""
    from cyclopts import MissingArgumentError, UnusedCliTokensError

    command = " ".join(["jobledger", *(error.command_chain or ())])
    if command == "jobledger":
        hint = "`jobledger --help` lists the commands, `jobledger COMMAND --help` one's options."
    else:
        hint = f"`{command} --help` says what it takes."
    argument = error.argument
    if isinstance(error, MissingArgumentError) and argument and not error.keyword:
        what = argument.parameter.help or ""
        return f"`{command}` needs {argument.name}" + (f": {what}" if what else "."), hint
    if isinstance(error, UnusedCliTokensError):
        return f"`{command}` does not take {' '.join(error.unused_tokens or ())}.", hint
    return str(error), hint


def _explain(error: Exception) -> int:
    from cyclopts import CycloptsError
    from pydantic import ValidationError

    from ledger.cli.words import BadWord
    from ledger.client.errors import ClientError
    from ledger.domain.errors import Refusal
    from ledger.settings import NoService
    from ledger.store.log import LogBusy, LogCorrupt, LogFailure

    if isinstance(error, CycloptsError):
        tell(*_misused(error))
        return exits.USAGE
    if isinstance(error, BadWord):
        tell(str(error))
        return exits.USAGE
    if isinstance(error, ClientError):
        tell(error.sentence, error.hint, error.request)
        return exits.status_of(error)
    if isinstance(error, Refusal):
        tell(error.sentence, error.advice)
        return exits.of_http(error.status)
    if isinstance(error, NoService):
        tell(
            str(error),
            "Set JOBLEDGER_URL (or --url), or JOBLEDGER_DATA (or --data) to the directory of a "
            "service; `jobledger up --data DIR` starts one.",
        )
        return exits.UNAVAILABLE
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        tell(f"The setting {'.'.join(map(str, first['loc']))} is wrong: {first['msg']}.")
        return exits.CONFIG
    if isinstance(error, LogCorrupt):
        tell(broken(error), BROKEN_HINT)
        return exits.DATA
    if isinstance(error, LogFailure):
        tell(str(error)[:1].upper() + str(error)[1:] + ".")
        return exits.TEMPORARY if isinstance(error, LogBusy) else exits.UNAVAILABLE
    if isinstance(error, OSError):
        tell(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.")
        if error.errno in PASSING:
            return exits.TEMPORARY
        return exits.NO_INPUT if isinstance(error, FileNotFoundError) else exits.DATA
    tell(
        f"An error of jobledger's own: {type(error).__name__}: {error}",
        "JOBLEDGER_DEBUG=1 shows where; please report it.",
    )
    return exits.SOFTWARE


def tell(sentence: str, hint: str = "", request: str = "") -> None:
    """Say what went wrong, on stderr."""
    strong, plain = ("\x1b[31m", "\x1b[0m") if coloured(sys.stderr) else ("", "")
    say(f"{strong}jobledger: {line(sentence)}{plain}")
    if hint:
        say(f"  {line(hint)}")
    if request:
        say(f"  (request {line(request)})")


def coloured(stream: object) -> bool:
    """May colours be used there: a terminal, and nobody said no."""
    is_terminal = getattr(stream, "isatty", lambda: False)()
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
