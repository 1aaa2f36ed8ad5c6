"""Between the cells of a CSV file, which are text, and JSON values.

An empty cell is null, and empty text is written `""`: the csv module of Python 3.11 knows no difference.
"""

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

from wire.errors import InvalidRequest
from wire.values import dump, parse

Type = Literal["text", "integer", "number", "boolean", "json"]
_BOOLEANS = {"true": True, "false": False}
_SPECIAL = re.compile(r'[",\t\r\n]')


def types_of(text: str | None) -> dict[str, Type]:
    """`name:type,…` as types by column; none for None. Raises ValueError."""
    types: dict[str, Type] = {}
    for part in () if text is None else text.split(","):
        name, colon, kind = part.strip().rpartition(":")
        if not colon or not name or kind not in get_args(Type):
            expected = f"expected COLUMN:TYPE with a type of {', '.join(get_args(Type))}"
            raise ValueError(f"types: {part.strip()!r}; {expected}")
        types[name] = kind  # type: ignore[assignment]  # just looked up
    return types


def read_cell(text: str, kind: Type) -> Any:
    """The value of a cell that is not empty. Raises ValueError that says what was expected."""
    try:
        return _READERS[kind](text)
    except (ValueError, KeyError):
        raise ValueError(f"{text[:40]!r}; expected {kind}") from None


def write_cell(value: Any) -> str:
    """A value as a cell: what is no text is JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else dump(value).decode()
    if text == "" or _SPECIAL.search(text) or text[0] == " " or text[-1] == " ":
        return '"' + text.replace('"', '""') + '"'
    return text


def _integer(text: str) -> int:
    value = _json(text)
    if type(value) is not int:
        raise ValueError
    return value


def _number(text: str) -> float:
    value = _json(text)
    if type(value) not in (int, float):
        raise ValueError
    return float(value) if isinstance(value, float) else value


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.lower()]


def _json(text: str) -> Any:
    try:
        return parse(text.encode(), "cell")
    except InvalidRequest as error:
        raise ValueError from error


_READERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "json": _json,
}
