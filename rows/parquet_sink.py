"""Writing Parquet, by pyarrow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from rows.columns import Kind
from rows.parquet_source import ParquetSource
from rows.pyarrow import pa
from wire.values import dump

_BATCH_ROWS, _BATCH_BYTES = 4096, 8 << 20
_GROUP_ROWS, _GROUP_BYTES = 65_536, 32 << 20
Cells = Sequence[Any]


def write_parquet(file: BinaryIO, kinds: Mapping[str, Kind], rows: Iterable[Cells]) -> None:
    """`rows`, each with a value for every column of `kinds`. What is held is bounded in rows and in bytes."""
    schema = _schema(kinds)
    with pa.parquet.ParquetWriter(file, schema) as writer:
        groups = _Groups(writer, schema)
        for some in _portions(kinds, enumerate(rows)):
            groups.add(_arrays(kinds, [cells for _, cells in some]))
        groups.write()


def write_beside(
    file: BinaryIO,
    source: ParquetSource,
    keep: Sequence[str],
    kinds: Mapping[str, Kind],
    rows: Iterable[tuple[int, Cells]],
) -> None:
    """The columns `keep` of `source` in their own types, and beside them those of `kinds`. Each of `rows`
    says the place of its row in the source (from 0, ascending); rows without one are left out."""
    schema = pa.schema([*(source.schema.field(name) for name in keep), *_schema(kinds)])
    following, offset = _Ahead(rows), 0
    with pa.parquet.ParquetWriter(file, schema) as writer:
        groups = _Groups(writer, schema)
        for batch in source.batches():
            for some in _portions(kinds, following.below(offset + batch.num_rows)):
                taken = batch.take(pa.array([place - offset for place, _ in some], pa.int64()))
                beside = _arrays(kinds, [cells for _, cells in some])
                groups.add([*(taken.column(name) for name in keep), *beside])
            offset += batch.num_rows
        groups.write()


class _Ahead:
    """Rows by place, read no further than asked for."""

    def __init__(self, rows: Iterable[tuple[int, Cells]]) -> None:
        self._rows = iter(rows)
        self._next = next(self._rows, None)

    def below(self, end: int) -> Iterator[tuple[int, Cells]]:
        while self._next is not None and self._next[0] < end:
            yield self._next
            self._next = next(self._rows, None)


class _Groups:
    """Gathers batches into row groups: small ones make a file slow to read."""

    def __init__(self, writer: Any, schema: Any) -> None:
        self._writer, self._schema = writer, schema
        self._batches: list[Any] = []

    def add(self, arrays: Sequence[Any]) -> None:
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        rows = sum(batch.num_rows for batch in self._batches)
        if rows >= _GROUP_ROWS or sum(batch.nbytes for batch in self._batches) >= _GROUP_BYTES:
            self.write()

    def write(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, self._schema), _GROUP_ROWS)
            self._batches = []


def _schema(kinds: Mapping[str, Kind]) -> Any:
    types = {"boolean": pa.bool_(), "number": pa.float64(), "large integer": pa.uint64()}
    types |= dict.fromkeys(("integer", "long integer"), pa.int64())
    return pa.schema([(name, types.get(kind, pa.string())) for name, kind in kinds.items()])


def _portions(
    kinds: Mapping[str, Kind], rows: Iterable[tuple[int, Cells]]
) -> Iterator[list[tuple[int, Cells]]]:
    """As many rows as go into a batch, written as their columns want them."""
    some: list[tuple[int, Cells]] = []
    size = 0
    for place, row in rows:
        cells = [_written(cell, kind) for cell, kind in zip(row, kinds.values(), strict=True)]
        some.append((place, cells))
        size += sum(len(cell) for cell in cells if isinstance(cell, str))
        if len(some) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _written(cell: Any, kind: Kind) -> Any:
    return dump(cell).decode() if kind == "json" and cell is not None else cell


def _arrays(kinds: Mapping[str, Kind], rows: Sequence[Cells]) -> list[Any]:
    return [pa.array([row[n] for row in rows], field.type) for n, field in enumerate(_schema(kinds))]
