"""JSON lines."""

import codecs
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rows.packed import BROKEN
from rows.row import BadRow, Row
from wire.errors import InvalidRequest
from wire.values import parse

if TYPE_CHECKING:
    from rows.source import Opener

# No request is larger (message_max_bytes): what follows on such a line is passed over, not kept.
_LINE_MAX_BYTES = 16 << 20
_SHOWN_BYTES = 1000


class JsonSource:
    """A value a line."""

    columns = None

    def __init__(self, path: str, opener: "Opener", *, is_stream: bool) -> None:
        self.path, self._open, self.is_stream = path, opener, is_stream

    def rows(self) -> Iterator[Row | BadRow]:
        """See Source."""
        for number, line in self._lines():
            if line.strip():
                yield _read(number, line)

    def count(self) -> int | None:
        """See Source."""
        return None if self.is_stream else sum(1 for _, line in self._lines() if line.strip())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        with self._open() as file:
            number = 0
            try:
                while line := file.readline(_LINE_MAX_BYTES + 1):
                    number += 1
                    yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                    while len(line) > _LINE_MAX_BYTES and not line.endswith(b"\n"):
                        line = file.readline(_LINE_MAX_BYTES + 1)
            except BROKEN as error:
                raise OSError(f"{self.path}: {error}, after line {number}") from None


def _read(number: int, line: bytes) -> Row | BadRow:
    if len(line) > _LINE_MAX_BYTES:
        return BadRow(number, f"line {number} has more than {_LINE_MAX_BYTES} bytes", _shown(line))
    try:
        return Row(number, parse(line, f"line {number}"))
    except InvalidRequest as error:
        return BadRow(number, str(error), _shown(line))


def _shown(line: bytes) -> str:
    return line[:_SHOWN_BYTES].decode("utf-8", "backslashreplace").rstrip("\r\n")
