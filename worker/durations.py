"""Spans and moments of time as people say them, and spans as people write them."""

import re
from datetime import UTC, datetime

_UNITS = {"d": 86_400, "h": 3_600, "m": 60}
_SAID = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_LATEST = 253_402_300_799  # the last second of the year 9999
_WRITTEN = re.compile(r"([1-9]\d{0,5})([mhd])")


def span(seconds: float) -> str:
    """`seconds` in its two largest units, such as `6 d 2 h`; below a second in milliseconds."""
    if seconds < 1:
        return "under 1 ms" if 0 < seconds < 0.001 else f"{max(0.0, seconds) * 1000:.0f} ms"
    left, said = round(seconds), list[str]()
    for size, unit in _SAID:
        count, left = divmod(left, size)
        if count or said:
            said.append(f"{count} {unit}" if count else "")
        if len(said) == 2:
            break
    return " ".join(part for part in said if part)


def ago(seconds: float) -> str:
    """How long ago."""
    return f"{span(seconds)} ago"


def moment(when: float) -> str:
    """Unix seconds as UTC, to the minute."""
    return datetime.fromtimestamp(min(when, _LATEST), UTC).strftime("%Y-%m-%d %H:%M UTC")


def written(text: str) -> int | None:
    """The seconds of a span such as `90m`, `24h` or `7d`; None where it is none."""
    found = _WRITTEN.fullmatch(text)
    return None if found is None else int(found[1]) * _UNITS[found[2]]
