"""The yardsticks' rounds: the bare loop for each size of payload, and the raw round trips."""

from bench.process import Child, ours, run_json
from bench.results import Results
from bench.stage import Stage
from bench.stats import percentile
from bench.visit import LATENCY, hits

BARE, ECHO, SWAP = "bare loop", "raw Redis echo", "raw Redis push and pop"


def yardsticks(stage: Stage, results: Results) -> None:
    """One round of all of them. Raises Failed."""
    url = f"--url={stage.cache_url}"
    for size in stage.plan.sizes:
        said = run_json(_command("bare", url, f"--size={size}", f"--seconds={stage.plan.seconds}"), {})
        for packed in (False, True):  # the loop knows no messages: it is what both are measured against
            results.add(hits(size, packed), BARE, "rate", said["rate"])
        stage.say(f"{BARE}: {size} B {said['rate']:,.0f}/s")
    with Child("echo", _command("echo-server", url), stage.place / "logs", {}) as echo:
        echo.wait_until(lambda: "ready" in echo.said, 20, "echo")
        for name, action in ((ECHO, "echo"), (SWAP, "swap")):
            seconds = run_json(_command(action, url, f"--count={stage.plan.asks}"), {})["seconds"]
            for figure, share in (("p50", 0.5), ("p99", 0.99)):
                results.add(LATENCY, name, figure, 1000 * percentile(seconds, share))


def _command(action: str, *more: str) -> list[str]:
    return ours("-m", "bench.yardsticks", action, *more)
