"""What people write for durations, moments, jobs and nodes, and what it means.

Each function raises `BadWord`, a sentence that quotes the word and says how to write it.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

MAX_SECONDS = 10**9
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNIT_WORDS = {
    "second": "s",
    "sec": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "day": "d",
    "week": "w",
}
_PARTS = re.compile(r"(\d+)\s*([a-z]+)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_JOB = re.compile(r"[1-9]\d{0,15}(_\d{1,7})?")


class BadWord(ValueError):
    """A word on the command line or in a script that can't be understood."""


def duration(text: str, *, bare: int = 1) -> int:
    """Seconds in `90`, `2h30m`, `30:00`, `02:30:00`, `1-12`, `1-00:00:00`, `1-12:30`.

    A bare number counts units of `bare` seconds: 60 for time limits, as in Slurm. Of two parts the
    first are minutes, after days they are hours.
    """
    word = text.strip().lower()
    if word.isascii() and word.isdigit():
        return _bounded(int(word) * bare, text)
    if found := _units(word):
        return _bounded(found, text)
    days, dash, clock = word.rpartition("-")
    parts = clock.split(":")
    if not all(
        p.isascii() and p.isdigit() and len(p) <= 9 for p in [*parts, *([days] * bool(dash))]
    ):
        raise _bad_duration(text)
    numbers = [int(part) for part in parts]
    if dash and len(numbers) <= 3:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
        return _bounded(int(days) * 86_400 + hours * 3600 + minutes * 60 + seconds, text)
    if len(numbers) in (2, 3):
        hours, minutes, seconds = [0, *numbers][-3:]
        return _bounded(hours * 3600 + minutes * 60 + seconds, text)
    raise _bad_duration(text)


def _units(word: str) -> int | None:
    """Seconds in `2h30m` or `1hour`; None if it is not written that way."""
    if not word or _PARTS.sub("", word).strip():
        return None
    total = 0
    for number, unit in _PARTS.findall(word):
        short = _UNIT_WORDS.get(unit.removesuffix("s"), unit)
        if short not in _UNITS or len(number) > 10:
            return None
        total += int(number) * _UNITS[short]
    return total


def _bounded(seconds: int, text: str) -> int:
    if seconds > MAX_SECONDS:
        raise BadWord(f"{text!r} is longer than a duration may be ({MAX_SECONDS} seconds).")
    return seconds


def _bad_duration(text: str) -> BadWord:
    return BadWord(f"{text!r} is not a duration: write 90, 2h30m, 02:30:00 or 1-00:00:00.")


def shown_duration(seconds: float) -> str:
    """A duration as Slurm shows it: `2:30`, `1:02:30`, `1-00:00:00`."""
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{left:02}"
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def counted(number: int, noun: str) -> str:
    """How many there are of something: `1 job`, `1,200 jobs`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def moment(text: str, now: datetime, *, ahead: bool = False) -> datetime:
    """A moment in RFC 3339, or local: `2026-11-20T10:00`, `2026-11-20`, `10:00`, `-2h`, `now`.

    A time of day is the last such time, or with `ahead` the next. `now` has a time zone, which is
    what local means; `tomorrow`, `yesterday`, `today 10:00`, `tuesday` (the last one before today,
    or the next), `now+1hour` and `+2h` are understood too.
    """
    word = text.strip()
    lower = word.lower()
    if lower.startswith("now"):
        lower = lower[3:] or "+0"
    if lower[:1] in ("+", "-") and len(lower) > 1:
        try:
            seconds = duration(lower[1:])
        except BadWord:
            raise _bad_moment(text) from None
        return now + timedelta(seconds=seconds if lower[0] == "+" else -seconds)
    name, _, time = lower.removeprefix("last ").partition(" ")
    if (days := _days(name, now, ahead)) is not None:
        hour, minute, second = _clock(time or "0:00", text)
        day = now + timedelta(days=days)
        return _local(day.replace(hour=hour, minute=minute, second=second, microsecond=0), now)
    if clock := _CLOCK.fullmatch(word):
        return _time_of_day(clock, now, ahead, text)
    try:
        found = datetime.fromisoformat(word)
    except ValueError:
        raise _bad_moment(text) from None
    return found if found.tzinfo else _local(found, now)


def _days(name: str, now: datetime, ahead: bool) -> int | None:
    """How many days from today a day is that is named; None if none is."""
    fixed = {"yesterday": -1, "today": 0, "midnight": 1, "tomorrow": 1}
    if name in fixed or name not in _DAYS:
        return fixed.get(name)
    on = (_DAYS.index(name) - now.weekday()) % 7
    return (on or 7) if ahead else on - 7


def _clock(time: str, text: str) -> tuple[int, int, int]:
    """Hour, minute and second of a time of day in `text`."""
    found = _CLOCK.fullmatch(time.strip())
    hour, minute, second = (int(part or 0) for part in found.groups()) if found else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise _bad_moment(text)
    return hour, minute, second


def _time_of_day(clock: re.Match[str], now: datetime, ahead: bool, text: str) -> datetime:
    hour, minute, second = _clock(clock.group(), text)
    today = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    if ahead and today <= now:
        today += timedelta(days=1)
    elif not ahead and today > now:
        today -= timedelta(days=1)
    return _local(today, now)


def _local(wanted: datetime, now: datetime) -> datetime:
    """The moment at which a wall clock of here shows `wanted`: on another day summer time may hold.

    Only the machine's own zone knows its summer time; another zone of `now` is kept as it is.
    """
    naive = wanted.replace(tzinfo=None)
    if now.utcoffset() == now.astimezone().utcoffset():
        return naive.astimezone()
    return naive.replace(tzinfo=now.tzinfo)


def _bad_moment(text: str) -> BadWord:
    return BadWord(
        f"{text!r} is not a moment: write 2026-11-20T10:00, 2026-11-20, 10:00, -2h or now."
    )


def job_word(text: str) -> str:
    """A job as it is named: `17`, or `17_3` for a task of an array."""
    if not _JOB.fullmatch(text):
        raise _bad_job(text)
    return text


def job_words(texts: Iterable[str]) -> list[str]:
    """Jobs as they are named, each once: also several tasks of an array, `17_[0-9,20]`."""
    from ledger.nodenames import BadNodes, expand

    found: dict[str, None] = {}
    for text in texts:
        try:  # the tasks of an array are written like the nodes of a rack, but for the step
            names = expand(text.replace(":", "/")) if "[" in text else (text,)
        except BadNodes:
            raise _bad_job(text) from None
        found |= dict.fromkeys(map(job_word, names))
    return list(found)


def _bad_job(text: str) -> BadWord:
    return BadWord(
        f"{text!r} is not a job: write 17, or 17_3 for a task of an array, 17_[0-9] for several."
    )


def node_names(text: str) -> tuple[str, ...]:
    """The nodes of `n3,n[7-9]`, in order."""
    from ledger.nodenames import BadNodes, expand

    try:
        names = expand(text)
    except BadNodes as bad:
        raise BadWord(str(bad)) from None
    if not names:
        raise BadWord("No node is named.")
    return names


def shown_nodes(names: list[str]) -> str:
    """Node names folded, such as `n[1-3]`."""
    if len(names) < 2:
        return ",".join(names)
    from ledger.nodenames import folded

    return folded(names)
