"""A fleet's figures for the page: invented, but they add up."""

import random
from typing import Any

NOW = 1764338565.0  # 2025-11-28 14:02:45 UTC
GIB = 1 << 30
State = dict[str, Any]


def hits(steps: int, per_second: float, ratio: float) -> dict[str, list[int]]:
    """Requests of each minute by outcome; the last minute has had 45 s."""
    rng = random.Random(1)
    series: dict[str, list[int]] = {name: [] for name in ("hit", "miss", "coalesced", "invalid", "failed")}
    for step in range(steps):
        requests = int(per_second * (45 if step == steps - 1 else 60) * rng.uniform(0.9, 1.08))
        missed = int(requests * (1 - ratio) * rng.uniform(0.7, 1.3))
        series["coalesced"].append(missed // 9)
        series["miss"].append(missed - missed // 9)
        series["invalid"].append(rng.choice([0, 0, 3, 7]))
        series["failed"].append(rng.choice([0, 1, 12, 31]))
        series["hit"].append(requests - missed - series["invalid"][-1] - series["failed"][-1])
    return series


def state_of(series: dict[str, list[int]], step: int = 60) -> State:
    """All is well: what was answered is these outcomes, `step` seconds each; nothing waits."""
    steps = max(map(len, series.values()), default=0)
    start = NOW - NOW % step - step * (steps - 1)
    return {
        "prefix": "recollect",
        "version": "0.1.0",
        "now": NOW,
        "window_seconds": 900,
        "step_seconds": step,
        "allows_actions": False,
        "is_paused": False,
        "verdict": {"level": "ok", "text": ""},
        "totals": totals_of(series, step * steps),
        "series": {
            "times": [start + step * n for n in range(steps)],
            "outcomes": series,
            "saved_seconds": [n * 0.2247 for n in series.get("hit", [])],
        },
        "marks": [],
        "models": [model("sentiment", "2", 78.1, 0.18, 14), model("language", "1", 10.2, 0.021, 1)],
        "workers": [worker(f"a{n}", n, "working", "0.1.0") for n in range(3)],
        "queues": queues(0, 0, 0, 0, 0),
        "broken": [],
        "services": services(),
    }


def totals_of(series: dict[str, list[int]], seconds: int) -> State:
    outcomes = {name: sum(numbers) for name, numbers in series.items()}
    requests, hits = sum(outcomes.values()), outcomes.get("hit", 0)
    errors = sum(outcomes.get(name, 0) for name in ("failed", "invalid", "expired"))
    return {
        "requests": requests,
        "requests_per_second": requests / seconds if seconds else None,
        "hit_ratio": hits / requests if requests else None,
        "saved_seconds": hits * 0.2247,
        "failed_ratio": errors / requests if requests else None,
        "waiting": 0,
        "oldest_seconds": 0,
        "empty_in_seconds": None,
        "dead_letters": 0,
        "outcomes": outcomes,
    }


def services() -> State:
    return {
        "broker": {"url": "redis://queue:6379/0", "is_ok": True, "error": None},
        "cache": {
            "url": "redis://cache:6379/0",
            "is_ok": True,
            "error": None,
            "version": "9.1.2",
            "memory_bytes": 640_679_936,
            "maxmemory_bytes": GIB,
            "policy": "allkeys-lfu",
            "evicted": 0,
        },
    }


def model(name: str, version: str, calls: float, seconds: float, busy: int) -> State:
    return {
        "name": name,
        "version": version,
        "calls_per_second": calls,
        "p50_seconds": seconds,
        "p99_seconds": seconds * 2.3,
        "attempts_per_call": 1.02,
        "workers_down": 0,
        "workers": 3,
        "busy": busy,
        "slots": 24,
    }


def worker(name: str, number: int, state: str, version: str) -> State:
    return {
        "id": name,
        "host": f"recollect-6f7c9-{name}",
        "pid": 7,
        "version": version,
        "started": NOW - 7500 - 97 * number,
        "seen_seconds_ago": 1.2 + number % 4,
        "state": state,
        "busy": 5 + number % 3,
        "slots": 12,
        "in_progress": 40 + number % 9,
        "requests_per_second": 1310.0 + 71 * (number % 5),
        "rss_bytes": 63_000_000 + 1_100_000 * (number % 6),
    }


def queues(requests: int, oldest: float, misses: int, oldest_miss: float, dead: int) -> list[State]:
    rows = (
        ("interactive", 0, None),
        ("requests", requests, oldest),
        ("misses", misses, oldest_miss),
        ("replies", 0, None),
        ("dead", dead, None),
    )
    return [{"name": f"recollect.{name}", "messages": n, "oldest_seconds": age} for name, n, age in rows]


def broken() -> list[State]:
    return [
        group("failed request", "model_timeout", 141, 790.0, 41.0, "sentiment"),
        group("failed request", "invalid_request", 38, 850.0, 120.0, None),
        group("dead letter", "poison", 2, 610.0, 604.0, None),
        group("dead letter", "undeliverable", 1, 333.0, 333.0, None),
    ]


def group(what: str, kind: str, count: int, first: float, last: float, model: str | None) -> State:
    return {
        "what": what,
        "kind": kind,
        "model": model,
        "count": count,
        "first": NOW - first,
        "last": NOW - last,
    }
