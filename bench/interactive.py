"""A person's call while a bulk run saturates the workers: `python -m bench.interactive`. Prints JSON.

One worker, a model that is waited for. The time of a call is measured while nothing else is asked for, and
again while the queues hold more bulk work than the worker can do meanwhile: calls of misses beside a bulk of
misses, calls of hits beside the same, and calls of hits beside a bulk of hits. Rounds are interleaved.
"""

import argparse
import itertools
import json
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.entrants import OwnEntrant
from bench.misses import start_model
from bench.payloads import KEYS, payload
from bench.plan import quick
from bench.process import Child, Failed
from bench.results import Results
from bench.stage import Stage
from bench.stats import percentile
from broker.urls import open_broker
from producer.client import Producer

_SIZE, _PACK = 400, 32
_SECONDS = 120.0
Times = dict[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--latency-ms", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=8, help="calls at once of the worker")
    parser.add_argument("--calls", type=int, default=50, help="of each kind in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hits", type=int, default=150_000, help="of the bulk of hits")
    parser.add_argument("--priority", choices=["bulk", "interactive"], default="interactive")
    print(json.dumps(measure(parser.parse_args()), indent=2))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds and ratios, by broker and kind of call."""
    with Stage(Path(".bench") / "interactive", quick(), Results()) as stage:
        kinds = ["redis", "rabbit"] if stage.start_rabbit() else ["redis"]
        model, url = start_model(stage, latency_ms=arguments.latency_ms)
        with model:
            return {**vars(arguments), **{kind: _measured(stage, kind, url, arguments) for kind in kinds}}


def _measured(stage: Stage, kind: str, url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {"MODELS__M__TARGET": url, "MODELS__M__CONCURRENCY": str(arguments.concurrency)}
    entrant = OwnEntrant(stage, "interactive", kind, **settings)
    try:
        with entrant.start() as worker, Producer(stage.queue_url(kind), prefix=entrant.prefix) as producer:
            entrant.remember(_SIZE, worker)
            bench = _Bench(stage, kind, entrant, worker, producer, arguments)
            rounds = [bench.round() for _ in range(arguments.rounds)]
    finally:
        entrant.close()
    return {name: _summary([one[name] for one in rounds]) for name in rounds[0]}


def _summary(rounds: list[tuple[Times, Times]]) -> dict[str, Any]:
    def medians(of: list[Times]) -> Times:
        return {name: round(statistics.median(one[name] for one in of), 1) for name in of[0]}

    ratios = [{name: busy[name] / idle[name] for name in idle} for idle, busy in rounds]
    return {
        "idle_ms": medians([idle for idle, _ in rounds]),
        "under_bulk_ms": medians([busy for _, busy in rounds]),
        "ratio": {name: [round(one[name], 2) for one in ratios] for name in ratios[0]},
    }


class _Bench:
    """One worker, and who calls it. Every payload of a miss has a number of its own."""

    def __init__(
        self,
        stage: Stage,
        kind: str,
        entrant: OwnEntrant,
        worker: Child,
        producer: Producer,
        arguments: argparse.Namespace,
    ) -> None:
        self._stage, self._kind, self._entrant, self._worker = stage, kind, entrant, worker
        self._producer, self._arguments = producer, arguments
        self._fresh = itertools.count(time.time_ns() // 1000)
        self._known = itertools.cycle(range(KEYS))
        self._broker = open_broker(stage.queue_url(kind), entrant.names)
        self._broker.connect()

    def round(self) -> dict[str, tuple[Times, Times]]:
        """Idle and busy, by kind of call."""
        calls = self._arguments.calls
        misses, hits = self._called(self._fresh), self._called(self._known)
        self._bulk(4 * calls * self._arguments.concurrency + 10_000, keys=0)
        busy_misses, busy_hits = self._called(self._fresh), self._called(self._known)
        self._end_bulk()
        self._bulk(self._arguments.hits, keys=KEYS)
        beside_hits = self._called(self._known)
        self._end_bulk()
        return {
            "misses beside misses": (misses, busy_misses),
            "hits beside misses": (hits, busy_hits),
            "hits beside hits": (hits, beside_hits),
        }

    def _called(self, numbers: Any) -> Times:
        priority = self._arguments.priority
        seconds: list[float] = []
        for number in itertools.islice(numbers, self._arguments.calls):
            asked, begun = payload(number, _SIZE), time.perf_counter()
            if not self._producer.call(asked, priority=priority).ok:
                raise Failed(f"a call failed: {asked}")
            seconds.append(time.perf_counter() - begun)
        times = {name: 1000 * percentile(seconds, share) for name, share in (("p50", 0.5), ("p95", 0.95))}
        self._stage.say(f"{self._kind}: p50 {times['p50']:.1f} ms, p95 {times['p95']:.1f} ms")
        return times

    def _bulk(self, count: int, *, keys: int) -> None:
        """Have so much wait, and the worker begin with it; without `keys` nothing of it is remembered."""
        self._worker.send_signal(signal.SIGSTOP)
        try:
            first = 0 if keys else next(self._fresh) + 1_000_000_000
            self._entrant.fill(count, _SIZE, _PACK, keys or count, first=first)
            waiting = self._waiting()
        finally:
            self._worker.send_signal(signal.SIGCONT)
        self._until(lambda: self._waiting() < waiting, "begin of the bulk")
        self._stage.say(f"{self._kind}: {waiting:,} messages of bulk wait")

    def _end_bulk(self) -> None:
        """Raises Failed where there was no bulk any more: then nothing was measured."""
        if not self._waiting():
            raise Failed("the bulk ended before the calls: give it more with --hits")
        names = self._entrant.names

        def is_empty() -> bool:
            for queue in (names.requests, names.misses, names.replies):
                self._broker.purge(queue)
            return self._waiting() == 0

        self._until(is_empty, "end of the bulk")

    def _until(self, found: Callable[[], bool], what: str) -> None:
        self._worker.wait_until(found, _SECONDS, what, 0.05)

    def _waiting(self) -> int:
        depth = self._broker.depth()
        return depth[self._entrant.names.requests] + depth[self._entrant.names.misses]


if __name__ == "__main__":
    main()
