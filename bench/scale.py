"""How a fleet scales on a model that is waited for: `python -m bench.scale`. Prints JSON.

1, 2, 4 and 8 workers, each with so many calls at once, on a model of so many milliseconds with room for all.
What is measured is the workers, so the model's own time is what they mostly do. Rounds are interleaved; the
efficiency is a fleet's rate divided by its size and by the rate of one worker in the same round.
"""

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from bench.growth import fleet_rate
from bench.misses import start_model
from bench.plan import quick
from bench.results import Results
from bench.stage import Stage

COUNTS = (1, 2, 4, 8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=8, help="calls at once of each worker")
    parser.add_argument("--seconds", type=float, default=20.0, help="of work in each measurement, or nearly")
    parser.add_argument("--rounds", type=int, default=3)
    print(json.dumps(measure(parser.parse_args()), indent=2))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates by number of workers, and the efficiency of each in every round."""
    numbers = itertools.count(40_000_000, 100_000)
    each = round(arguments.seconds * arguments.concurrency * 1000 / arguments.latency_ms)
    rounds: list[dict[int, float]] = []
    with Stage(Path(".bench") / "scale", quick(), Results()) as stage:
        model, url = start_model(stage, latency_ms=arguments.latency_ms)

        def rate(count: int, each: int) -> float:
            first, calls = next(numbers), arguments.concurrency
            found = fleet_rate(stage, url, count, first=first, each=each, concurrency=calls)
            stage.say(f"{count} workers: {found:,.1f}/s")
            return found

        with model:
            rate(1, each // 4)  # warms up
            rounds += [{count: rate(count, each) for count in COUNTS} for _ in range(arguments.rounds)]
    return {
        "latency_ms": arguments.latency_ms,
        "concurrency": arguments.concurrency,
        "requests_per_worker": each,
        "rates": [{count: round(rate, 1) for count, rate in one.items()} for one in rounds],
        "efficiency": {
            count: round(statistics.median(one[count] / count / one[1] for one in rounds), 3)
            for count in COUNTS
        },
    }


if __name__ == "__main__":
    main()
