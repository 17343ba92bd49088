"""Array indices as users write them: `0-9`, `1-100:5`, `3,7,20-29`."""

from ledger.domain.errors import Malformed

MAX_TASKS = 10_000
MAX_INDEX = 4_000_000


def indices(text: str) -> list[int]:
    """The indices `text` lists, in its order. Raises `Malformed` for anything else than a list of
    distinct numbers and ranges, at most `MAX_TASKS` of them."""
    found: list[int] = []
    for piece in text.split(","):
        span, _, step_text = piece.partition(":")
        low_text, dash, high_text = span.partition("-")
        low = _number(low_text, text)
        high = _number(high_text, text) if dash else low
        step = _number(step_text, text) if ":" in piece else 1
        if high < low or step < 1:
            raise _bad(text)
        if len(found) + (high - low) // step + 1 > MAX_TASKS:
            raise Malformed(f"An array may have at most {MAX_TASKS} tasks; {text!r} has more.")
        found.extend(range(low, high + 1, step))
    if len(set(found)) != len(found):
        raise Malformed(f"The array {text!r} names an index twice.")
    return found


def _number(text: str, whole: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 7 or int(text) > MAX_INDEX:
        raise _bad(whole)
    return int(text)


def _bad(text: str) -> Malformed:
    return Malformed(
        f"{text!r} is not a list of array indices.",
        hint=f"Write it like 0-9, 1-100:5 or 3,7,20-29; indices go up to {MAX_INDEX}.",
    )
