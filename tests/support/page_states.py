"""What a fleet's /status.json may say, for tests and pictures of the page: figures invented, but they add up."""

import random
from typing import Any

NOW = 1764338565.0  # 2025-11-28 14:02:45 UTC
GIB = 1 << 30
State = dict[str, Any]


def working() -> State:
    """Three workers that keep up."""
    state = _state(_hits(15, 4150.0, 0.979))
    state["verdict"] = {"level": "ok", "text": "Working, keeping up: 3 workers, oldest request 3.2 s."}
    state["marks"] = [{"time": NOW - 500, "text": "sentiment version 2"}]
    state["totals"] |= {
        "requests_per_second": 4150.0,
        "waiting": 12418,
        "oldest_seconds": 3.2,
        "empty_in_seconds": 3.0,
        "dead_letters": 4,
    }
    state["queues"] = _queues(12030, 3.2, 388, 1.9, 4)
    state["broken"] = _broken()
    return state


def falling_behind() -> State:
    """A new version of the model is a clean miss: the queue grows, and one worker has left the model alone."""
    series = _hits(15, 1900.0, 0.979)
    for step in range(9, 15):
        hit, all_of_it = series["hit"][step], 60 * 1900 if step < 14 else 45 * 1900
        series["hit"][step] = hit * (step - 8) // 9
        series["miss"][step] = all_of_it // 11 + 40 * step
        series["failed"][step] = 22 * (step - 8)
    state = _state(series)
    state["verdict"] = {
        "level": "warn",
        "text": "Falling behind: oldest request 4 min, 120 more each second; sentiment has all its places taken.",
    }
    state["marks"] = [{"time": NOW - 45 - 5 * 60 + 10, "text": "sentiment version 3"}]
    state["totals"] |= {
        "requests_per_second": 402.0,
        "waiting": 486120,
        "oldest_seconds": 247.0,
        "empty_in_seconds": None,
        "dead_letters": 4,
    }
    state["queues"] = _queues(12, 0.2, 486108, 247.0, 4)
    sentiment, language = state["models"]
    sentiment |= {
        "version": "3",
        "calls_per_second": 88.0,
        "p50_seconds": 0.41,
        "p99_seconds": 2.2,
        "attempts_per_call": 1.31,
        "workers_down": 1,
        "busy": 24,
        "slots": 24,
    }
    for worker in state["workers"]:
        worker |= {"busy": 12, "in_progress": 256, "requests_per_second": 134.0}
    state["workers"][1]["version"] = "0.0.9"
    state["workers"][2] |= {"state": "late", "seen_seconds_ago": 14.2, "requests_per_second": 0.0}
    state["broken"] = [
        _group("failed request", "model_timeout", 462, 790.0, 12.0, "sentiment"),
        *_broken()[1:],
    ]
    return state


def broker_down() -> State:
    """The queue's server is away; the figures of the fleet, which are with the cache, are still there."""
    state = working()
    url, error = "redis://queue:6379/0", "Error 111 connecting to queue:6379. Connection refused."
    state["verdict"] = {
        "level": "bad",
        "text": "Not working: the broker cannot be reached from 3 of 3 workers.",
    }
    state["services"]["broker"] = {"url": url, "is_ok": False, "error": error}
    state["totals"] |= dict.fromkeys(
        ("waiting", "oldest_seconds", "empty_in_seconds", "dead_letters"), None
    ) | {"requests_per_second": 0.0}
    for queue in state["queues"]:
        queue |= {"messages": None, "oldest_seconds": None}
    for worker in state["workers"]:
        worker |= {"state": "broker lost", "busy": 0, "in_progress": 0, "requests_per_second": 0.0}
    for model in state["models"]:
        model |= {"calls_per_second": 0.0, "busy": 0}
    return state


def cache_down() -> State:
    """The server that keeps entries and figures is away."""
    state = working()
    state["verdict"] = {"level": "bad", "text": "Working without its memory: the cache cannot be reached."}
    state["services"]["cache"] = dict.fromkeys(state["services"]["cache"]) | {
        "url": "redis://cache:6379/0",
        "is_ok": False,
        "error": "Timeout connecting to server",
    }
    broker_figures = {"waiting", "oldest_seconds", "dead_letters"}
    state["totals"] = {
        name: value if name in broker_figures else None for name, value in state["totals"].items()
    }
    state["series"] = {"times": [], "outcomes": {}, "saved_seconds": []}
    state |= {"marks": [], "models": [], "workers": [], "broken": []}
    return state


def empty() -> State:
    """Nothing has happened yet, and nobody works."""
    state = _state({"hit": [0] * 15})
    state["verdict"] = {"level": "idle", "text": "No worker is alive, and nothing has been asked."}
    state["totals"] |= {"requests_per_second": 0.0, "hit_ratio": None, "failed_ratio": None, "outcomes": {}}
    state["totals"] |= {"waiting": 0, "oldest_seconds": 0, "empty_in_seconds": None, "dead_letters": 0}
    state["series"]["outcomes"] = {}
    state["queues"] = _queues(0, 0, 0, 0, 0)
    return state | {"models": [], "workers": [], "broken": [], "marks": []}


def nothing_known() -> State:
    """Every figure that may be null is null, every list empty."""
    state = _state({})
    state["totals"] = dict.fromkeys(state["totals"]) | {"outcomes": {}}
    state["series"] = {"times": [], "outcomes": {}, "saved_seconds": []}
    state["services"] = {
        name: dict.fromkeys(known) | {"is_ok": True} for name, known in state["services"].items()
    }
    state["models"] = [dict.fromkeys(state["models"][0]) | {"name": "sentiment"}]
    state["workers"] = [dict.fromkeys(state["workers"][0]) | {"id": "a1"}]
    state["queues"] = [{"name": "recollect.requests", "messages": None, "oldest_seconds": None}]
    return state | {"broken": [], "marks": [], "verdict": {"level": "warn", "text": "Nothing is known."}}


