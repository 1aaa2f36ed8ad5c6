"""OUT.partial: what has become of each row so far, a JSON line each, in the order of the replies.

All of it is appended, so that after kill -9 the file is whole but for its last line, and the same command
goes on from there. A table is made from it in the end: Parquet cannot be appended to.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

from producer.mapping.lines import row_line

_BUFFER_BYTES = 1 << 18
_FLUSH_SECONDS = 0.1


class Done:
    """Which rows are done, a bit for each: ten million take 1.2 MB."""

    def __init__(self) -> None:
        self._bits, self.count = bytearray(), 0

    def __contains__(self, index: int) -> bool:
        place = index >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (index & 7) & 1)

    def add(self, index: int) -> bool:
        """Whether it was not there."""
        if index in self:
            return False
        if index >> 3 >= len(self._bits):
            self._bits.extend(bytes((index >> 3) + 1024 - len(self._bits)))
        self._bits[index >> 3] |= 1 << (index & 7)
        self.count += 1
        return True


def lock(file: BinaryIO, path: Path) -> None:
    """Have `file`, just opened at `path`, for this process alone. Raises ValueError, and closes it, where
    another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_it = os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        is_it = False  # or it was given its final name since it was opened
    if not is_it:
        file.close()
        raise ValueError(f"{path} is being written by another run; expected one at a time")


class Journal:
    """Open for one process at a time. Raises ValueError where another has it open, OSError.

    What is written is out of this process a moment later, so that kill -9 costs little.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path, self.done, self._clock = path, Done(), clock
        self._flushed = clock()
        self._file = path.open("a+b", buffering=_BUFFER_BYTES)
        lock(self._file, path)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self) -> Iterator[dict[str, Any]]:
        """What is there, from an earlier run or from this one; a line without its end is cut off.

        Each index comes once. Raises ValueError for a line that no run has written.
        """
        self._file.flush()
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                yield self._row(number, line)
        self._file.truncate(whole)

    def restart(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)

    def load(self) -> Iterator[dict[str, Any]]:
        """What an earlier run has left: it is done."""
        for row in self.read():
            if not self.done.add(row["index"]):
                raise ValueError(
                    f"{self.path} has row {row['index']} twice; remove it, or begin with --restart"
                )
            yield row

    def write(self, row: dict[str, Any]) -> None:
        """Append; nothing for a row that is done."""
        if self.done.add(row["index"]):
            self._file.write(row_line(row))
            if self._clock() - self._flushed > _FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Out of this process now."""
        self._file.flush()
        self._flushed = self._clock()

    def sync(self) -> None:
        """Out of this machine's memory."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            row = orjson.loads(line)
            if row["index"] >= 0 and row["status"] in ("ok", "error"):
                return dict(row)
        except (orjson.JSONDecodeError, TypeError, KeyError):
            pass
        raise ValueError(f"{self.path}: line {number} is no row of a run; begin anew with --restart")
