"""The fields of a request: each is what the contract says, or is refused by name."""

import difflib
from collections.abc import Sequence
from typing import Any

from wire.errors import InvalidRequest

_LARGEST = 1e308
_LATEST = 1e11  # Unix seconds of the year 5138: what lies beyond is milliseconds


def flag(fields: dict[str, Any], name: str, default: bool = False) -> bool:
    """A boolean. Raises InvalidRequest."""
    value = fields.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} is {kind(value)}; expected true or false")
    return value


def text(fields: dict[str, Any], name: str, longest: int) -> str | None:
    """A string, where there is one. Raises InvalidRequest."""
    if name not in fields:
        return None
    value = fields[name]
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is {kind(value)}; expected a string")
    if len(value) > longest:
        raise InvalidRequest(f"{name} has {len(value)} characters; at most {longest} are taken")
    return value


def seconds(fields: dict[str, Any], name: str, *, above: bool = False) -> float | None:
    """A number of seconds from 0 on, or, with `above`, above 0. Raises InvalidRequest."""
    if name not in fields:
        return None
    expected = f"expected a number of seconds {'above 0' if above else 'from 0 on'}"
    value = number(fields[name], name, expected)
    if value < 0 or (above and value == 0):
        raise InvalidRequest(f"{name} is {fields[name]}; {expected}")
    return value


def deadline(fields: dict[str, Any]) -> float | None:
    """A moment in Unix seconds. Raises InvalidRequest."""
    if "deadline" not in fields:
        return None
    expected = "expected Unix seconds, such as 1767225600.5"
    value = number(fields["deadline"], "deadline", expected)
    if value >= _LATEST:
        raise InvalidRequest(f"deadline is {value:g}, which looks like milliseconds; {expected}")
    if value <= 0:
        raise InvalidRequest(f"deadline is {value:g}; {expected}")
    return value


def number(value: Any, name: str, expected: str) -> float:
    """`value` as a float, for what JSON calls a number. Raises InvalidRequest.

    Headers come by other ways than JSON: they may hold NaN, and integers of any length.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(f"{name} is {kind(value)}; {expected}")
    if not -_LARGEST < value < _LARGEST:
        raise InvalidRequest(f"{name} is not a number that can be meant; {expected}")
    return float(value)


def nearest(name: str, known: Sequence[str]) -> str:
    """`; did you mean …?` where one of `known` is near, else the whole list of them."""
    # Only the beginning is compared: the matcher is quadratic, and a hostile name may be a megabyte long.
    near = difflib.get_close_matches(name[:64], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; expected one of {', '.join(known)}"


def kind(value: Any) -> str:
    """What JSON calls the type of `value`."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
