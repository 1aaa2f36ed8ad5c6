"""What `map_frame` asks of a frame, for each library that makes them. Neither is imported before there is a
frame of it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from producer.plain import all_hold, plain, with_nanoseconds, without_nan


class Table(Protocol):
    """A frame of one library."""

    @property
    def names(self) -> list[Any]:
        """Of its columns; a name may be there twice."""

    def column(self, name: str) -> list[Any]:
        """JSON values from top to bottom; missing ones are None. Raises ValueError."""

    def plus(self, results: Mapping[str, list[Any]], others: Mapping[str, list[Any]]) -> Any:
        """A new frame with these columns behind its own: `results` of JSON values, `others` of text, but for
        `age_seconds`."""


def table_of(frame: Any) -> Table:
    """`frame` as a Table. Raises TypeError for anything but a Polars or pandas DataFrame."""
    for kind in type(frame).__mro__:
        library = kind.__module__.partition(".")[0]
        if (library, kind.__name__) in _TABLES:
            found: Table = _TABLES[library, kind.__name__](frame)
            return found
        if (library, kind.__name__) == ("polars", "LazyFrame"):
            raise TypeError("expected a DataFrame; got a LazyFrame: collect() it first")
    raise TypeError(f"expected a Polars or pandas DataFrame; got {type(frame).__name__}")


def _plain_column(name: str, values: Sequence[Any]) -> list[Any]:
    found = []
    for number, value in enumerate(values):
        try:
            found.append(plain(value))
        except ValueError as error:
            raise ValueError(f"column {name!r}, row {number} (from 0) is {error}") from None
    return found


class PolarsTable:
    """See Table. A NaN is a number there, not a missing one."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @property
    def names(self) -> list[Any]:
        """See Table."""
        return list(self._frame.columns)

    def column(self, name: str) -> list[Any]:
        """See Table."""
        return _plain_column(name, _polars_cells(self._frame.get_column(name)))

    def plus(self, results: Mapping[str, list[Any]], others: Mapping[str, list[Any]]) -> Any:
        """See Table. Results that have no type in common are JSON text."""
        import polars as pl

        made = [_polars_results(name, values) for name, values in results.items()]
        for name, values in others.items():
            made.append(pl.Series(name, values, dtype=pl.Float64 if name == "age_seconds" else pl.String))
        return self._frame.with_columns(made)


def _polars_cells(series: Any) -> list[Any]:
    """Its values; a time that has more digits than Python's, to whatever depth, is ISO 8601 text with nine of
    them: cut off, two rows would have one payload and share an answer."""
    import polars as pl

    kind = series.dtype
    if not _has_nanoseconds(kind):
        cells: list[Any] = series.to_list()
        return cells
    if isinstance(kind, pl.List | pl.Array):
        return [None if cell is None else _polars_cells(cell) for cell in series]
    if isinstance(kind, pl.Struct):
        names = [field.name for field in kind.fields]
        columns = [_polars_cells(series.struct.field(name)) for name in names]
        rows = zip(*columns, strict=True) if columns else [()] * len(series)
        gone = series.is_null().to_list()
        return [
            None if no else dict(zip(names, row, strict=True)) for no, row in zip(gone, rows, strict=True)
        ]
    counts = series.to_physical().to_list()
    return [with_nanoseconds(cell, count) for cell, count in zip(series.to_list(), counts, strict=True)]


def _has_nanoseconds(kind: Any) -> bool:
    import polars as pl

    if isinstance(kind, pl.List | pl.Array):
        return _has_nanoseconds(kind.inner)
    if isinstance(kind, pl.Struct):
        return any(_has_nanoseconds(field.dtype) for field in kind.fields)
    return kind == pl.Time or (isinstance(kind, pl.Datetime) and kind.time_unit == "ns")


def _polars_results(name: str, values: list[Any]) -> Any:
    import polars as pl

    texts = [None if value is None else orjson.dumps(value).decode() for value in values]
    column = pl.Series(name, texts, dtype=pl.String)
    # A Series of the values themselves takes its type from the first and drops what later ones have more:
    # members of objects, and fractions of numbers in lists. Decoding looks at all, and may still change some.
    try:
        typed = column.str.json_decode(infer_schema_length=None)
    except pl.exceptions.PolarsError:
        return column
    return typed if all_hold(typed.to_list(), values) else column


class PandasTable:
    """See Table. NaN is how pandas writes what is missing."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @property
    def names(self) -> list[Any]:
        """See Table."""
        return list(self._frame.columns)

    def column(self, name: str) -> list[Any]:
        """See Table."""
        column = self._frame[name]
        missing = column.isna().tolist()
        values = [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)]
        return [without_nan(value) for value in _plain_column(name, values)]

    def plus(self, results: Mapping[str, list[Any]], others: Mapping[str, list[Any]]) -> Any:
        """See Table. Results that have no type in common stay the objects they are."""
        made = {name: self._results(values) for name, values in results.items()}
        for name, values in others.items():
            made[name] = self._series(values, "float64" if name == "age_seconds" else "object")
        return self._frame.assign(**made)

    def _results(self, values: list[Any]) -> Any:
        column = self._series(values, "object")
        present = {type(value) for value in values if value is not None}
        if present == {int} and None in values:  # beside a failed row, int64 would become float64
            fit = all(value is None or -(2**63) <= value < 2**63 for value in values)
            return column.astype("Int64") if fit else column
        typed = column.infer_objects()
        return typed if all_hold(typed.tolist(), values) else column

    def _series(self, values: list[Any], dtype: str) -> Any:
        import pandas as pd

        return pd.Series(values, index=self._frame.index, dtype=dtype)


_TABLES: dict[tuple[str, str], Any] = {
    ("polars", "DataFrame"): PolarsTable,
    ("pandas", "DataFrame"): PandasTable,
}
