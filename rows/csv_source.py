"""CSV as RFC 4180 has it: UTF-8, a header, cells in quotes may hold newlines."""

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rows.cells import Type, read_cell
from rows.packed import BROKEN
from rows.row import BadRow, Row

if TYPE_CHECKING:
    from rows.source import Opener

_CELL_MAX_CHARS = 2 << 20  # a request is smaller
_SHOWN_CHARS = 1000
_UNDECODABLE = re.compile("[\udc80-\udcff]")


class CsvSource:
    """An object a record: text, or what `types` says of a column; an empty cell is null, `""` empty text."""

    def __init__(
        self, path: str, opener: "Opener", delimiter: str, types: Mapping[str, Type], *, is_stream: bool
    ) -> None:
        self.path, self._open, self._delimiter, self.is_stream = path, opener, delimiter, is_stream
        self._types = types
        # A cell with its delimiter or end, quoted or not.
        sign = re.escape(delimiter)
        self._cell = re.compile(rf'(?:"((?:[^"]|"")*)"|([^{sign}\r\n]*))(?:{sign}|\r?\n?\Z)')

    @property
    def columns(self) -> list[str]:
        """See Source."""
        with self._records() as records:
            return self._header(records)

    def rows(self) -> Iterator[Row | BadRow]:
        """See Source."""
        with self._records() as records:
            header = self._header(records)
            kinds = [self._types.get(name, "text") for name in header]
            for number, cells, text in records:
                yield self._row(number, cells, text, header, kinds)

    def count(self) -> int | None:
        """See Source."""
        return None if self.is_stream else sum(1 for _ in self.rows())

    @contextmanager
    def _records(self) -> Iterator[Iterator[tuple[int, list[str] | str, str]]]:
        with self._open() as file:
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            try:
                yield self._split(text)
            finally:
                text.detach()

    def _split(self, file: io.TextIOWrapper) -> Iterator[tuple[int, list[str] | str, str]]:
        """Where a record begins, its cells or what is wrong with it, and its text.

        A quote that is never closed makes all that follows one cell. Only its first line is to blame: the
        others are read once more, as records of their own.
        """
        csv.field_size_limit(_CELL_MAX_CHARS)  # of the whole process; it is 128 KiB unless somebody says more
        lines, again, begins = list[str](), deque[str](), 1

        def noted() -> Iterator[str]:
            while line := again.popleft() if again else file.readline():
                lines.append(line)
                yield line

        reader = csv.reader(noted(), delimiter=self._delimiter, strict=True)
        while True:
            try:
                cells: list[str] | str = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                cells = f"is no CSV: {error}"
                again.extendleft(reversed(lines[1:]))
                del lines[1:]
                reader = csv.reader(noted(), delimiter=self._delimiter, strict=True)
            except BROKEN as error:
                raise OSError(f"{self.path}: {error}, after line {begins}") from None
            if cells:
                yield begins, cells, "".join(lines)
            begins += len(lines)
            lines.clear()

    def _header(self, records: Iterator[tuple[int, list[str] | str, str]]) -> list[str]:
        _, header, text = next(records, (1, "it is empty", ""))
        if isinstance(header, str) or _UNDECODABLE.search(text):
            why = header if isinstance(header, str) else "it is not UTF-8"
            raise ValueError(f"{self.path}: expected a header of column names in UTF-8: {why}")
        if "" in header or len(set(header)) < len(header):
            what = "an empty name (pandas: index=False)" if "" in header else "a name twice"
            raise ValueError(f"{self.path}: the header {header} has {what}")
        unknown = set(self._types) - set(header)
        if unknown:
            raise ValueError(f"{self.path} has no column {sorted(unknown)[0]!r}; it has {', '.join(header)}")
        return header

    def _row(
        self, number: int, cells: list[str] | str, text: str, header: list[str], kinds: Sequence[Type]
    ) -> Row | BadRow:
        problem = cells if isinstance(cells, str) else ""
        if not problem and len(cells) != len(header):
            problem = f"has {len(cells)} cells; expected {len(header)} as in the header"
        if not problem and _UNDECODABLE.search(text):
            problem = "is not UTF-8"
        if not problem:
            quoted = self._quoted(text) if "" in cells and '""' in text else frozenset[int]()
            try:
                return Row(number, dict(_values(header, kinds, cells, quoted)))
            except ValueError as error:
                problem = str(error)
        shown = text[:_SHOWN_CHARS].rstrip("\r\n").encode("utf-8", "surrogateescape")
        return BadRow(number, f"line {number} {problem}", shown.decode("utf-8", "backslashreplace"))

    def _quoted(self, text: str) -> frozenset[int]:
        """Which cells of a record are in quotes: only there an empty one is text."""
        return frozenset(n for n, cell in enumerate(self._cell.finditer(text)) if cell[1] is not None)


def _values(
    header: Sequence[str], kinds: Sequence[Type], cells: Sequence[str], quoted: frozenset[int]
) -> Iterator[tuple[str, Any]]:
    for n, (name, kind, cell) in enumerate(zip(header, kinds, cells, strict=True)):
        if cell == "" and (n not in quoted or kind != "text"):
            yield name, None
        else:
            try:
                yield name, read_cell(cell, kind)
            except ValueError as error:
                raise ValueError(f"has {name} {error}") from None
