"""Between the cells of a frame and JSON values."""

import datetime
import decimal
import uuid
from collections.abc import Sequence
from typing import Any

_AS_IT_IS = frozenset({str, int, float, bool, type(None)})
_EXPECTED = "expected text, a number, a truth value, a date or time, a list or an object of them; cast it"


def plain(value: Any) -> Any:
    """`value` as JSON has it.

    Dates and times become ISO 8601 text, decimals text with all their digits, UUIDs text; numpy's numbers and
    arrays what they hold; NaT and NA null. NaN stays: who sends it refuses it. Raises ValueError for anything
    else (bytes, durations), and for an object with a key that is no text.
    """
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, dict):
        return {_name(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "dtype"):
        return _of_numpy(value)
    return _of_one(value)


def without_nan(value: Any) -> Any:
    """A JSON value with null for each NaN: for a library that writes so what is missing."""
    if isinstance(value, dict):
        return {name: without_nan(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if value != value else value


def with_nanoseconds(value: Any, count: int | None) -> Any:
    """A time, or a date with one, whose nanoseconds `count` has: text where `value` cannot hold them."""
    rest = 0 if count is None else count % 1000
    if not rest:
        return value
    text = value.isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{rest:03d}{text[end:]}"


def _name(name: Any) -> str:
    if isinstance(name, str):
        return name
    raise ValueError(f"an object with the key {name!r}; expected text")


def _of_numpy(value: Any) -> Any:
    kind = getattr(value.dtype, "kind", "")
    if getattr(value, "shape", None):
        return [plain(item) for item in value]
    if kind == "M":  # `item` would make an integer of nanoseconds
        text = str(value)
        return None if text == "NaT" else text
    if kind in "biufU":
        return value.item()
    raise ValueError(f"{type(value).__name__}; {_EXPECTED}")


def _of_one(value: Any) -> Any:
    if type(value).__name__ in ("NAType", "NaTType"):  # known without pandas
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise ValueError(f"the decimal {value}, which JSON cannot carry; make it null")
        return format(value, "f")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):  # of a class of its own, such as an Enum's
        return str.__str__(value)
    raise ValueError(f"{type(value).__name__}; {_EXPECTED}")


def holds(made: Any, value: Any) -> bool:
    """Whether `made`, what a column gives back, still is `value`.

    True only where no number lost digits, nothing became text, a truth value, or a number; members that only
    other rows have are null.
    """
    if isinstance(value, dict):
        if not isinstance(made, dict) or not value.keys() <= made.keys():
            return False
        return all(holds(item, value.get(name)) for name, item in made.items())
    if isinstance(value, list):
        return isinstance(made, list) and all_hold(made, value)
    if value is None:
        return made is None or bool(made != made)
    if isinstance(value, bool | str):
        return type(made) is type(value) and made == value
    return type(made) in (int, float) and bool(made == value)


def all_hold(made: Sequence[Any], values: Sequence[Any]) -> bool:
    """`holds` for columns, which must be of the same length."""
    return len(made) == len(values) and all(map(holds, made, values))
