"""What the project set out to show, as ratios within one run: met or missed, never left out."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.baselines import BARE, ECHO, SWAP
from bench.contestants import OURS, named, on, peers
from bench.endurance import NAME as ENDURING
from bench.endurance import WORKLOAD as MEMORY
from bench.http_front import FLASK, FRONT, OFF, ON
from bench.misses import OURS_HERE, POOL
from bench.misses import workload as misses
from bench.rerun import AGAIN, FIRST
from bench.rerun import workload as rerun
from bench.results import Results
from bench.stats import Summary, ratio, short
from bench.visit import LATENCY, hits

_SIZE = 400
_REDIS, _RABBIT = OURS
Measured = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to show: at least `wanted`, or with `at_most` no more than it."""

    name: str
    says: str
    measured: Measured
    wanted: float
    at_most: bool = False

    def line(self, results: Results) -> str:
        """How it went, in one line."""
        value = self.measured(results)
        sign = "<=" if self.at_most else ">="
        shown = "none" if value is None else short(value)
        return f"bench: {self.name} ratio={shown} wanted{sign}{short(self.wanted)} {self.verdict(results)}"

    def verdict(self, results: Results) -> str:
        """`met`, `missed`, or `not measured`."""
        value = self.measured(results)
        if value is None:
            return "not measured"
        return "met" if (value <= self.wanted if self.at_most else value >= self.wanted) else "missed"


def targets() -> list[Target]:
    """All of them."""
    return [*_hits(), *_latency(), *_misses(), *_reruns(), *_rest()]


def _hits() -> list[Target]:
    single, packed = hits(_SIZE, False), hits(_SIZE, True)
    return [
        Target("hits-celery", "hits/s on Redis to Celery's best", _over(single, _REDIS, named("celery")), 30),
        Target(
            "hits-dramatiq",
            "hits/s on Redis to Dramatiq's best",
            _over(single, _REDIS, named("dramatiq")),
            20,
        ),
        Target("hits-bare", "hits/s on Redis to the bare loop", _over(single, _REDIS, [BARE]), 0.35),
        Target(
            "hits-rabbit",
            "hits/s on RabbitMQ to the best peer there",
            _over(single, _RABBIT, on("rabbit")),
            8,
        ),
        Target("packed-redis", "packed hits/s on Redis to the bare loop", _over(packed, _REDIS, [BARE]), 0.5),
        Target(
            "packed-rabbit", "packed hits/s on RabbitMQ to the bare loop", _over(packed, _RABBIT, [BARE]), 0.5
        ),
    ]


def _latency() -> list[Target]:
    def to(others: list[str]) -> Measured:
        def measured(results: Results) -> float | None:
            best = results.best(LATENCY, "p50", others, least=True)
            return ratio(results.summary(LATENCY, _REDIS, "p50"), best and best[1])

        return measured

    return [
        Target("latency-raw", "p50 of one in flight to a raw Redis echo", to([ECHO]), 2, at_most=True),
        Target("latency-swap", "the same to one process's push and pop", to([SWAP]), 2, at_most=True),
        Target("latency-peers", "the same to the best peer", to([p.name for p in peers()]), 1, at_most=True),
    ]


def _misses() -> list[Target]:
    return [
        Target(
            f"misses-{concurrency}",
            f"misses/s to a bare thread pool, concurrency {concurrency}",
            _over(misses(concurrency), OURS_HERE, [POOL]),
            wanted,
        )
        for concurrency, wanted in ((8, 0.97), (64, 0.95))
    ]


def _reruns() -> list[Target]:
    cell = rerun(0.0, 8)

    def saved(clock: str) -> Measured:
        return lambda results: ratio(results.summary(cell, FIRST, clock), results.summary(cell, AGAIN, clock))

    return [
        Target("rerun-command", "first run to re-run, as whole commands", saved("whole command, s"), 80),
        Target(
            "rerun-clock", "first run to re-run, by the producer's clock", saved("producer's clock, s"), 150
        ),
    ]


def _rest() -> list[Target]:
    def of(workload: str, who: str, name: str) -> Callable[[Results], Summary | None]:
        return lambda results: results.summary(workload, who, name)

    enqueued = of(hits(_SIZE, False), _REDIS, "enqueued")
    early, late = (of(MEMORY, ENDURING, f"after {n:,} MB") for n in (10_000, 1_000_000))
    return [
        Target("enqueue", "requests/s enqueued on Redis, confirmed", _median(enqueued), 20_000),
        Target(
            "memory-growth",
            "RSS after 1,000,000 to after 10,000 requests",
            lambda results: ratio(late(results), early(results)),
            1.1,
            at_most=True,
        ),
        Target(
            "cache",
            "requests/s with the cache on to off, the demo's workers, 90 % repeats",
            lambda results: ratio(of("cache", "on", "rate")(results), of("cache", "off", "rate")(results)),
            5,
        ),
        Target(
            "http-cache",
            "requests/s over HTTP with the cache on to off",
            lambda results: ratio(of(ON, FRONT, "rate")(results), of(OFF, FRONT, "rate")(results)),
            5,
        ),
        Target(
            "http-flask",
            "the same, cache on, to the service of the post",
            lambda results: ratio(of(ON, FRONT, "rate")(results), of(ON, FLASK, "rate")(results)),
            1,
        ),
        Target("memory", "RSS after 1,000,000 requests, MB", _median(late), 80, at_most=True),
    ]


def _median(found: Callable[[Results], Summary | None]) -> Measured:
    return lambda results: summary.median if (summary := found(results)) else None


def _over(workload: str, ours: str, others: list[str]) -> Measured:
    """Our rate to the best of the others'."""

    def measured(results: Results) -> float | None:
        best = results.best(workload, "rate", others)
        return ratio(results.summary(workload, ours, "rate"), best and best[1])

    return measured
