"""A process of its own in which apprise sends: `python -m ledger.effects.worker`.

It may hang, and be killed for it; what it leaks or logs goes nowhere; what it is told, it is told
on stdin, where nobody else can see it. A line is a task, and a line is the answer: a sentence for
each channel, empty where the channel took the message.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import apprise
import msgspec

SERVICE_S = 15.0
"""How long apprise itself gives a channel; whoever started this process has a limit of his own."""

_WHOLE = ("mailto", "mailtos", "json", "jsons", "form", "forms", "xml", "xmls")
"""Schemes that take a text of any length; others are sent it in several pieces."""


class Task(msgspec.Struct, frozen=True):
    """Check these URLs, or send this text to them."""

    do: Literal["check", "send"]
    urls: tuple[str, ...]
    title: str = ""
    body: str = ""
    notice: str = ""


class Done(msgspec.Struct, frozen=True):
    """For each URL: empty, or what is wrong, in words that hold nothing of the URL."""

    faults: tuple[str, ...]


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it for as long as the sending lasts."""
        self.texts.append(record.getMessage())


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What apprise logs meanwhile: it gives no reasons otherwise."""
    kept, logger = _Kept(), logging.getLogger("apprise")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(kept)
    try:
        yield kept.texts
    finally:
        logger.removeHandler(kept)


def asset() -> apprise.AppriseAsset:
    """apprise without files, plugins, templates and redirects to other places."""
    made = apprise.AppriseAsset(
        plugin_paths=[],
        storage_mode="memory",
        allow_templates=False,
        secure_logging=True,
        service_timeout=SERVICE_S,
    )
    made.http_redirects = False
    made.pgp_autogen = made.pem_autogen = False
    made.async_mode = False
    made.app_id = made.app_desc = "jobledger"
    return made


def perform(task: Task) -> Done:
    """Do what a task says."""
    return Done(tuple(_one(url, task) for url in task.urls))


def _one(url: str, task: Task) -> str:
    with _listening() as heard:
        try:
            plugin = apprise.Apprise.instantiate(url, asset=asset())
            if plugin is None:
                return "apprise does not understand this URL"
            if task.do == "check":
                return ""
            return "" if _sent(plugin, task) else _why("\n".join(heard))
        except Exception as error:
            return f"apprise failed: {type(error).__name__}"


def _sent(plugin: apprise.NotifyBase, task: Task) -> bool:
    scheme = plugin.schema
    if scheme in ("mailto", "mailtos"):
        plugin.notify_format = apprise.NotifyFormat.TEXT
        plugin.headers["X-Jobledger-Notice"] = task.notice  # type: ignore[attr-defined]
    if scheme not in _WHOLE:
        plugin.overflow_mode = apprise.OverflowMode.SPLIT
    sender = apprise.Apprise(asset=plugin.asset)
    sender.add(plugin)
    text = apprise.NotifyFormat.TEXT
    return bool(sender.notify(body=task.body, title=task.title, body_format=text))


_REASONS = (
    (r"Connection refused", "nobody listens there"),
    (r"Name or service not known|getaddrinfo|NameResolution|name resolution", "no such host"),
    (r"timed? ?out|TIMEOUT", "it did not answer in time"),
    (r"CERTIFICATE|SSL", "its certificate, or its TLS, is not good"),
    (r"Connection error|Socket Exception", "it could not be reached"),
)


def _why(heard: str) -> str:
    """Why it was not taken: a few words of ours, for what apprise says may repeat the URL."""
    if code := re.search(r"error=(\d{3})\b", heard):
        return f"it answered {code[1]}"
    if code := re.search(r"(?:Exception: |: )\(([45]\d\d), ", heard):
        return f"its mail server answered {code[1]}"
    for pattern, words in _REASONS:
        if re.search(pattern, heard, re.IGNORECASE):
            return words
    return "it did not take the message"


def main() -> None:
    """Do tasks until there are no more."""
    decode, encode = msgspec.json.Decoder(Task).decode, msgspec.json.Encoder().encode
    for line in sys.stdin.buffer:
        answer = encode(perform(decode(line)))
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
