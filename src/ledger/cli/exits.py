"""How a command ends: sysexits(3), so that scripts can tell what kind of trouble it was."""

import sys
from typing import TYPE_CHECKING

from ledger import sink

if TYPE_CHECKING:
    from ledger.client.errors import ClientError

OK = 0
NOT_NOW_STATE = 1
USAGE = 64
DATA = 65
NO_INPUT = 66
UNAVAILABLE = 69
SOFTWARE = 70
TEMPORARY = 75
NO_PERMISSION = 77
CONFIG = 78
INTERRUPTED = 130
BROKEN_PIPE = 141

MEANINGS = {
    OK: "done",
    NOT_NOW_STATE: "refused: not in the present state (409), or a check found something wrong",
    USAGE: "the command line can't be understood",
    DATA: "the request or the data given can't be carried out (400, 413, 422, 426)",
    NO_INPUT: "there is no such job, node, token or file (404)",
    UNAVAILABLE: "no service answers, or none was named",
    SOFTWARE: "an error of ours",
    TEMPORARY: "not now: a limit, a master that starts, a full disk (429, 503, 507); try again",
    NO_PERMISSION: "not allowed, or not known (401, 403)",
    CONFIG: "a setting is wrong",
    INTERRUPTED: "interrupted from the keyboard",
    BROKEN_PIPE: "whoever read the output went away",
}
"""Every status there is but those that `wait` and `run` pass on from a job."""

_OF_STATUS = {
    401: NO_PERMISSION,
    403: NO_PERMISSION,
    404: NO_INPUT,
    409: NOT_NOW_STATE,
    429: TEMPORARY,
    502: TEMPORARY,
    503: TEMPORARY,
    504: TEMPORARY,
    507: TEMPORARY,
}


class Stop(Exception):
    """End the command with a status: `sentence` and `hint` are said on stderr."""

    def __init__(self, status: int, sentence: str = "", hint: str = "") -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.hint = status, sentence, hint


def of_http(status: int) -> int:
    """The status that stands for an HTTP status."""
    return _OF_STATUS.get(status, DATA if status < 500 else SOFTWARE)


def status_of(error: "ClientError") -> int:
    """The status of a request that failed."""
    from ledger.client.errors import Refused, Unreachable

    if isinstance(error, Refused):
        return of_http(error.status)
    return UNAVAILABLE if isinstance(error, Unreachable) else CONFIG


def job_status(state: str, exit_code: int | None, signal: int | None = None) -> int:
    """The status that stands for how a job ended: its own, 128 + signal, or that of its end."""
    if state == "completed":
        return OK
    if signal:
        return 128 + signal
    if exit_code:
        return exit_code
    ends = {"timeout": 124, "deadline": 124, "out_of_memory": 137, "cancelled": 143}
    return ends.get(state, 1)


def say(text: str = "") -> None:
    """Talk: on stderr, so that stdout is nothing but data."""
    if not sink.say(text):
        print(text, file=sys.stderr)
