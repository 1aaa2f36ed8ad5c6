"""Whether the values of a field look made by a machine for one row, such as a time or a number, or may be
what a model reads."""

import re
from collections.abc import Sequence
from typing import Any

# The only one of these that may hold a space.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?( ?(Z|UTC|[+-]\d\d:?(\d\d)?))?)?", re.IGNORECASE
)
_HEX = re.compile(r"\{?[0-9a-f]+(-[0-9a-f]+)*\}?", re.IGNORECASE)  # a UUID, too
# No slash and no @: addresses of pictures and people are read by models.
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+=#-]{0,63}")
_DIGIT = re.compile(r"\d")
_WITH_DIGITS = 0.5  # of the tokens at least: without any they are words


def looks_volatile(values: Sequence[Any]) -> bool:
    """Whether each of these is a number, an ISO time or date, a UUID, hexadecimal, or a short token without
    spaces; nulls do not count. Words, free text, lists and objects do not look so, whatever they hold."""
    known = [value for value in values if value is not None]
    texts = [value for value in known if isinstance(value, str)]
    if not known or not all(_is_shaped(value) for value in known):
        return False
    return sum(1 for text in texts if _DIGIT.search(text)) >= _WITH_DIGITS * len(texts)


def _is_shaped(value: Any) -> bool:
    if isinstance(value, str):
        return any(shape.fullmatch(value) for shape in (_TIME, _HEX, _TOKEN))
    return isinstance(value, int | float) and not isinstance(value, bool)
