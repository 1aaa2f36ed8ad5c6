"""The columns of a table that is made from JSON: which there are, and what each holds."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

Kind = Literal[
    "null", "boolean", "integer", "long integer", "large integer", "number", "text", "json"
]  # integers: those that a float holds, all of 64 bits with a sign, those beyond

_MOST = 1000
_INT64_MAX, _FLOAT_EXACT = 2**63 - 1, 2**53


class Columns:
    """Learns from each row. Raises ValueError for more than 1,000 columns besides those that were known: that
    is no table."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.kinds: dict[str, Kind] = dict.fromkeys(names, "null")
        self._most = len(self.kinds) + _MOST

    def see(self, cells: Iterable[tuple[str, Any]]) -> None:
        """One more row."""
        for name, value in cells:
            before = self.kinds.get(name)
            self.kinds[name] = _kind(value) if before is None else _common(before, _kind(value))
            if before is None and len(self.kinds) > self._most:
                raise ValueError(
                    f"there are more than {_MOST} columns; keep fewer, or do not flatten the results"
                )


def flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The fields of an object, those within it with a dot between; what is none, or is empty, as it is. A
    field with a dot in its own name is in quotes: else two might have one name."""
    if not isinstance(value, Mapping) or not value:
        yield name, value
        return
    for inner, item in value.items():
        yield from flat(item, f'{name}."{inner}"' if "." in inner or '"' in inner else f"{name}.{inner}")


def _kind(value: Any) -> Kind:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        if abs(value) <= _FLOAT_EXACT:
            return "integer"
        return "long integer" if value <= _INT64_MAX else "large integer"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "json"


def _common(one: Kind, other: Kind) -> Kind:
    """What holds both without loss; JSON where nothing else does: no float holds every integer of 64 bits,
    and no integer of 64 bits both signs and what is above 2^63."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if {one, other} == {"integer", "number"}:
        return "number"
    if {one, other} == {"integer", "long integer"}:
        return "long integer"
    return "json"
