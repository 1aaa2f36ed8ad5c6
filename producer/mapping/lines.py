"""JSON lines of rows."""

from typing import Any

from wire.values import dump


def row_line(row: dict[str, Any]) -> bytes:
    """A row with its newline; without what it carries along, and without what was read, where those nest too
    deep to be written at all."""
    try:
        return dump(row) + b"\n"
    except RecursionError:
        bare = {name: value for name, value in row.items() if name not in ("row", "input", "result")}
        return dump({**bare, "input": None, "result": None}) + b"\n"
