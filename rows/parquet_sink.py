"""Writing Parquet, by pyarrow."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

import orjson

from rows.columns import Kind
from rows.parquet_source import ParquetSource
from rows.pyarrow import pa

_BATCH_ROWS = 4096


def write_parquet(file: BinaryIO, kinds: Mapping[str, Kind], rows: Iterable[Sequence[Any]]) -> None:
    """`rows`, each with a value for every column of `kinds`."""
    schema = _schema(kinds)
    with pa.parquet.ParquetWriter(file, schema) as writer:
        for some in _batches(rows):
            writer.write_batch(pa.RecordBatch.from_arrays(_arrays(kinds, some), schema=schema))


def write_beside(
    file: BinaryIO,
    source: ParquetSource,
    keep: Sequence[str],
    kinds: Mapping[str, Kind],
    rows: Iterable[tuple[int, Sequence[Any]]],
) -> None:
    """The columns `keep` of `source` in their own types, and beside them those of `kinds`. Each of `rows`
    says the place of its row in the source (from 0, ascending); rows without one are left out."""
    kept = [source.schema.field(name) for name in keep]
    schema = pa.schema([*kept, *_schema(kinds)])
    following, offset = iter(rows), 0
    pending = next(following, None)
    with pa.parquet.ParquetWriter(file, schema) as writer:
        for batch in source.batches():
            end, places, values = offset + batch.num_rows, list[int](), list[Sequence[Any]]()
            while pending is not None and pending[0] < end:
                places.append(pending[0] - offset)
                values.append(pending[1])
                pending = next(following, None)
            offset = end
            taken = batch.take(pa.array(places, pa.int64()))
            arrays = [*(taken.column(name) for name in keep), *_arrays(kinds, values)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _schema(kinds: Mapping[str, Kind]) -> Any:
    types = {
        "boolean": pa.bool_(),
        "integer": pa.int64(),
        "large integer": pa.uint64(),
        "number": pa.float64(),
    }
    return pa.schema([(name, types.get(kind, pa.string())) for name, kind in kinds.items()])


def _batches(rows: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    remaining = iter(rows)
    while some := list(islice(remaining, _BATCH_ROWS)):
        yield some


def _arrays(kinds: Mapping[str, Kind], rows: Sequence[Sequence[Any]]) -> list[Any]:
    columns = zip(*rows, strict=True) if rows else ([] for _ in kinds)
    schema = _schema(kinds)
    return [
        pa.array([_json(v) for v in column] if kind == "json" else list(column), schema.field(n).type)
        for n, (column, kind) in enumerate(zip(columns, kinds.values(), strict=True))
    ]


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()
