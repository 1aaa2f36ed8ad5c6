"""What a hit costs as things grow: the payload, the entries in the cache, the workers on a slow model."""

import contextlib
import itertools
import os
import signal
import time
import urllib.request
from collections.abc import Iterator

from bench.entrants import OwnEntrant
from bench.misses import start_model
from bench.process import Child
from bench.stage import Stage
from bench.visit import Load, burst
from tests.support.waiting import free_port

PAYLOADS, ENTRIES, WORKERS = "payload grows", "entries grow", "workers grow"
_NAME = "recollect, Redis"
_BYTES, _MOST, _LEAST = 32 << 20, 10_000, 32
_SECONDS, _WORKER_CONCURRENCY, _CALLS_EACH = 120, 8, 320
_BATCH = 2_000


def growth(stage: Stage) -> None:
    """All three."""
    for name, measure in ((PAYLOADS, _payloads), (ENTRIES, _entries), (WORKERS, _workers)):
        try:
            measure(stage)
        except Exception as error:
            stage.results.fail(name, _NAME, error)
            stage.say(f"{name}: FAILED, {error}")


def _payloads(stage: Stage) -> None:
    if not stage.plan.payloads:
        return
    with _at_work(stage, REQUEST_MAX_BYTES=str(2 << 20)) as (entrant, worker):
        counts = {size: max(_LEAST, min(_MOST, _BYTES // size)) for size in stage.plan.payloads}
        for size, count in counts.items():
            _remember(entrant, worker, count, size)
        for _ in range(stage.plan.rounds):
            for size, count in counts.items():
                _keep(stage, PAYLOADS, str(size), burst(stage, entrant, worker, Load(size, 1), count).rate)


def _entries(stage: Stage) -> None:
    if not stage.plan.entries:
        return
    stage.cache.flushdb()
    with _at_work(stage) as (entrant, worker):
        for entries in stage.plan.entries:
            _remember(entrant, worker, min(entries, _MOST), 400)
            _pad(stage, entrant, entries)
            for _ in range(stage.plan.rounds):
                figures = burst(stage, entrant, worker, Load(400, 1), _MOST, keys=min(entries, _MOST))
                _keep(stage, ENTRIES, str(entries), figures.rate)
    stage.cache.flushdb()


def _pad(stage: Stage, entrant: OwnEntrant, entries: int) -> None:
    """Fill up to so many entries with copies of one under other names: the server cannot tell."""
    sample = stage.cache.get(next(stage.cache.scan_iter(f"{entrant.prefix}:k1:*", count=1000)))
    missing = entries - int(stage.cache.dbsize())
    for begin in range(0, missing, _BATCH):
        pipeline = stage.cache.pipeline(transaction=False)
        for _ in range(min(_BATCH, missing - begin)):
            pipeline.set(entrant.names.entry("m", "1", os.urandom(32).hex()), sample, ex=86_400)
        pipeline.execute()


def _workers(stage: Stage) -> None:
    if not stage.plan.workers:
        return
    numbers = itertools.count(30_000_000, 10_000)
    model, url = start_model(stage)
    with model:
        for _ in range(stage.plan.rounds):
            for count in stage.plan.workers:
                _keep(stage, WORKERS, str(count), fleet_rate(stage, url, count, first=next(numbers)))


def fleet_rate(
    stage: Stage,
    url: str,
    count: int,
    *,
    first: int,
    each: int = _CALLS_EACH,
    concurrency: int = _WORKER_CONCURRENCY,
) -> float:
    """Requests per second of so many workers, each with so many requests that nobody has seen, from payload
    number `first` on."""
    settings = {"MODELS__M__TARGET": url, "MODELS__M__CONCURRENCY": str(concurrency)}
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(count)]
        fleet = [
            OwnEntrant(stage, f"worker {port}", "redis", **settings, HTTP_PORT=str(port)) for port in ports
        ]
        workers = [stack.enter_context(entrant.start()) for entrant in fleet]
        for worker, port in zip(workers, ports, strict=True):
            worker.wait_until(lambda port=port: _is_ready(port), 60, "ready worker", 0.02)  # type: ignore[misc]
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        requests = count * each
        fleet[0].fill(requests, 400, first=first, keys=requests)
        begun = time.perf_counter()
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        ended = workers[0].wait_until(lambda: fleet[0].replies() >= requests, _SECONDS, "last reply", 0.005)
        for entrant in fleet:
            entrant.close()
    return requests / (ended - begun)


@contextlib.contextmanager
def _at_work(stage: Stage, **settings: str) -> Iterator[tuple[OwnEntrant, Child]]:
    entrant = OwnEntrant(stage, _NAME, "redis", **settings)
    with entrant.start() as worker:
        try:
            yield entrant, worker
        finally:
            entrant.close()


def _remember(entrant: OwnEntrant, worker: Child, count: int, size: int) -> None:
    entrant.fill(count, size, keys=count)
    worker.wait_until(lambda: entrant.replies() >= count, _SECONDS, "last reply", 0.005)
    entrant.clear()


def _keep(stage: Stage, workload: str, contestant: str, rate: float) -> None:
    stage.results.add(workload, contestant, "rate", rate)
    stage.say(f"{workload}: {contestant}: {rate:,.0f}/s")


def _is_ready(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
