"""Finds the field that makes every row another payload, such as the time of an export.

The first rows, which are kept until then, tell which fields differ from row to row. What their absence would
bring is counted over all rows, with the keys that the changed setting would make: equal rows may be far
apart.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from wire.key import canonical
from worker.catalog import Model
from worker.plan.distinct import Distinct, Need
from worker.plan.shape import looks_volatile

Fields = tuple[str, ...]
_ROWS, _BYTES = 10_000, 32 << 20  # that are judged by, at most
_LEAST_ROWS = 10
_NEARLY_ALL = 0.95  # of the rows have a value of their own there
_COLLAPSED = 0.8  # of the keys are left without it, at most
_LEAST_KEYS = 3  # are left without it: fewer are no input of a model
_MOST_FIELDS = 6  # that are left out alone; all that look so are also left out together, however many
_MOST_PAIRED = 3  # of which two are left out together


class Volatile(NamedTuple):
    """Fields that differ in nearly every one of the first `judged_by` rows, how many keys all rows would have
    without them, and the line of the settings that leaves them out."""

    fields: Fields
    distinct: int
    judged_by: int
    setting: str


class Watcher:
    """Of one model's rows. `place` is an empty directory."""

    def __init__(self, model: Model, place: Path) -> None:
        self._model, self._place = model, place
        self._first: list[bytes] | None = []
        self._bytes = self._judged_by = 0
        self._without: dict[Fields, tuple[Model, Distinct]] = {}

    def add(self, payload: bytes) -> None:
        """One more row, in canonical form."""
        if self._first is None:
            self._count(payload)
            return
        self._first.append(payload)
        self._bytes += len(payload)
        if len(self._first) >= _ROWS or self._bytes >= _BYTES:
            self._judge(self._first)

    def found(self, distinct: int) -> Volatile | None:
        """After the last row: the fields without which there are far fewer than `distinct` keys."""
        if self._first is not None:
            self._judge(self._first)
        counts = {fields: counter.count()[0] for fields, (_, counter) in self._without.items()}
        fields = _best(counts, distinct)
        if fields is None:
            return None
        setting = self._without[fields][0].selection_line()
        return Volatile(fields, counts[fields], self._judged_by, setting)

    def _judge(self, rows: Sequence[bytes]) -> None:
        self._first, self._judged_by = None, len(rows)
        for number, fields in enumerate(suspects([orjson.loads(row) for row in rows], self._model)):
            place = self._place / str(number)
            place.mkdir()
            self._without[fields] = self._model.leaving_out(fields), Distinct(place)
        for row in rows:
            self._count(row)

    def _count(self, payload: bytes) -> None:
        for model, counter in self._without.values():
            counter.add(model.key(payload), Need.NOTHING)


def suspects(payloads: Sequence[Any], model: Model) -> list[Fields]:
    """What is worth leaving out of all rows: fields that look volatile and differ in nearly every one of
    these, some of them together, and all; or only those without which already these are far fewer."""
    selection = model.selection
    picked = [payload if selection is None else selection.pick(payload) for payload in payloads]
    found = [one for one in picked if isinstance(one, dict)]
    if len(found) < max(_LEAST_ROWS, _NEARLY_ALL * len(payloads)):
        return []
    rows = [_hashes(one) for one in found]
    names = list(dict.fromkeys(name for row in rows for name in row))
    differing = [
        name
        for name in names
        if _variety(rows, name) >= _NEARLY_ALL * len(rows)
        and looks_volatile([one[name] for one in found if name in one])
    ]
    keys = len({sum(row.values()) for row in rows})
    sets = [fields for fields in _together(differing) if len(names) > len(fields)]
    best = _best({fields: _without(rows, fields) for fields in sets}, keys)
    return sets if best is None else [best]


def _together(names: Sequence[str]) -> list[Fields]:
    """Each alone, two, all. A set that leaves one of them in helps only where that one differs less in later
    rows, so most of the other sets are not worth their counting."""
    alone = [(name,) for name in names[:_MOST_FIELDS]]
    return (
        list(dict.fromkeys([*alone, *combinations(names[:_MOST_PAIRED], 2), tuple(names)])) if names else []
    )


def _best(counts: dict[Fields, int], keys: int) -> Fields | None:
    """The fewest fields that leave far fewer keys, but not next to none."""
    most = _COLLAPSED * keys
    useful = [
        (len(fields), count, fields) for fields, count in counts.items() if _LEAST_KEYS <= count <= most
    ]
    return min(useful)[2] if useful else None


def _hashes(payload: dict[str, Any]) -> dict[str, int]:
    """A number for each field with its value; their sum stands for the whole."""
    return {name: hash((name, canonical(value))) for name, value in payload.items()}


def _variety(rows: Iterable[dict[str, int]], name: str) -> int:
    return len({row[name] for row in rows if name in row})


def _without(rows: Iterable[dict[str, int]], fields: Sequence[str]) -> int:
    return len({sum(row.values()) - sum(row.get(name, 0) for name in fields) for row in rows})
