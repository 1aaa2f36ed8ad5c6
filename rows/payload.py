"""Which part of a row is its payload."""

from collections.abc import Callable, Sequence
from typing import Any

Pick = Callable[[Any], Any]


class NoPayload(ValueError):
    """A row has none; the text says what is missing."""


def names_of(text: str | None) -> tuple[str, ...] | None:
    """`a,b` as names; None for None. Raises ValueError for an empty name, or one that is there twice."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or len(set(names)) < len(names):
        raise ValueError(f"{text!r}: expected names of columns with commas between, each once")
    return names


def check_names(names: Sequence[str] | None, columns: Sequence[str] | None, path: str) -> None:
    """Raises ValueError where `path` is a table and has no column of such a name."""
    for name in names or ():
        if columns is not None and name not in columns:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(columns)}")


def picker(names: Sequence[str] | None) -> Pick:
    """Makes payloads of rows: an object of these fields, or, without names, the row itself.

    What it returns raises NoPayload for a row that is no object or lacks one of them.
    """
    if names is None:
        return lambda value: value

    def pick(value: Any) -> Any:
        if not isinstance(value, dict):
            raise NoPayload(f"is {type(value).__name__}; expected an object with {', '.join(names)}")
        try:
            return {name: value[name] for name in names}
        except KeyError as error:
            raise NoPayload(f"has no field {error.args[0]!r}; expected {', '.join(names)}") from None

    return pick
