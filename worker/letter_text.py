"""Dead letters for people and for programs."""

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from broker.dead import Letter, plain
from worker.console import printable

SHORT_ID = 12
_DETAIL = 60
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_TEXT = frozenset("\t\n\r")


@dataclass(slots=True)
class Group:
    """The letters of one reason: how many, and the times of the oldest and the newest (Unix seconds)."""

    reason: str
    count: int = 0
    oldest: float | None = None
    newest: float | None = None

    def add(self, dead_at: float | None) -> None:
        """One more."""
        self.count += 1
        if dead_at is not None:
            self.oldest = dead_at if self.oldest is None else min(self.oldest, dead_at)
            self.newest = dead_at if self.newest is None else max(self.newest, dead_at)


@dataclass(slots=True)
class Listing:
    """A window of the letters of one reason (or all), and the groups of everything that was read.

    `limit` 0 is no end. The oldest come first, whatever order a broker keeps what it gets back in: the pages
    of several listings would not fit together otherwise.
    """

    reason: str | None
    offset: int
    limit: int
    groups: dict[str, Group] = field(default_factory=dict)
    matched: list[Letter] = field(default_factory=list)

    def add(self, letter: Letter) -> None:
        """Count a letter, and keep it without its body where it matches."""
        self.groups.setdefault(letter.reason, Group(letter.reason)).add(letter.dead_at)
        if self.reason is None or letter.reason == self.reason:
            self.matched.append(letter.without_body())

    @property
    def letters(self) -> list[Letter]:
        """The window."""
        ordered = sorted(self.matched, key=lambda letter: (letter.dead_at or 0.0, letter.id))
        return ordered[self.offset :][: self.limit or None]

    @property
    def left(self) -> int:
        """How many match and come after the window."""
        return max(0, len(self.matched) - self.offset - self.limit) if self.limit else 0


def as_table(listing: Listing, now: float) -> str:
    """The groups, most common first, then a line for each letter of the window. Never a payload."""
    groups = sorted(listing.groups.values(), key=lambda group: -group.count)
    head = [["reason", "letters", "oldest", "newest"]]
    head += [[printable(g.reason), f"{g.count:,}", age(g.oldest, now), age(g.newest, now)] for g in groups]
    rows = [["id", "age", "reason", "from", "deliveries", "correlation id", "detail"]]
    rows += [_row(letter, now) for letter in listing.letters]
    return "\n".join([*_aligned(head), "", *(_aligned(rows) if rows[1:] else [])]).rstrip()


def _row(letter: Letter, now: float) -> list[str]:
    return [
        letter.id[:SHORT_ID],
        age(letter.dead_at, now),
        printable(letter.reason),
        printable(letter.original.queue) or "-",
        str(letter.deliveries),
        printable(letter.original.correlation_id or "-")[:40],
        printable(letter.detail[:_DETAIL]),
    ]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def age(then: float | None, now: float) -> str:
    """How long ago, in its largest unit."""
    if then is None:
        return "-"
    seconds = max(0, int(now - then))
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def as_object(listing: Listing, waiting: int, read: int) -> dict[str, Any]:
    """The same for programs."""
    groups = [
        {"reason": group.reason, "count": group.count, "oldest": group.oldest, "newest": group.newest}
        for group in listing.groups.values()
    ]
    letters = [as_json(letter) for letter in listing.letters]
    return {"waiting": waiting, "read": read, "groups": groups, "letters": letters}


def as_json(letter: Letter) -> dict[str, Any]:
    """Everything but the body."""
    original = letter.original
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "dead_at": letter.dead_at,
        "deliveries": letter.deliveries,
        "queue": original.queue or None,
        "content_type": plain(original.content_type),
        "correlation_id": original.correlation_id,
        "reply_to": original.reply_to,
        "bytes": letter.size,
    }


def with_body(letter: Letter) -> dict[str, Any]:
    """Everything: `body` where it is text, `body_base64` otherwise."""
    text = as_text(letter.original.body)
    encoded = base64.b64encode(letter.original.body).decode()
    body = {"body_base64": encoded} if text is None else {"body": text}
    return {**as_json(letter), "headers": plain(letter.original.headers), **body}


def as_text(body: bytes) -> str | None:
    """`body` as text; None where it is not UTF-8, or would steer a terminal."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char in _TEXT for char in text) else None


def as_page(letter: Letter) -> str:
    """Everything, to read: a line a property, then the body verbatim."""
    shown = with_body(letter)
    text, encoded = shown.pop("body", None), shown.pop("body_base64", None)
    if letter.dead_at is not None:
        shown["dead_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(letter.dead_at))
    lines = [f"{name:<15} {printable('-' if value is None else str(value))}" for name, value in shown.items()]
    if text is None:
        lines.append("body            in base64: it is not text")
    return "\n".join([*lines, "", encoded if text is None else text])
