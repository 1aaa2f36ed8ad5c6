"""One row of a file."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row that could be read. `number` is the line where it begins, or, where a file has no lines, its
    place, from 1. `value` is JSON: whatever a line holds, or an object of a table's columns."""

    number: int
    value: Any


class BadRow(NamedTuple):
    """A row that could not. `text` is what stands there, as far as it can be shown."""

    number: int
    problem: str
    text: str | None = None