def hostile(text: str) -> State:
    """A stranger's text in every place where a name or an error may stand."""
    state = working()
    state["verdict"] = {"level": text, "text": f"Working {text}"}
    state |= {"prefix": text, "version": text, "marks": [{"time": NOW - 300, "text": text}]}
    state["series"]["outcomes"][text] = [7] * 15
    state["totals"]["outcomes"][text] = 105
    for model in state["models"]:
        model |= {"name": f"{model['name']}{text}", "version": text}
    for worker in state["workers"]:
        worker |= {"id": text, "host": text, "version": text, "state": text}
    for queue in state["queues"]:
        queue["name"] = f"{queue['name']}{text}"
    state["broken"] = [
        _group(text, text, 3, 60.0, 5.0, text),
        _group("dead letter", text, 2, 60.0, 5.0, None),
    ]
    state["services"] = {
        name: known | {"url": text, "is_ok": False, "error": text}
        for name, known in state["services"].items()
    }
    state["services"]["cache"] |= {"version": text, "policy": text}
    return state


def huge() -> State:
    """Two hundred workers and more of everything than fits."""
    state = working()
    rng = random.Random(7)
    states = ["working"] * 9 + ["late", "draining", "paused", "broker lost"]
    state["workers"] = [
        _worker(f"w{n:03}", n, rng.choice(states), rng.choice(["0.1.0"] * 9 + ["0.2.0"])) for n in range(200)
    ]
    state["totals"] |= {
        "requests": 9007199254740991,
        "requests_per_second": 123456789.0,
        "saved_seconds": 9.9e15,
        "waiting": 987654321987,
        "oldest_seconds": 99999999.0,
        "empty_in_seconds": 31536000.0,
        "dead_letters": 18446744073709551615,
        "hit_ratio": 0.99999999,
        "failed_ratio": 1e-9,
    }
    state["models"] *= 12
    for number, model in enumerate(state["models"]):
        state["models"][number] = model | {"name": f"a-model-with-quite-a-long-name-{number:02}"}
    return state


def week() -> State:
    """Seven days in hours, a hole of nothing in it."""
    series = _hits(168, 900.0, 0.95)
    for name in series:
        series[name][40:52] = [0] * 12
    hours = {
        name: [n * 60 for n in numbers[:-1]] + [n * 5 for n in numbers[-1:]]
        for name, numbers in series.items()
    }
    state = _state(hours, step=3600)
    return state | {"verdict": working()["verdict"], "window_seconds": 604800}


def _hits(steps: int, per_second: float, ratio: float) -> dict[str, list[int]]:
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


def _state(series: dict[str, list[int]], step: int = 60) -> State:
    totals = {name: sum(numbers) for name, numbers in series.items()}
    requests, hits = sum(totals.values()), totals.get("hit", 0)
    steps = max(map(len, series.values()), default=0)
    start = NOW - NOW % step - step * (steps - 1)
    errors = sum(totals.get(name, 0) for name in ("failed", "invalid", "expired", "not_cached"))
    return {
        "prefix": "recollect",
        "version": "0.1.0",
        "now": NOW,
        "window_seconds": 900,
        "step_seconds": step,
        "allows_actions": False,
        "is_paused": False,
        "verdict": {"level": "ok", "text": ""},
        "totals": {
            "requests": requests,
            "requests_per_second": requests / (step * steps) if steps else None,
            "hit_ratio": hits / requests if requests else None,
            "saved_seconds": hits * 0.2247,
            "failed_ratio": errors / requests if requests else None,
            "waiting": 0,
            "oldest_seconds": 0,
            "empty_in_seconds": None,
            "dead_letters": 0,
            "outcomes": totals,
        },
        "series": {
            "times": [start + step * n for n in range(steps)],
            "outcomes": series,
            "saved_seconds": [n * 0.2247 for n in series.get("hit", [])],
        },
        "marks": [],
        "models": [_model("sentiment", "2", 78.1, 0.18, 14), _model("language", "1", 10.2, 0.021, 1)],
        "workers": [_worker(f"a{n}", n, "working", "0.1.0") for n in range(3)],
        "queues": _queues(0, 0, 0, 0, 0),
        "broken": [],
        "services": {
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
        },
    }


def _model(name: str, version: str, calls: float, seconds: float, busy: int) -> State:
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


def _worker(name: str, number: int, state: str, version: str) -> State:
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


def _queues(requests: int, oldest: float, misses: int, oldest_miss: float, dead: int) -> list[State]:
    rows = (
        ("requests", requests, oldest),
        ("misses", misses, oldest_miss),
        ("replies", 0, 0),
        ("dead", dead, 7300.0 * bool(dead)),
    )
    return [{"name": f"recollect.{name}", "messages": n, "oldest_seconds": age} for name, n, age in rows]


def _broken() -> list[State]:
    return [
        _group("failed request", "model_timeout", 141, 790.0, 41.0, "sentiment"),
        _group("failed request", "invalid_request", 38, 850.0, 120.0, None),
        _group("dead letter", "poison", 2, 610.0, 604.0, None),
        _group("dead letter", "undeliverable", 1, 333.0, 333.0, None),
    ]


def _group(what: str, kind: str, count: int, first: float, last: float, model: str | None) -> State:
    return {
        "what": what,
        "kind": kind,
        "model": model,
        "count": count,
        "first": NOW - first,
        "last": NOW - last,
    }
