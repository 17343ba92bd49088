"""What other people wrote, made safe to show: on a terminal, in a mail, in a log line."""

import re

# Control characters, line and direction separators, zero-width and direction-changing characters,
# lone surrogates: what could move the cursor, hide a text or turn it round.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
_UNSAFE_BUT_LAYOUT = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def _code(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def line(text: str) -> str:
    """A text on one line, with everything that a terminal would obey written as its code."""
    return _UNSAFE.sub(_code, text)


def lines(text: str) -> str:
    """A text of several lines: newlines and tabs stay."""
    return _UNSAFE_BUT_LAYOUT.sub(_code, text)


def escaped(json_text: str) -> str:
    """JSON with nothing in it that a terminal would obey, its layout kept.

    json writes the control characters below space itself; the others stand only within strings.
    """
    return _UNSAFE_BUT_LAYOUT.sub(lambda found: f"\\u{ord(found.group()):04x}", json_text)
