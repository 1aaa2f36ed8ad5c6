"""What makes two payloads differ, as paths."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from wire.key import Selection, canonical

WHOLE = "(whole)"
_Path = tuple[str | int, ...]


class Difference(NamedTuple):
    """A place where two payloads differ: its path, the JSON on either side (None where there is nothing), the
    top-level field it is in (None where that is the payload itself), and whether it is part of the key."""

    path: str
    first: str | None
    second: str | None
    field: str | None
    in_key: bool


def differences(first: Any, second: Any, selection: Selection | None) -> list[Difference]:
    """All places where these differ, which must come from orjson.loads. 1, 1.0 and true are different
    values, as they are in keys. Where one payload is no object they count whole."""
    are_objects = isinstance(first, dict) and isinstance(second, dict)
    pairs = _walk((), first, second) if are_objects else _leaf((), first, second)
    return [
        Difference(
            _shown(path), _json(left), _json(right), _field(path), not path or _is_in(path[0], selection)
        )
        for path, left, right in pairs
    ]


class _Nothing:
    """The place is only in the other payload."""


_Pair = tuple[_Path, Any, Any]


def _walk(path: _Path, first: Any, second: Any) -> Iterator[_Pair]:
    if isinstance(first, dict) and isinstance(second, dict):
        for name in sorted(first.keys() | second.keys()):
            yield from _walk((*path, name), first.get(name, _Nothing), second.get(name, _Nothing))
    elif isinstance(first, list) and isinstance(second, list):
        for at in range(max(len(first), len(second))):
            yield from _walk(
                (*path, at), *(one[at] if at < len(one) else _Nothing for one in (first, second))
            )
    else:
        yield from _leaf(path, first, second)


def _leaf(path: _Path, first: Any, second: Any) -> Iterator[_Pair]:
    if _json(first) != _json(second):
        yield path, first, second


def _json(value: Any) -> str | None:
    return None if value is _Nothing else canonical(value).decode()


def _field(path: _Path) -> str | None:
    return str(path[0]) if path else None


def _is_in(field: str | int, selection: Selection | None) -> bool:
    return selection is None or bool(selection.pick({field: 0}))


def _shown(path: _Path) -> str:
    """`a.b[0]`; a name that would not read so stands in quotes: `["a.b"]`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part.isidentifier():
            shown += f".{part}" if shown else part
        else:
            shown += f"[{canonical(part).decode()}]"
    return shown or WHOLE
