"""How much a run does."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes and rounds. `seconds` is what one burst of hits should take by what the warm-up showed,
    `fill_seconds` the most that filling the queue for it may."""

    quick: bool
    rounds: int
    seconds: float
    fill_seconds: float
    sizes: tuple[int, ...]
    asks: int
    all_peers: bool
    rerun_rows: int
    rerun_cells: tuple[tuple[float, int], ...]  # share of repeats, concurrency
    rerun_first_rounds: int  # of the first cell; the others run first once, and again in every round
    deep_rows: int
    miss_seconds: float
    payloads: tuple[int, ...]
    entries: tuple[int, ...]
    workers: tuple[int, ...]
    endurance: tuple[int, ...]
    cache_rows: int
    http_seconds: int  # of wrk, for each service with the cache off and on


def full(rounds: int = 5) -> Plan:
    """What docs/benchmarks.md is made of: about 45 minutes on two cores."""
    return Plan(
        quick=False,
        rounds=rounds,
        seconds=1.2,
        fill_seconds=2.5,
        sizes=(400, 16_384),
        asks=150,
        all_peers=True,
        rerun_rows=20_000,
        rerun_cells=tuple((repeats, calls) for calls in (8, 64) for repeats in (0.0, 0.5, 0.9, 0.99)),
        rerun_first_rounds=rounds,
        deep_rows=2_400,
        miss_seconds=4.0,
        payloads=(100, 1_024, 16_384, 131_072, 1_048_576 - 1_024),
        entries=(1_000, 10_000, 100_000, 1_000_000),
        workers=(1, 2, 4, 8),
        endurance=(10_000, 1_000_000),
        cache_rows=3_000,
        http_seconds=8,
    )


def quick(rounds: int = 3) -> Plan:
    """Under five minutes: whether it works, and roughly where things stand."""
    return Plan(
        quick=True,
        rounds=rounds,
        seconds=0.3,
        fill_seconds=1.0,
        sizes=(400,),
        asks=40,
        all_peers=False,
        rerun_rows=2_000,
        rerun_cells=((0.0, 8),),
        rerun_first_rounds=1,
        deep_rows=600,
        miss_seconds=1.5,
        payloads=(),
        entries=(),
        workers=(),
        endurance=(),
        cache_rows=0,
        http_seconds=2,
    )


def smallest() -> Plan:
    """For the test of this suite: one round of almost nothing."""
    return Plan(
        quick=True,
        rounds=1,
        seconds=0.05,
        fill_seconds=1.0,
        sizes=(400,),
        asks=5,
        all_peers=False,
        rerun_rows=100,
        rerun_cells=((0.0, 8),),
        rerun_first_rounds=1,
        deep_rows=64,
        miss_seconds=0.2,
        payloads=(),
        entries=(),
        workers=(),
        endurance=(),
        cache_rows=0,
        http_seconds=0,
    )
