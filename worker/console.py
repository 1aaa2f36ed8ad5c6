"""What the commands share: how they ask, print, and reach the broker."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from broker.base import Broker
from broker.urls import open_broker
from wire.names import Names
from worker.app import broker_options
from worker.sources import Loaded

OK, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3


class UsageError(Exception):
    """A command that cannot be carried out as it was given."""


def check_model(name: str | None, known: Iterable[str]) -> None:
    """Raises UsageError where a model is named, and is none of these."""
    known = sorted(known)
    if name is not None and name not in known:
        expected = f"expected one of: {', '.join(known)}" if known else "no model is known"
        raise UsageError(printable(f"error: --model {name or '(empty)'}: {expected}"))


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes. Raises UsageError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise UsageError(f"error: {question} say so with --yes")
    say(f"{question} [y/N]", end=" ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say(text: str, end: str = "\n") -> None:
    """Tell the person; standard output is for data."""
    print(text, end=end, file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    """`text` as the answer of a command."""
    print(text)


def print_json(value: Any) -> None:
    """`value` as the answer of a command."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8))


def unreachable(what: str, shown: str, error: Exception | str) -> int:
    """Say that a service is not there; the exit code for it."""
    say(f"error: {what} {shown}: {error}")
    return UNREACHABLE


@contextmanager
def connected(loaded: Loaded) -> Iterator[Broker]:
    """The broker of the settings. Raises BrokerError."""
    settings = loaded.settings
    broker = open_broker(settings.broker_url, Names(settings.prefix), broker_options(settings))
    try:
        broker.connect()
        yield broker
    finally:
        broker.close()


def printable(text: str) -> str:
    """`text` from a stranger on one line of a terminal: nothing in it can move the cursor or hide."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
