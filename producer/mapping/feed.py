"""The payloads of a run, and which row each reply belongs to."""

import math
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from producer.lines import refusal
from rows.payload import NoPayload, Pick
from rows.row import BadRow, Row
from rows.source import Source
from wire.reply import Reply
from wire.values import dump


class _Origin(NamedTuple):
    """Of a payload under way: where its row stands (`place` counts rows from 0, `number` is its line), what
    it carries along, what was read, and what is wrong."""

    place: int
    number: int
    kept: dict[str, Any] | None
    read: Any
    problem: str | None


Keep = Callable[[Any], dict[str, Any] | None]


class Feed:
    """Iterates over the payloads of rows that `wants` (told the index from 0, and what was read). A row that
    has none becomes NaN, which fails in its place.

    `seen` counts the rows that were wanted or skipped, `sent` the payloads. With `recent`, only so many of
    the last payloads can be asked about: for who hears of a row at once or never.
    """

    def __init__(
        self,
        source: Source,
        pick: Pick,
        keep: Keep = lambda _: None,
        wants: Callable[[int, Any], bool] = lambda _, __: True,
        *,
        recent: int | None = None,
    ) -> None:
        self._source, self._pick, self._keep, self._wants = source, pick, keep, wants
        self._origins: dict[int, _Origin] = {}
        self._recent = recent
        self.seen = self.sent = 0

    def __iter__(self) -> Iterator[Any]:
        for index, row in enumerate(self._source.rows()):
            self.seen += 1
            if self._wants(index, _read(row)):
                self._origins[self.sent], payload = self._origin(index, row)
                if self._recent is not None:
                    self._origins.pop(self.sent - self._recent, None)
                self.sent += 1
                yield payload

    def row(self, reply: Reply) -> dict[str, Any]:
        """What is written about the row that `reply` is the answer to."""
        origin = self._origins.pop(reply.index)
        if origin.problem is not None:
            reply = refusal(origin.problem, reply.index)
        row: dict[str, Any] = {"index": origin.place, "line": origin.number}
        if origin.kept is not None:
            row["row"] = origin.kept
        if not reply.ok:
            row["input"] = origin.read
        return {**row, **reply.as_dict()}

    def _origin(self, index: int, row: Row | BadRow) -> tuple[_Origin, Any]:
        """And the payload."""
        if isinstance(row, BadRow):
            return _Origin(index, row.number, None, row.text, row.problem), math.nan
        try:
            payload = self._pick(row.value)
            return _Origin(index, row.number, self._keep(row.value), row.value, None), payload
        except NoPayload as error:
            return _Origin(index, row.number, None, row.value, f"row {row.number} {error}"), math.nan


def _read(row: Row | BadRow) -> Any:
    return row.text if isinstance(row, BadRow) else row.value


def keeper(names: tuple[str, ...] | None, *, keeps: bool) -> Keep:
    """What a row carries along: these fields, null where it has none; all of an object, if None."""
    if not keeps:
        return lambda _: None
    if names is None:
        return lambda value: _finite(value) if isinstance(value, dict) else None
    return lambda value: _finite({name: value.get(name) for name in names} if isinstance(value, dict) else {})


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """What a Parquet file may hold, and JSON not: as text, since null would be another value."""
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            row = {**row, name: str(value)}
    return row


class Failed:
    """The rows of an errors file, by index. Raises ValueError for a file that is none, OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._prints: dict[int, bytes] = {}
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    self._add(number, line)

    def __len__(self) -> int:
        return len(self._prints)

    def has(self, index: int, read: Any) -> bool:
        """Whether the row is to be sent again. Raises ValueError where it is not what it was."""
        known = self._prints.get(index)
        if known is not None and known != _print(read):
            expected = "expected the same input, --types and columns"
            raise ValueError(f"row {index} of the input is not the one in {self._path}; {expected}")
        return known is not None

    def check_all_found(self, rows: int) -> None:
        """Raises ValueError where the input, which has so many rows, ended too early."""
        if self._prints and max(self._prints) >= rows:
            raise ValueError(f"{self._path} names row {max(self._prints)}, and the input has {rows} rows")

    def _add(self, number: int, line: bytes) -> None:
        try:
            row: Mapping[str, Any] = orjson.loads(line)
            self._prints[int(row["index"])] = _print(row["input"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            expected = "expected an object with index and input"
            raise ValueError(f"{self._path}: line {number} is no row of an errors file; {expected}") from None


def _print(value: Any) -> bytes:
    """What nests too deep to be written is null in an errors file, and so it is here."""
    try:
        text = dump(value, sort=True)
    except RecursionError:
        text = b"null"
    return blake2b(text, digest_size=16).digest()
