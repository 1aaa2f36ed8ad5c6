"""Writing CSV, such that `CsvSource` reads what was written: null is an empty cell, empty text is `""`."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

from rows.cells import write_cell


def write_csv(file: BinaryIO, names: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str) -> None:
    """A header and `rows`, each with a value for every name: RFC 4180 in UTF-8, lines end with a newline.

    The csv module is of no use here: before Python 3.12 it writes null and empty text alike.
    """
    for row in itertools.chain([names], rows):
        line = delimiter.join(map(write_cell, row))
        # The only cell of its line, empty, would make the line empty, which is no record.
        file.write((line or '""' if row else line).encode() + b"\n")
