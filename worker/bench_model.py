"""`python -m worker bench-model MODEL`: what concurrency, and what batch size, saturates a model.

The calls go through the same target and the same pool of threads as a worker's. No broker and no cache is
touched, nothing is remembered, nothing is retried.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

import orjson

from wire.errors import InvalidRequest
from wire.key import canonical
from wire.values import refuse_large_integers
from worker.attempt import Attempt
from worker.calls import Callee
from worker.console import FAILED, OK, UsageError, print_json, say
from worker.models import build_callee
from worker.pool import Batching, Pool
from worker.sources import Loaded

MOST = 1024
_GROWTH, _MORE_ERRORS = 1.05, 0.01
_CALLS_EACH, _PATIENCE = 5, 6
_GRACE_SECONDS, _LOOK_SECONDS = 0.5, 0.05
SAMPLE = b'{"text":"what a day"}'


@dataclass(frozen=True, slots=True)
class Step:
    """One setting: payloads per second that ended well, the latencies of their calls in ms, the share that
    failed. `batch_size` is 1 for a model that takes no arrays."""

    concurrency: int
    rate: float
    p50: float
    p95: float
    p99: float
    errors: float
    said: str = ""
    batch_size: int = 1


def bench_model(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Try 1, 2, 4, 8, … calls at once, for as long as more of them bring more; say which to set. For a model
    that takes arrays, first the same with the length of one array."""
    models = loaded.settings.models
    if arguments.model not in models:
        known = ", ".join(models) or "there is none"
        raise UsageError(f"error: model {arguments.model} is not in the settings; expected one of: {known}")
    payloads = read_payloads(arguments)
    try:
        model = models[arguments.model].model_copy(update={"concurrency": MOST})
        callee = build_callee(arguments.model, model, loaded.settings)
        callee.target.warm()
    except ValueError as error:
        raise UsageError(f"error: {error}") from None
    if not arguments.json:
        say(f"{arguments.model} at {model.target}: {arguments.seconds:g} s each, with {_shown(payloads)}")
        print(_heading(callee))

    def told(step: Step) -> Step:
        if not arguments.json:
            print(_row(step, callee), flush=True)
        return step

    sizes: list[Step] = []
    if callee.batching is not None:
        sizes = list(climb(lambda size: told(measure(callee, payloads, 1, arguments.seconds, size))))
    size = best.batch_size if (best := chosen(sizes)) else 1
    steps = list(climb(lambda most: told(measure(callee, payloads, most, arguments.seconds, size))))
    return _conclude(arguments, callee, sizes, steps)


def climb(measured: Callable[[int], Step]) -> Iterator[Step]:
    """The steps, up to and with the first that brings less than 5 % more, or more errors."""
    before: Step | None = None
    concurrency = 1
    while concurrency <= MOST:
        step = measured(concurrency)
        yield step
        if before is not None and not better(step, before):
            return
        if step.rate == 0:
            return
        before, concurrency = step, concurrency * 2


def better(step: Step, before: Step) -> bool:
    """Whether `step` is worth its threads."""
    return step.rate >= before.rate * _GROWTH and step.errors <= before.errors + _MORE_ERRORS


def chosen(steps: Sequence[Step]) -> Step | None:
    """The one to use: the last that was better than the one before it; None where no call ended well."""
    found = None
    for before, step in zip([None, *steps], steps, strict=False):
        if step.rate > 0 and (before is None or better(step, before)):
            found = step
    return found


def measure(
    callee: Callee, payloads: Sequence[bytes], concurrency: int, seconds: float, batch_size: int = 1
) -> Step:
    """Keep so many calls under way for `seconds`, longer where that is less than five calls of each thread.

    Before, every thread makes one call that does not count: it opens the connection.
    """
    ended: SimpleQueue[Attempt] = SimpleQueue()
    batching = None if callee.batching is None else Batching(batch_size, 0.0)
    pool = Pool("bench", callee.target, concurrency, ended.put, batching)
    source = itertools.cycle(payloads)
    most = concurrency * batch_size
    try:
        _run(pool, ended, source, callee, most=most, until=time.monotonic())
        begun = time.monotonic()
        attempts = _run(pool, ended, source, callee, most=most, until=begun + seconds)
        return _step(concurrency, attempts, begun, batch_size)
    finally:
        pool.close()


