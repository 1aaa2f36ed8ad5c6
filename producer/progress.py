"""What a person sees of a run, on stderr: a bar on a terminal, a line every ten seconds elsewhere."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from wire.reply import Reply

_LINE_SECONDS = 10.0
_SILENCE_SECONDS = 5.0
_ERRORS_SHOWN = 5
_GROUPS_MAX = 1000
_OTHERS = ("", "others")
_NUMBER = re.compile(r"\d+")


class Tally:
    """Counts of replies by outcome, and of errors by kind and message. `resumed` of the rows were there
    before, and took no time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.begun = clock()
        self.outcomes: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self.failed = self.resumed = 0

    @property
    def rows(self) -> int:
        """How many replies came."""
        return sum(self.outcomes.values())

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return max(1e-6, self._clock() - self.begun)

    @property
    def rate(self) -> float:
        """Rows a second."""
        return (self.rows - self.resumed) / self.seconds

    def add(self, reply: Reply) -> None:
        """One more reply."""
        self._count(reply.outcome, reply.status, reply.error)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """The same for a reply that is a row of a file."""
        self._count(row["outcome"], row["status"], row["error"])

    def resume(self, row: Mapping[str, Any]) -> None:
        """One that an earlier run has brought."""
        self.resumed += 1
        self.add_row(row)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for a program to read."""
        errors = [
            {"kind": kind, "message": self._examples[kind, message], "count": count}
            for (kind, message), count in self.errors.most_common()
        ]
        return {
            "rows": self.rows,
            "resumed": self.resumed,
            "failed": self.failed,
            "outcomes": dict(self.outcomes),
            "errors_by_kind": errors,
            "hit_ratio": self.hit_ratio(),
            "seconds": self.seconds,
            "rows_per_second": self.rate,
        }

    def _count(self, outcome: str, status: str, error: Any) -> None:
        self.outcomes[outcome] += 1
        if status != "ok":
            self.failed += 1
            self._add_error(error if isinstance(error, dict) else {})

    def errors_shown(self) -> list[str]:
        """The errors, alike ones together, most common first, in a few lines."""
        lines: list[str] = []
        for group, count in self.errors.most_common(_ERRORS_SHOWN):
            such_as = "such as " if count > 1 and _NUMBER.search(self._examples[group]) else ""
            lines.append(f"Errors   {count:,} {group[0]}: {such_as}{self._examples[group]}")
        if len(self.errors) > _ERRORS_SHOWN:
            shown = sum(count for _, count in self.errors.most_common(_ERRORS_SHOWN))
            lines.append(f"         and {self.failed - shown:,} of other kinds, in the output")
        return lines

    def _add_error(self, error: dict[str, Any]) -> None:
        # Line numbers, ports and durations would make a group of each error. The bound is for messages that
        # differ in other ways: a run of millions must not keep millions of texts.
        message = str(error.get("message"))[:120]
        group = (str(error.get("kind")), _NUMBER.sub("0", message))
        if group not in self.errors and len(self.errors) >= _GROUPS_MAX:
            group = _OTHERS
        self.errors[group] += 1
        self._examples.setdefault(group, message)

    def hit_ratio(self) -> float:
        """Hits of all rows."""
        return self.outcomes["hit"] / max(1, self.rows)

    def line(self, total: int | None) -> str:
        """One `key=value` line, for logs."""
        rate = self.rate
        rows = f"{self.rows}/{total}" if total is not None else str(self.rows)
        eta = f" eta_s={(total - self.rows) / rate:.0f}" if total is not None and rate > 0 else ""
        return f"map rows={rows} rate={rate:.0f}/s hit={self.hit_ratio():.3f} failed={self.failed}{eta}"

    def summary(self) -> list[str]:
        """What came of the rows, in lines: counts add up to the rows."""
        parts = " · ".join(f"{count:,} {outcome}" for outcome, count in self.outcomes.most_common())
        lines = [f"Answers  {parts or '0'} = {self.rows:,} rows   hit {self.hit_ratio():.2%}"]
        lines += self.errors_shown()
        before = f"; {self.resumed:,} rows were there before" if self.resumed else ""
        lines.append(f"Time     {self.seconds:.1f} s, {self.rate:,.0f} rows/s{before}")
        if self.rows and self.outcomes["hit"] == self.rows:
            lines.append(">>> TOTAL RECALL: every row was remembered")
        return lines


class Progress:
    """Shows a Tally while it grows. `form`: auto, bar, lines or none; auto is a bar on a terminal."""

    def __init__(
        self,
        stream: TextIO,
        tally: Tally,
        total: int | None,
        form: str = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._tally, self._total, self._clock = stream, tally, total, clock
        animates = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._form = ("bar" if animates else "lines") if form == "auto" else form
        self._next_line = clock() + _LINE_SECONDS
        self._silent_until: float | None = clock() + _SILENCE_SECONDS
        self._bar: Any = _bar(stream, total) if self._form == "bar" else None

    def show(self) -> None:
        """Called after every reply and now and then without one."""
        now = self._clock()
        self._mention_silence(now)
        if self._bar is not None:
            hit = f"hit {self._tally.hit_ratio():.1%} · {self._tally.failed:,} failed"
            self._bar.update(self._bar.task_ids[0], completed=self._tally.rows, said=hit)
        elif self._form == "lines" and now >= self._next_line:
            self._say(self._tally.line(self._total))
            self._next_line = now + _LINE_SECONDS

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self.show()
            self._bar.stop()

    def _mention_silence(self, now: float) -> None:
        if self._tally.rows > self._tally.resumed:
            self._silent_until = None
        elif self._silent_until is not None and now >= self._silent_until and self._form != "none":
            self._silent_until = None
            self._say("no worker has answered yet; start one: python -m worker run")

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=self._stream, flush=True)


def _bar(stream: TextIO, total: int | None) -> Any:
    # Imported here: rich takes longer to import than a short run takes to finish.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("Running"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
    bar.add_task("rows", total=total, said="")
    bar.start()
    return bar
