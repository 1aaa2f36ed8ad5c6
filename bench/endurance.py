"""Memory of one worker: idle, and after ten thousand and a million hits."""

from bench import proc
from bench.entrants import OwnEntrant
from bench.payloads import KEYS
from bench.process import Child
from bench.stage import Stage
from bench.visit import PACK

WORKLOAD, NAME = "memory", "recollect, Redis"
_CHUNK, _SECONDS = 50_000, 300


def endurance(stage: Stage) -> None:
    """Packed messages, in portions that the server can hold, replies thrown away after each."""
    if not stage.plan.endurance:
        return
    try:
        _measure(stage)
    except Exception as error:
        stage.results.fail(WORKLOAD, NAME, error)
        stage.say(f"{WORKLOAD}: FAILED, {error}")


def _measure(stage: Stage) -> None:
    entrant = OwnEntrant(stage, NAME, "redis")
    with entrant.start() as worker:
        try:
            entrant.fill(1, 400)
            worker.wait_until(lambda: entrant.replies() >= 1, 30, "first reply")
            stage.results.add(WORKLOAD, NAME, "idle MB", proc.rss_mb(worker.session))
            done = 0
            for mark in stage.plan.endurance:
                while done < mark:
                    done += _some(entrant, worker, min(_CHUNK, mark - done))
                stage.results.add(WORKLOAD, NAME, f"after {mark:,} MB", proc.rss_mb(worker.session))
                stage.say(f"{WORKLOAD}: {proc.rss_mb(worker.session):.1f} MB after {mark:,} requests")
        finally:
            entrant.close()


def _some(entrant: OwnEntrant, worker: Child, count: int) -> int:
    entrant.clear()
    messages = entrant.fill(count, 400, PACK, keys=KEYS)["messages"]
    worker.wait_until(lambda: entrant.replies() >= messages, _SECONDS, "last reply", 0.02)
    entrant.clear()
    return count
