"""Which reader reads a file: its name says."""

import gzip
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO, Protocol

from rows.cells import Type
from rows.csv_source import CsvSource
from rows.json_source import JsonSource
from rows.row import BadRow, Row

_CSV = {".csv": ",", ".tsv": "\t"}


class Source(Protocol):
    """A file of rows, which may be read several times unless it `is_stream`."""

    path: str
    is_stream: bool

    @property
    def columns(self) -> list[str] | None:
        """The names of the columns; None where rows are whatever a line holds. Raises ValueError, OSError."""

    def rows(self) -> Iterator[Row | BadRow]:
        """All rows in their order; empty lines are none. One that cannot be read is a BadRow in its place.
        Raises OSError, and ValueError for a file that is not of its form at all."""

    def count(self) -> int | None:
        """How many rows there are; None where counting would use them up. Raises as `rows` does."""


class Opener(Protocol):
    """Opens the bytes of a file, unpacked."""

    def __call__(self) -> "BinaryIO | gzip.GzipFile": ...


def open_source(
    path: str,
    *,
    types: Mapping[str, Type] | None = None,
    columns: frozenset[str] | None = None,
) -> Source:
    """The rows of `path`: `.csv`, `.tsv` and `.parquet` are tables, all else is JSON lines; with `.gz` behind
    it, packed; `-` is standard input.

    `types` says of a CSV file's columns what they hold when it is not text; `columns` which of a Parquet
    file's are needed (all, if None). Raises ValueError where a form is not to be had, or takes no types.
    """
    suffix, is_stream, opener = _opened(path)
    if suffix in _CSV:
        return CsvSource(path, opener, _CSV[suffix], types or {}, is_stream=is_stream)
    if types:
        raise ValueError(
            f"{path}: types are for .csv and .tsv, whose cells are text; other files have their own"
        )
    if suffix == ".parquet":
        if path.endswith(".gz"):
            raise ValueError(f"{path}: Parquet is packed within; expected a file that ends in .parquet")
        from rows.parquet_source import ParquetSource  # pyarrow is an extra

        return ParquetSource(path, columns)
    return JsonSource(path, opener, is_stream=is_stream)


def _opened(path: str) -> tuple[str, bool, Opener]:
    if path == "-":
        return "", True, lambda: nullcontext(sys.stdin.buffer)  # type: ignore[return-value]
    file = Path(path)
    is_stream = file.exists() and not file.is_file()
    if file.suffix == ".gz":
        return Path(file.stem).suffix.lower(), is_stream, lambda: gzip.open(path, "rb")
    return file.suffix.lower(), is_stream, lambda: file.open("rb")
