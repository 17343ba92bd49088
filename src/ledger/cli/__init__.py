"""The command `jobledger`: `main` is the way in. A command's module is loaded when it is used."""

import os
import sys
from typing import NoReturn

LEADING = ("--url", "--data")
OWN_WORDS = ("submit", "run")


def main(argv: list[str] | None = None) -> NoReturn:
    """Carry out a command line, by default the process's own, and exit with its status."""
    words = sys.argv[1:] if argv is None else argv
    if words in (["--version"], ["-V"]):
        from importlib.metadata import version

        print(f"jobledger {version('jobledger')}")
        sys.exit(0)
    from ledger import sink
    from ledger.cli import exits, failures

    try:
        status = failures.guard(lambda: _carry_out(words))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = exits.BROKEN_PIPE
    sink.end()
    sys.exit(status)


def _carry_out(words: list[str]) -> int:
    from ledger.cli.app import build

    meant = arranged(words)
    answer = build(meant[:1])(meant, exit_on_error=False, print_error=False)
    return answer if isinstance(answer, int) else 0


def arranged(words: list[str]) -> list[str]:
    """The command line as its commands expect it.

    `--url` and `--data` may stand before the command. For `submit` and `run`, what follows `--` is
    one hidden option, since only there the words after it are not ours, and `-` is stdin.
    """
    head, tail = list(words), None
    if "--" in words:
        cut = words.index("--")
        head, tail = words[:cut], words[cut + 1 :]
    moved: list[str] = []
    while head and head[0].partition("=")[0] in LEADING:
        width = 1 if "=" in head[0] else 2
        moved += head[:width]
        head = head[width:]
    head += moved
    own = bool(head) and head[0] in OWN_WORDS
    if own:  # a lone hyphen would be taken for an option
        head = ["/dev/stdin" if word == "-" else word for word in head]
    if tail is None:
        return head
    if own:
        import json

        return [*head, "--command-words", json.dumps(tail)]
    return [*head, "--", *tail]
