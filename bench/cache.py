"""Cache on against cache off, in one run on this machine: `python -m bench.cache`.

The same rows through the same workers and the same 50 ms model. Off means `bypass` on every request: no
look-up, no write. Rounds alternate, so that a machine whose speed drifts spoils both; quote the ratio of the
medians.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

from examples.demo import CONCURRENCY, LATENCY_MS, WORKERS, Stage
from examples.stage import Signals
from producer.client import Producer


def rows(count: int, repeats: float, seed: int) -> Iterator[dict[str, str]]:
    """`count` payloads, of which the share `repeats` was there before in the same run."""
    source = random.Random(seed)
    fresh = [{"text": f"round {seed} row {n} is a good one"} for n in range(round(count * (1 - repeats)))]
    again = [source.choice(fresh) for _ in range(count - len(fresh))]
    yield from fresh
    yield from again


def rate(producer: Producer, count: int, repeats: float, seed: int, *, bypass: bool) -> float:
    """Requests answered per second."""
    begun = time.monotonic()
    replies = producer.map(rows(count, repeats, seed), in_flight=400, bypass=bypass)
    results = sum(reply.ok for reply in replies)
    if results != count:
        raise SystemExit(f"{results} results for {count} requests")
    return count / (time.monotonic() - begun)


def main() -> int:
    """Print both rates and their ratio, and last the rounds as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.cache", description=__doc__)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=float, default=0.9)
    options = parser.parse_args()
    with ExitStack() as stack:
        stage = Stage(stack, Signals())
        stage.start_model()
        stage.start_workers()
        producer = stack.enter_context(Producer(f"embedded:{stage.place / 'state'}"))
        rate(producer, 400, options.repeats, 10_000, bypass=False)
        on, off = [], []
        for seed in range(options.rounds):
            on.append(rate(producer, options.rows, options.repeats, seed, bypass=False))
            off.append(rate(producer, options.rows // 5, options.repeats, seed, bypass=True))
    ratio = statistics.median(on) / statistics.median(off)
    print(
        f"{WORKERS} workers, {CONCURRENCY} model calls at once in each, {LATENCY_MS} ms model, "
        f"{options.repeats:.0%} repeats, packed messages"
    )
    print(f"cache on   {statistics.median(on):8.0f} requests/s  (min {min(on):.0f}, max {max(on):.0f})")
    print(f"cache off  {statistics.median(off):8.0f} requests/s  (min {min(off):.0f}, max {max(off):.0f})")
    print(f"cache: ratio={ratio:.1f} rounds={options.rounds} rows={options.rows} repeats={options.repeats}")
    print(json.dumps({"on": on, "off": off}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
