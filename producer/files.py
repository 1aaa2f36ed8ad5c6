"""JSON lines out. The final name appears only when every row has its reply."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import orjson

from producer.mapping.journal import lock
from wire.reply import Reply


class Output:
    """Writes replies to OUT.partial, which `finish` gives its final name.

    `-` is standard output; what is no regular file (a pipe, /dev/null) is written to directly; of a link, the
    file that it names is replaced. Raises ValueError where another run writes it. With `go_on`, rows that an
    earlier run left in OUT.partial stay, and each row is out of this process when `write`
    returns: for replies that are gone from the queue once they are acknowledged. `left` counts such rows.
    """

    def __init__(self, path: str, *, go_on: bool = False) -> None:
        final = Path(path)
        if final.is_dir():
            raise IsADirectoryError(f"{path} is a directory; expected the name of a file, or -")
        direct = path == "-" or (final.exists() and not final.is_file())
        # Never rename over a link or a device: as root that takes /dev/stdout from the whole machine.
        self._final = None if direct else final.resolve() if final.is_symlink() else final
        self.partial = self._final and self._final.with_name(f"{self._final.name}.partial")
        self._go_on, self.left, self._rows = go_on, 0, 0
        beside = self._final and self._final.with_name(f"{self._final.name}.manifest")
        if beside is not None and beside.exists():
            raise ValueError(f"{self.partial} is of a map, which {beside} is about; expected another OUT")
        if self.partial is not None:
            self._file: BinaryIO = self.partial.open("a+b" if go_on else "wb")
            lock(self._file, self.partial)
            self.left = _mend(self._file) if go_on else 0
        else:
            self._file = sys.stdout.buffer if path == "-" else final.open("wb")

    def __enter__(self) -> "Output":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not sys.stdout.buffer:
            self._file.close()
        if kind is not None and self.partial is not None and not self._rows + self.left:
            self.partial.unlink(missing_ok=True)

    def write(self, reply: Reply) -> None:
        """One row."""
        row = {"index": reply.index, **reply.as_dict()} if reply.index >= 0 else reply.as_dict()
        self._file.write(orjson.dumps(row) + b"\n")
        self._rows += 1
        if self._go_on:
            self._file.flush()

    def finish(self) -> None:
        """Everything is there: give the file its name."""
        self._file.flush()
        if self.partial is not None and self._final is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self.partial.replace(self._final)


def _mend(file: BinaryIO) -> int:
    """Cut off a row that was not written to its end; how many rows are left."""
    file.seek(0)
    rows = whole = 0
    for line in file:
        if line.endswith(b"\n"):
            rows, whole = rows + 1, whole + len(line)
    file.truncate(whole)
    return rows
