"""The ETL re-run: a file through the producer's command line, its first run against a fully cached one."""

import itertools
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from bench.entrants import OwnEntrant
from bench.misses import start_model
from bench.payloads import payload
from bench.process import Child, Failed, ours, run
from bench.stage import Stage

FIRST, AGAIN = "first run", "re-run"
_RATE = re.compile(r"([\d,]+) rows/s")
_SECONDS = 900.0


def workload(repeats: float, concurrency: int) -> str:
    """Its name in the results."""
    return f"re-run {repeats:.0%} repeats, concurrency {concurrency}"


def reruns(stage: Stage) -> None:
    """Every cell: first runs on rows that nobody has seen, each followed by runs of the same file."""
    numbers = itertools.count(50_000_000, stage.plan.rerun_rows)
    for position, (repeats, concurrency) in enumerate(stage.plan.rerun_cells):
        firsts = stage.plan.rerun_first_rounds if position == 0 else 1
        try:
            _cell(stage, repeats, concurrency, [next(numbers) for _ in range(firsts)])
        except Exception as error:
            stage.results.fail(workload(repeats, concurrency), "recollect, Redis", error)
            stage.say(f"{workload(repeats, concurrency)}: FAILED, {error}")


def _cell(stage: Stage, repeats: float, concurrency: int, begins: list[int]) -> None:
    def lines(number: int | None) -> list[bytes]:
        if number is None:
            return _lines(200, 0.0, begins[0] + 40_000_000)
        return _lines(stage.plan.rerun_rows, repeats, begins[number])

    model, url = start_model(stage)
    settings = {"TARGET": url, "CONCURRENCY": str(concurrency)}
    measure(stage, workload(repeats, concurrency), model, settings, lines, len(begins))


def measure(
    stage: Stage,
    name: str,
    model: Child,
    settings: Mapping[str, str],
    lines: Callable[[int | None], list[bytes]],
    firsts: int,
) -> None:
    """Rounds of a re-run, of which the first so many begin with a first run; `model` is ended.

    `settings` are the model's. `lines` gives the rows of a round that has a first run, and of the warm-up.
    """
    entrant = OwnEntrant(
        stage, "rerun", "redis", **{f"MODELS__M__{key}": value for key, value in settings.items()}
    )
    with model, entrant.start() as worker:
        try:
            _map(stage, _write(stage.place / "warm.jsonl", lines(None)))
            worker.wait_until(lambda: True, 1, "worker")
            for number in range(stage.plan.rounds):
                if number < firsts:
                    rows = _write(stage.place / "rows.jsonl", lines(number))
                    _keep(stage, name, FIRST, _map(stage, rows))
                _keep(stage, name, AGAIN, _map(stage, rows))
        finally:
            entrant.close()


def _keep(stage: Stage, workload: str, which: str, times: tuple[float, float]) -> None:
    for name, seconds in zip(("whole command, s", "producer's clock, s"), times, strict=True):
        stage.results.add(workload, which, name, seconds)
    stage.say(f"{workload}: {which} {times[0]:.2f} s, its own clock {times[1]:.2f} s")


def _map(stage: Stage, rows: Path) -> tuple[float, float]:
    """Seconds of the whole command, and by the clock that it prints. Raises Failed."""
    output = rows.with_name("replies.jsonl")
    begun = time.perf_counter()
    command = ours("-m", "producer", "map", str(rows), "-o", str(output), "--progress", "none")
    where = ("--broker-url", stage.queue_url("redis"), "--prefix", "bench-redis")
    said = run([*command, *where], {}, _SECONDS).stderr
    seconds = time.perf_counter() - begun
    expected, answered = _count(rows), _count(output)
    rate = _RATE.search(said)
    if answered != expected or rate is None:
        raise Failed(f"{answered} replies for {expected} rows; the producer said: {said[-300:]}")
    return seconds, expected / float(rate[1].replace(",", ""))


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def _lines(count: int, repeats: float, begin: int) -> list[bytes]:
    """Rows, of which the share `repeats` was there before among them."""
    source = random.Random(begin)
    fresh = max(1, round(count * (1 - repeats)))
    distinct = [orjson.dumps(payload(begin + number, 400)) for number in range(fresh)]
    rows = distinct + [source.choice(distinct) for _ in range(count - fresh)]
    if repeats:
        source.shuffle(rows)
    return rows
