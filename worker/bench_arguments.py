"""What `bench-model` can be told on the command line."""

import argparse
from typing import Any

from worker.bench_model import SAMPLE

_SAYS = """Calls the model with 1, 2, 4, 8, … calls at once, for as long as more of them bring more, and says
which concurrency to set; where its batch_size is above 1, first the same with the length of the arrays it is
sent. Neither broker nor cache is touched. For a model that remembers answers itself, give --payloads with
many."""


def add_bench_model(sub: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the worker's."""
    bench = sub.add_parser(
        "bench-model", parents=[common], help="what concurrency saturates a model", description=_SAYS
    )
    bench.add_argument("model", metavar="MODEL", help="a model of the settings")
    given = bench.add_mutually_exclusive_group()
    given.add_argument("--payload", metavar="JSON", help=f"what to send (default {SAMPLE.decode()})")
    given.add_argument("--payloads", metavar="FILE", help="one payload a line, sent in turn")
    bench.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="N", help="for each setting (default 5)"
    )
    bench.add_argument("--json", action="store_true")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("expected more than 0 and at most 3600")
    return value
