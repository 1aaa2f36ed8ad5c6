"""JSON lines in, JSON lines out. The final name appears only when every row has its reply."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from wire.errors import ErrorKind, Failure, Outcome
from wire.reply import Reply


class BadLine:
    """A line of the input that is not JSON. `number` counts from 1."""

    def __init__(self, number: int, said: str) -> None:
        self.number, self.said = number, said

    def reply(self, index: int) -> Reply:
        """What stands in the output for it."""
        message = f"line {self.number} is not JSON: {self.said}"
        failure = Failure(ErrorKind.INVALID_REQUEST, message).as_dict()
        return Reply(None, "error", None, failure, Outcome.INVALID.value, None, None, None, None, None, index)


def count_lines(path: str) -> int | None:
    """How many rows a file has; None for standard input. Raises OSError."""
    if path == "-":
        return None
    with Path(path).open("rb") as file:
        return sum(1 for line in file if line.strip())


def read_lines(path: str) -> Iterator[object]:
    """The values of a JSON-lines file or of standard input (`-`); a BadLine where a line is none.

    Empty lines are passed over. Raises OSError.
    """
    if path == "-":
        yield from _values(sys.stdin.buffer)
        return
    with Path(path).open("rb") as file:
        yield from _values(file)


def _values(file: BinaryIO) -> Iterator[object]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield BadLine(number, str(error))


class Output:
    """Writes replies to OUT.partial, which `finish` gives its final name; `-` is standard output."""

    def __init__(self, path: str) -> None:
        self._final = None if path == "-" else Path(path)
        self.partial = None if self._final is None else self._final.with_name(f"{self._final.name}.partial")
        self._file: BinaryIO = sys.stdout.buffer if self.partial is None else self.partial.open("wb")

    def __enter__(self) -> "Output":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.partial is not None:
            self._file.close()

    def write(self, reply: Reply) -> None:
        """One row."""
        row = {"index": reply.index, **reply.as_dict()} if reply.index >= 0 else reply.as_dict()
        self._file.write(orjson.dumps(row) + b"\n")

    def finish(self) -> None:
        """Everything is there: give the file its name."""
        self._file.flush()
        if self.partial is not None and self._final is not None:
            self._file.close()
            self.partial.replace(self._final)
