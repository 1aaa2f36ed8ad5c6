"""Where the rows of a run are written: to OUT.partial, where those of an earlier run may be, or, where OUT is
no file, to it."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from producer.mapping import manifest
from producer.mapping.journal import Done, Journal
from producer.mapping.lines import row_line
from producer.mapping.outcome import finish
from producer.mapping.plan import Plan


class Session(Protocol):
    """Takes what became of each row."""

    done: Done

    def write(self, row: dict[str, Any]) -> None:
        """One row. Raises OSError."""

    def flush(self) -> None:
        """Let others see what was written."""

    def finish(self, failed: int) -> None:
        """All rows are there, of which so many failed. Raises OSError, ValueError."""


class Straight:
    """Writes to OUT as it is; errors among the others, unless they have a file of their own."""

    def __init__(self, output: BinaryIO, errors: BinaryIO | None) -> None:
        self.done = Done()
        self._output, self._errors = output, errors

    def write(self, row: dict[str, Any]) -> None:
        """See Session."""
        is_error = row["status"] == "error" and self._errors is not None
        (self._errors if is_error and self._errors else self._output).write(row_line(row))
        self.done.add(row["index"])

    def flush(self) -> None:
        """See Session."""
        self._output.flush()

    def finish(self, failed: int) -> None:  # noqa: ARG002 - all is written by now
        """See Session."""
        self.flush()


class Kept:
    """Writes to OUT.partial, which `finish` makes OUT of."""

    def __init__(self, plan: Plan, journal: Journal, manifest_path: Path) -> None:
        self._plan, self._journal, self._manifest_path = plan, journal, manifest_path
        self.done, self.write, self.flush = journal.done, journal.write, journal.flush
        self._read_as = _state(plan)

    def finish(self, failed: int) -> None:
        """See Session. Raises ValueError where the input is not what it was at the beginning."""
        self._check_input()
        finish(self._plan, self._journal, failed, self._check_input)
        self._manifest_path.unlink(missing_ok=True)

    def _check_input(self) -> None:
        if _state(self._plan) != self._read_as:
            raise ValueError(
                f"{self._plan.wishes.input} has changed while it was read; begin anew with --restart"
            )


@contextmanager
def opened(
    plan: Plan, options: Mapping[str, Any], on_found: Callable[[Mapping[str, Any]], None], *, restart: bool
) -> Iterator[Session]:
    """A session; `on_found` is told each row that an earlier run left in OUT.partial, which are done.

    Raises ValueError where those belong to a run with another input or other `options`, unless they are to be
    forgotten (`restart`); OSError. An OUT.partial without a row does not stay.
    """
    if plan.target is None:
        with _straight(plan) as straight:
            yield straight
        return
    partial, beside = (plan.target.with_name(f"{plan.target.name}.{end}") for end in ("partial", "manifest"))
    with Journal(partial) as journal:
        try:
            kept = Kept(plan, journal, beside)
            _go_on(plan, options, journal, beside, on_found, restart=restart)
            yield kept
        finally:
            journal.flush()
            if partial.exists() and not partial.stat().st_size:
                partial.unlink()
                beside.unlink(missing_ok=True)


def _go_on(
    plan: Plan,
    options: Mapping[str, Any],
    journal: Journal,
    beside: Path,
    on_found: Callable[[Mapping[str, Any]], None],
    *,
    restart: bool,
) -> None:
    wishes, is_stream = plan.wishes, plan.source.is_stream
    now = None if is_stream else manifest.manifest_of(wishes.input, wishes.only_failed, options)
    if restart or not journal.path.stat().st_size:
        beside.unlink(missing_ok=True)  # first: rows must never stand beside the manifest of others
        journal.restart()
        if now is not None:
            manifest.write(beside, now)
        return
    why = "its input cannot be read twice" if now is None else manifest.changes(beside, now)
    if why:
        same = "" if now is None else "give the same input and options again, or "
        raise ValueError(
            f"{journal.path} holds rows, and this run cannot go on with them: {why}; "
            f"{same}forget those rows with --restart"
        )
    for row in journal.load():
        on_found(row)


def _state(plan: Plan) -> tuple[int, ...] | None:
    """What tells that a file was not written to since."""
    if plan.source.is_stream:
        return None
    found = Path(plan.wishes.input).stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _straight(plan: Plan) -> Iterator[Straight]:
    with ExitStack() as stack:

        def open_file(path: str | Path) -> BinaryIO:
            return stack.enter_context(Path(path).open("wb"))

        output = sys.stdout.buffer if plan.wishes.output == "-" else open_file(plan.wishes.output)
        yield Straight(output, None if plan.errors is None else open_file(plan.errors))
