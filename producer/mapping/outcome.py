"""The end of a run: OUT and the errors file are made from OUT.partial."""

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from producer.mapping.journal import Journal
from producer.mapping.lines import row_line
from producer.mapping.plan import Plan, is_table
from rows.columns import Columns, flat
from rows.csv_sink import write_csv

_OF_REPLY = ("outcome", "model", "version", "key", "age_seconds")


def finish(plan: Plan, journal: Journal, failed: int, check_input: Callable[[], None]) -> None:
    """Give everything its final name, the errors first: OUT is there when all is. Raises OSError, ValueError.

    What is interrupted in the middle may be done again. `check_input` raises where the input, which may be
    read once more, is not what it was.
    """
    if plan.target is None or plan.errors is None:
        return
    if failed:
        _replace(plan.errors, lambda file: _write_lines(file, journal, "error"))
    elif plan.wishes.errors:
        _replace(plan.errors, lambda _: None)
    else:
        plan.errors.unlink(missing_ok=True)  # of an earlier run: nothing failed in this one
    if is_table(plan.wishes.output):
        _replace(plan.target, lambda file: _write_table(file, plan, journal), check_input)
    elif failed:
        _replace(plan.target, lambda file: _write_lines(file, journal, "ok"))
    else:
        journal.sync()
        journal.path.replace(plan.target)
    journal.path.unlink(missing_ok=True)


def _replace(path: Path, write: Callable[[BinaryIO], None], check: Callable[[], None] = lambda: None) -> None:
    if path.exists() and not path.is_file():  # a pipe, /dev/null: to rename over it would take it from all
        with path.open("wb") as file:
            write(file)
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            write(file)
            check()
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _write_lines(file: BinaryIO, journal: Journal, status: str) -> None:
    for row in journal.read():
        if row["status"] == status:
            file.write(row_line(row))


def _write_table(file: BinaryIO, plan: Plan, journal: Journal) -> None:
    """In the order of the input, which is that of the journal: rows for a table are asked for in order."""
    form = Path(plan.wishes.output).suffix.lower()
    kept, answered = _columns(plan, journal)
    named = _named(kept, answered)
    if form != ".parquet":
        cells = (cells for _, cells in _cells(plan, journal, kept, answered))
        write_csv(file, [*kept.kinds, *named.values()], cells, "\t" if form == ".tsv" else ",")
        return
    from rows.parquet_sink import write_beside, write_parquet  # pyarrow is an extra
    from rows.parquet_source import ParquetSource

    kinds = {named[name]: kind for name, kind in answered.kinds.items()}
    if plan.keeps_from_source:
        names = list(kept.kinds)
        source = ParquetSource(plan.wishes.input, frozenset(names))
        write_beside(file, source, names, kinds, _cells(plan, journal, Columns(), answered))
    else:
        cells = (cells for _, cells in _cells(plan, journal, kept, answered))
        write_parquet(file, {**kept.kinds, **kinds}, cells)


def _columns(plan: Plan, journal: Journal) -> tuple[Columns, Columns]:
    """What rows carry along, and what their replies say. Their kinds are known when all were read."""
    known = plan.source.columns if plan.keeps and not plan.source.is_stream else None
    kept = Columns(plan.wishes.keep or known or () if plan.keeps else ())
    answered = Columns(["line"] if plan.wishes.flatten else ["line", "result"])
    for row in _ok(journal):
        kept.see((row.get("row") or {}).items())
        answered.see(_answer(plan, row))
    for name in _OF_REPLY:
        answered.kinds.setdefault(name, "null")
    return kept, answered


def _cells(plan: Plan, journal: Journal, kept: Columns, answered: Columns) -> Iterator[tuple[int, list[Any]]]:
    """The index of each row that has a result, and its values."""
    for row in _ok(journal):
        carried, said = row.get("row") or {}, dict(_answer(plan, row))
        values = [*(carried.get(name) for name in kept.kinds), *(said.get(name) for name in answered.kinds)]
        yield row["index"], values


def _answer(plan: Plan, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    result = flat(row["result"], "result") if plan.wishes.flatten else [("result", row["result"])]
    return chain([("line", row["line"])], result, ((name, row[name]) for name in _OF_REPLY))


def _named(kept: Columns, answered: Columns) -> dict[str, str]:
    """What the columns of a reply are called beside those that rows carry along: `reply_…` where a name is
    taken, as often as it takes."""
    names: dict[str, str] = {}
    for name in answered.kinds:
        free = name
        while free in kept.kinds or free in names.values() or (free != name and free in answered.kinds):
            free = f"reply_{free}"
        names[name] = free
    return names


def _ok(journal: Journal) -> Iterator[dict[str, Any]]:
    return (row for row in journal.read() if row["status"] == "ok")
