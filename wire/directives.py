"""The cache directives as options of a command line, of what sends rows and of what only counts them."""

import argparse
from typing import Any

from wire.message import DIRECTIVES


def add_directives(command: argparse.ArgumentParser) -> None:
    """An option for each."""
    command.add_argument("--bypass", action="store_true", help="neither read nor write the cache")
    command.add_argument("--refresh", action="store_true", help="call the model, replace the entry")
    command.add_argument("--no-store", action="store_true", help="do not remember the result")
    command.add_argument("--only-if-cached", action="store_true", help="never call the model")
    command.add_argument("--ttl", type=float, metavar="SECONDS", help="remember it so long")
    command.add_argument("--max-age", type=float, metavar="SECONDS", help="take no older entry")
    command.add_argument(
        "--stale-if-error", type=float, metavar="SECONDS", help="if the model fails: an entry so long expired"
    )
    command.add_argument(
        "--deadline", type=float, metavar="SECONDS", help="from now on: the model is not called later"
    )


def directives_of(arguments: argparse.Namespace, now: float) -> dict[str, Any]:
    """What was given, as requests say it. A deadline counts from `now` (Unix seconds)."""
    given = {name: getattr(arguments, name) for name in DIRECTIVES}
    if given["deadline"] is not None:
        given["deadline"] += now
    return {name: value for name, value in given.items() if value is not None and value is not False}
