"""Parquet, by pyarrow. Values are what JSON can hold: dates, times and decimals are text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rows.pyarrow import pa
from rows.row import Row

_BATCH_ROWS = 4096


class ParquetSource:
    """An object a row. With `wanted`, of these columns only: others are not read, and may hold anything."""

    is_stream = False

    def __init__(self, path: str, wanted: frozenset[str] | None = None) -> None:
        self.path, self._wanted = path, wanted

    @property
    def columns(self) -> list[str]:
        """See Source."""
        with self._opened() as file:
            return list(file.schema_arrow.names)

    @property
    def schema(self) -> Any:
        """The arrow schema of all columns. Raises ValueError, OSError."""
        with self._opened() as file:
            return file.schema_arrow

    def rows(self) -> Iterator[Row]:
        """See Source."""
        number = 0
        for batch in self.batches(is_json=True):
            plain = pa.RecordBatch.from_arrays(
                [_plain(column) for column in batch.columns], batch.schema.names
            )
            for value in plain.to_pylist():
                number += 1
                yield Row(number, value)

    def batches(self, *, is_json: bool = False) -> Iterator[Any]:
        """Record batches of the wanted columns, in the order of the file. With `is_json`, a ValueError where
        one of them holds what JSON cannot. Raises ValueError, OSError."""
        with self._opened() as file:
            names = [name for name in file.schema_arrow.names if self._wanted is None or name in self._wanted]
            if not names:  # batches of no columns have no rows either
                names = file.schema_arrow.names[:1]
            if is_json:
                for name in names:
                    _refuse(self.path, file.schema_arrow.field(name))
            try:
                yield from file.iter_batches(_BATCH_ROWS, columns=names, use_threads=False)
            except pa.ArrowException as error:
                raise OSError(f"{self.path}: {error}") from None

    def count(self) -> int:
        """See Source."""
        with self._opened() as file:
            return int(file.metadata.num_rows)

    def _opened(self) -> Any:
        try:
            file = pa.parquet.ParquetFile(Path(self.path), pre_buffer=False)
        except pa.ArrowException as error:
            raise ValueError(f"{self.path} is no Parquet file: {error}") from None
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            file.close()
            raise ValueError(f"{self.path} has two columns of one name; it has {', '.join(names)}")
        return file


def _refuse(path: str, field: Any) -> None:
    """What is neither JSON nor text that everybody would write the same. Raises ValueError."""
    if not (_is_texted(field.type) or _is_json(field.type)):
        raise ValueError(
            f"{path}: column {field.name!r} is {field.type}, which JSON cannot carry; "
            f"leave it out by naming the others (--payload, --keep)"
        )


def _is_json(kind: Any) -> bool:
    if pa.types.is_nested(kind) and kind.num_fields:
        return all(_is_json(kind.field(n).type) for n in range(kind.num_fields))
    if pa.types.is_dictionary(kind):
        return _is_json(kind.value_type) or _is_texted(kind.value_type)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(is_text or is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _is_texted(kind: Any) -> bool:
    return bool(pa.types.is_temporal(kind) or pa.types.is_decimal(kind))


def _plain(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    return pa.compute.cast(column, pa.string()) if _is_texted(column.type) else column
