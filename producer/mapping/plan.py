"""What a run is to do: everything that is decided before the first row is read."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rows.cells import Type
from rows.payload import check_names
from rows.source import Source, open_source

_TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for. `keep` None: all columns, where rows have columns that mean something."""

    input: str
    output: str
    errors: str | None = None
    only_failed: str | None = None
    report: str | None = None
    payload: tuple[str, ...] | None = None
    keep: tuple[str, ...] | None = None
    types: Mapping[str, Type] = field(default_factory=dict)
    flatten: bool = False
    ordered: bool = False
    whole_requests: bool = False

    def fingerprint(self) -> dict[str, Any]:
        """What must be the same where a run goes on: all that its rows depend on."""
        return {
            "payload": self.payload,
            "keep": self.keep,
            "types": dict(self.types),
            "ordered": self.ordered or is_table(self.output),
            "requests": self.whole_requests,
            "form": Path(self.output).suffix.lower() if is_table(self.output) else ".jsonl",
        }


def is_table(path: str) -> bool:
    """Whether the name asks for columns."""
    return Path(path).suffix.lower() in _TABLES


@dataclass(frozen=True, slots=True)
class Plan:
    """`wishes`, found to be possible. `target` is where the output goes, None where it is written to as it
    is (`-`, a pipe, a device). `keeps`: rows carry columns along; `keeps_from_source`: as they are in the
    source, and not through JSON."""

    wishes: Wishes
    source: Source
    target: Path | None
    errors: Path | None
    keeps: bool
    keeps_from_source: bool


def plan(wishes: Wishes) -> Plan:
    """Raises ValueError for what does not go together, OSError where there is no input."""
    source = open_source(wishes.input, types=wishes.types, columns=_needed(wishes))
    names = (*(wishes.payload or ()), *(wishes.keep or ()))
    columns = None if source.is_stream else source.columns  # what is asked of a pipe is gone
    check_names(names, columns, wishes.input)
    target = _target(wishes.output)
    if wishes.flatten and not is_table(wishes.output):
        raise ValueError("--flatten makes columns; expected an OUT that ends in .csv, .tsv or .parquet")
    if Path(wishes.output).suffix.lower() == ".parquet":
        importlib.import_module("rows.pyarrow")  # now, and not when all rows are paid for
    if target is None and is_table(wishes.output):
        raise ValueError(f"{wishes.output} cannot be written to row by row; expected a file, or JSON lines")
    errors = _beside(target, "errors.jsonl") if wishes.errors is None else _written(wishes.errors, "--errors")
    if wishes.report is not None:
        _written(wishes.report, "--report")
    _refuse_one_for_two(wishes, target, errors)
    has_columns = columns is not None or wishes.payload is not None
    keeps = (has_columns if wishes.keep is None else bool(wishes.keep)) and not wishes.whole_requests
    return Plan(wishes, source, target, errors, keeps, keeps and _keeps_types(wishes))


def _keeps_types(wishes: Wishes) -> bool:
    """Whether what is kept never becomes JSON: it goes from one Parquet file into the other."""
    return all(Path(path).suffix.lower() == ".parquet" for path in (wishes.input, wishes.output))


def _needed(wishes: Wishes) -> frozenset[str] | None:
    """Which columns become JSON; None for all."""
    if wishes.payload is None:
        return None
    if _keeps_types(wishes):
        return frozenset(wishes.payload)
    return None if wishes.keep is None else frozenset((*wishes.payload, *wishes.keep))


def _target(output: str) -> Path | None:
    path = Path(output)
    if path.is_dir():
        raise IsADirectoryError(f"{output} is a directory; expected the name of a file, or -")
    if output == "-" or (path.exists() and not path.is_file()):
        return None
    if path.suffix == ".gz":
        raise ValueError(f"{output} cannot be written packed; expected .jsonl, .csv, .tsv or .parquet")
    # Never rename over a link or a device: as root that takes /dev/stdout from the whole machine.
    return path.resolve() if path.is_symlink() else path


def _written(name: str, flag: str) -> Path:
    """Where a file can be written, as far as is known beforehand. Raises ValueError."""
    path = Path(name)
    if name == "-" or path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{flag} {name}: expected the name of a file in a directory that is there")
    return path.resolve() if path.is_symlink() and (path.is_file() or not path.exists()) else path


def _beside(target: Path | None, end: str) -> Path | None:
    """`out.errors.jsonl` beside out.jsonl, `out.csv.errors.jsonl` beside out.csv: two outputs, two files."""
    if target is None:
        return None
    return target.with_name(f"{target.stem if target.suffix == '.jsonl' else target.name}.{end}")


def _refuse_one_for_two(wishes: Wishes, target: Path | None, errors: Path | None) -> None:
    given: dict[str, str | Path | None] = {
        "the input": wishes.input,
        "the output": target,
        "the errors": errors,
    }
    given |= {"--report": wishes.report, "--only-failed": wishes.only_failed}
    work = [] if target is None else [f"{target}.{end}" for end in ("partial", "manifest", "unfinished")]
    given |= {f"what a run writes meanwhile ({Path(path).suffix})": path for path in work}
    if wishes.only_failed is not None:
        if wishes.input == "-":
            raise ValueError("--only-failed reads the input again; expected a file, not standard input")
        if target is not None and target.exists() and not Path(work[0]).exists():
            raise ValueError(
                f"{target} is there; --only-failed writes only the rows that it sends to a new OUT"
            )
    seen: dict[Path, str] = {}
    for what, path in given.items():
        if path is None or path == "-":
            continue
        if (other := seen.setdefault(Path(path).resolve(), what)) != what:
            raise ValueError(f"{path} is {other} and {what}; expected two files")
