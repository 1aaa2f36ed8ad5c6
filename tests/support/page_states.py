"""What the /status.json of a fleet may say, for tests and pictures of the page."""

import random

from tests.support import page_fleet as fleet
from tests.support.page_fleet import NOW, State


def working() -> State:
    """Three workers that keep up."""
    state = fleet.state_of(fleet.hits(15, 4150.0, 0.979))
    state["verdict"] = {"level": "ok", "text": "Working, keeping up: 3 workers, oldest request 3.2 s."}
    state["marks"] = [{"time": NOW - 500, "text": "sentiment version 2"}]
    state["totals"] |= {
        "requests_per_second": 4150.0,
        "waiting": 12418,
        "oldest_seconds": 3.2,
        "empty_in_seconds": 3.0,
        "dead_letters": 4,
    }
    state["queues"] = fleet.queues(12030, 3.2, 388, 1.9, 4)
    state["broken"] = fleet.broken()
    return state


def falling_behind() -> State:
    """A new version of the model is a clean miss: the queue grows, and a worker is late."""
    state = fleet.state_of(_clean_miss())
    state["verdict"] = {
        "level": "warn",
        "text": "Falling behind: the oldest request is 4.1 min old, +120/s; the model has no room left.",
    }
    state["marks"] = [{"time": NOW - 45 - 5 * 60 + 10, "text": "sentiment version 3"}]
    state["totals"] |= {
        "requests_per_second": 402.0,
        "waiting": 486120,
        "oldest_seconds": 247.0,
        "empty_in_seconds": None,
        "dead_letters": 4,
    }
    state["queues"] = fleet.queues(12, 0.2, 486108, 247.0, 4)
    sentiment, _ = state["models"]
    sentiment |= {
        "version": "3",
        "calls_per_second": 88.0,
        "p50_seconds": 0.41,
        "p99_seconds": 2.2,
        "attempts_per_call": 1.31,
        "busy": 24,
        "slots": 24,
    }
    for worker in state["workers"]:
        worker |= {"busy": 12, "in_progress": 256, "requests_per_second": 134.0}
    state["workers"][1]["version"] = "0.0.9"
    state["workers"][2] |= {"state": "late", "seen_seconds_ago": 14.2, "requests_per_second": 0.0}
    state["broken"] = [
        fleet.group("failed request", "model_timeout", 462, 790.0, 12.0, "sentiment"),
        *fleet.broken()[1:],
    ]
    return state


def _clean_miss() -> dict[str, list[int]]:
    """Six minutes ago hits became misses."""
    series = fleet.hits(15, 1900.0, 0.979)
    for step in range(9, 15):
        hit, all_of_it = series["hit"][step], 60 * 1900 if step < 14 else 45 * 1900
        series["hit"][step] = hit * (step - 8) // 9
        series["miss"][step] = all_of_it // 11 + 40 * step
        series["failed"][step] = 22 * (step - 8)
    return series


def broker_down() -> State:
    """The queue's server is away; the figures of the fleet, which are with the cache, are still there."""
    state = working()
    url, error = "redis://queue:6379/0", "Error 111 connecting to queue:6379. Connection refused."
    state["verdict"] = {
        "level": "bad",
        "text": "The broker does not answer: nothing comes in, and no reply goes out.",
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
    state["verdict"] = {
        "level": "bad",
        "text": "The cache does not answer: every request costs a model call. 12,418 messages wait.",
    }
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
    state = fleet.state_of({"hit": [0] * 15})
    state["verdict"] = {"level": "idle", "text": "No worker is alive, and nothing waits."}
    state["totals"] |= {"requests_per_second": 0.0, "hit_ratio": None, "failed_ratio": None, "outcomes": {}}
    state["totals"] |= {"waiting": 0, "oldest_seconds": 0, "empty_in_seconds": None, "dead_letters": 0}
    state["series"]["outcomes"] = {}
    state["queues"] = fleet.queues(0, 0, 0, 0, 0)
    return state | {"models": [], "workers": [], "broken": [], "marks": []}


def nothing_known() -> State:
    """Every figure that may be null is null, every list empty."""
    state = fleet.state_of({})
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
        fleet.group(text, text, 3, 60.0, 5.0, text),
        fleet.group("dead letter", text, 2, 60.0, 5.0, None),
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
        fleet.worker(f"w{n:03}", n, rng.choice(states), rng.choice(["0.1.0"] * 9 + ["0.2.0"]))
        for n in range(200)
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
    series = fleet.hits(168, 900.0, 0.95)
    for name in series:
        series[name][40:52] = [0] * 12
    hours = {
        name: [n * 60 for n in numbers[:-1]] + [n * 5 for n in numbers[-1:]]
        for name, numbers in series.items()
    }
    state = fleet.state_of(hours, step=3600)
    return state | {"verdict": working()["verdict"], "window_seconds": 604800}
