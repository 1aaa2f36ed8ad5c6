"""The miss path: a model that waits 50 ms, our worker against a bare pool of threads with the same client."""

import itertools
import re
import signal
import time

from bench.entrants import OwnEntrant
from bench.process import Child, ours, run_json
from bench.stage import Stage

MODEL_MS = 50
CONCURRENCIES = (8, 64)
POOL, OURS_HERE = "bare thread pool", "recollect, Redis"
_URL = re.compile(r"ready (http://\S+)")
_SECONDS = 300


def workload(concurrency: int) -> str:
    """Its name in the results."""
    return f"misses at concurrency {concurrency}"


def start_model(stage: Stage, port: int = 0, *, latency_ms: int = MODEL_MS) -> tuple[Child, str]:
    """The model service and its URL; the caller stops it. Raises Failed."""
    command = ours("-m", "bench.model_server", f"--latency-ms={latency_ms}", f"--port={port}")
    model = Child("model", command, stage.place / "logs", {})
    model.wait_until(lambda: bool(_URL.findall(model.said)), 20, "model")
    return model, _URL.findall(model.said)[-1]


def misses(stage: Stage) -> None:
    """Warm-up and rounds of both, for each concurrency."""
    for concurrency in CONCURRENCIES:
        try:
            _rounds(stage, concurrency)
        except Exception as error:
            stage.results.fail(workload(concurrency), OURS_HERE, error)
            stage.say(f"{workload(concurrency)}: FAILED, {error}")


def _rounds(stage: Stage, concurrency: int) -> None:
    count = max(concurrency, int(concurrency * stage.plan.miss_seconds * 1000 / MODEL_MS))
    fresh = itertools.count(1_000_000 * concurrency, count)  # payloads that nobody has seen
    model, url = start_model(stage)
    settings = {"MODELS__M__TARGET": url, "MODELS__M__CONCURRENCY": str(concurrency)}
    entrant = OwnEntrant(stage, OURS_HERE, "redis", **settings)
    with model, entrant.start() as worker:
        try:
            burst(entrant, worker, min(count, 4 * concurrency), next(fresh))
            for _ in range(stage.plan.rounds):
                _round(stage, entrant, worker, url, (concurrency, count), fresh)
        finally:
            entrant.close()


def _round(
    stage: Stage,
    entrant: OwnEntrant,
    worker: Child,
    url: str,
    load: tuple[int, int],
    fresh: "itertools.count[int]",
) -> None:
    concurrency, count = load
    arguments = ("-m", "bench.bare_pool", f"--url={url}", f"--concurrency={concurrency}", f"--count={count}")
    said = run_json(ours(*arguments, f"--first={next(fresh)}"), {})
    seconds = burst(entrant, worker, count, next(fresh))
    bare, own = said["count"] / said["seconds"], count / seconds
    stage.results.add(workload(concurrency), POOL, "rate", bare)
    stage.results.add(workload(concurrency), OURS_HERE, "rate", own)
    stage.say(f"{workload(concurrency)}: pool {bare:,.0f}/s, ours {own:,.0f}/s")


def burst(entrant: OwnEntrant, worker: Child, count: int, first: int) -> float:
    """Seconds until so many payloads from number `first` on are answered, the queue being full at the start.

    Raises Failed.
    """
    worker.send_signal(signal.SIGSTOP)
    try:
        entrant.fill(count, 400, first=first, keys=count)
        begun = time.perf_counter()
    finally:
        worker.send_signal(signal.SIGCONT)
    ended = worker.wait_until(lambda: entrant.replies() >= count, _SECONDS, "last reply", 0.005)
    entrant.clear()
    return ended - begun