def _run(
    pool: Pool,
    ended: "SimpleQueue[Attempt]",
    source: Iterator[bytes],
    callee: Callee,
    *,
    most: int,
    until: float,
) -> list[Attempt]:
    """Attempts, `most` at once, begun until it is time; all of them have ended."""
    least = most * (_CALLS_EACH if until > time.monotonic() else 1)
    patience = until + _PATIENCE * max(0.0, until - time.monotonic())
    done: list[Attempt] = []
    for _ in range(most):
        pool.submit(Attempt(None, next(source)))
    under_way = most
    while under_way:
        for attempt in _some(pool, ended, callee):
            done.append(attempt)
            under_way -= 1
            now = time.monotonic()
            if now < until or (len(done) + under_way < least and now < patience):
                pool.submit(Attempt(None, next(source)))
                under_way += 1
    return done


def _some(pool: Pool, ended: "SimpleQueue[Attempt]", callee: Callee) -> Iterator[Attempt]:
    """What has ended; what hangs is written off, as a worker does."""
    try:
        yield ended.get(timeout=_LOOK_SECONDS)
    except Empty:
        now = time.monotonic()
        for attempt in pool.overdue(now, callee.timeout_seconds + _GRACE_SECONDS):
            attempt.ended = now
            yield attempt


def _step(concurrency: int, attempts: Sequence[Attempt], begun: float, batch_size: int) -> Step:
    good = sorted(1000 * (a.ended - a.begun) for a in attempts if a.result is not None)
    failed = len(attempts) - len(good)
    # What was written off has neither result nor error.
    said = next((str(a.error) if a.error else "no answer in time" for a in attempts if a.result is None), "")
    seconds = max(a.ended for a in attempts) - begun
    p50, p95, p99 = (good[int(share * len(good))] if good else 0.0 for share in (0.5, 0.95, 0.99))
    return Step(concurrency, len(good) / seconds, p50, p95, p99, failed / len(attempts), said, batch_size)


def read_payloads(arguments: argparse.Namespace) -> list[bytes]:
    """What to send, as a worker would send it. Raises UsageError."""
    try:
        if arguments.payloads is not None:
            lines = Path(arguments.payloads).read_bytes().splitlines()
        else:
            lines = [SAMPLE if arguments.payload is None else arguments.payload.encode()]
        found = [_canonical(line) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError, InvalidRequest) as error:
        raise UsageError(f"error: payload: {error}") from None
    if not found:
        raise UsageError(f"error: {arguments.payloads} holds no payload; expected one a line")
    return found


def _canonical(line: bytes) -> bytes:
    payload = canonical(orjson.loads(line))
    refuse_large_integers(line, payload)
    return payload


def _conclude(
    arguments: argparse.Namespace, callee: Callee, sizes: Sequence[Step], steps: Sequence[Step]
) -> int:
    best = chosen(steps)
    found = {} if best is None else {"concurrency": best.concurrency}
    if best is not None and callee.batching is not None:
        found["batch_size"] = best.batch_size
    if arguments.json:
        tried = [asdict(step) for step in (*sizes, *steps)]
        print_json({"model": arguments.model, "steps": tried, "concurrency": None, **found})
    if best is None:
        say(f"error: no call ended well: {steps[-1].said}")
        return FAILED
    if not arguments.json:
        print(f"\n[models.{arguments.model}]")
        print("\n".join(f"{name} = {value}" for name, value in found.items()))
    return OK


def _heading(callee: Callee) -> str:
    batch = "" if callee.batching is None else f" {'batch':>6}"
    rate = "calls/s" if callee.batching is None else "rows/s"
    return f"{'concurrency':>11}{batch} {rate:>10} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'failed':>7}"


def _row(step: Step, callee: Callee) -> str:
    said = f"  {step.said[:80]}" if step.said else ""
    batch = "" if callee.batching is None else f" {step.batch_size:>6}"
    return (
        f"{step.concurrency:>11}{batch} {step.rate:>10,.1f} {step.p50:>9,.1f} {step.p95:>9,.1f} "
        f"{step.p99:>9,.1f} {step.errors:>7.1%}{said}"
    )


def _shown(payloads: Sequence[bytes]) -> str:
    if len(payloads) > 1:
        return f"{len(payloads):,} payloads in turn"
    return f"the payload {payloads[0][:60].decode('utf-8', 'replace')}"
