"""What the page shows, as JSON: made of the fleet's figures, the queues, and what is wrong."""

from collections.abc import Mapping, Sequence
from typing import Any

from wire.errors import Outcome
from worker.fleet.figures import Figures
from worker.fleet.reader import Fleet, Step
from worker.fleet.reporter import ALIVE_SECONDS, is_heard
from worker.metrics import CALL_SECONDS
from worker.page.quantile import quantile

_BY_A_CALL = frozenset(
    {
        Outcome.MISS.value,
        Outcome.REFRESH.value,
        Outcome.BYPASS.value,
        Outcome.UNAVAILABLE.value,
        Outcome.UNCACHEABLE.value,
        Outcome.FAILED.value,
    }
)
_HIT = frozenset({Outcome.HIT.value})
FAILED = frozenset({Outcome.INVALID.value, Outcome.FAILED.value, Outcome.EXPIRED.value})


def of_figures(fleet: Fleet, model: str | None) -> dict[str, Any]:
    """Totals, series, marks, models, workers and what is broken, of one model or of all."""
    steps = [Step(step.begin, _of_model(step.figures, model)) for step in fleet.steps]
    total, rates = _of_model(fleet.total(), model), _of_model(fleet.rates, model)
    outcomes = by_label(total, "requests")
    requests = sum(outcomes.values())
    return {
        "totals": {
            "requests": requests,
            "requests_per_second": sum(by_label(rates, "requests").values()),
            "hit_ratio": ratio(total, _HIT),
            "saved_seconds": sum(by_label(total, "saved").values()),
            "failed_ratio": ratio(total, FAILED),
            "outcomes": outcomes,
        },
        "series": _series(steps),
        "marks": _marks(fleet, model),
        "models": [_model(name, fleet, total, rates) for name in _names(fleet, total, model)],
        "workers": _workers(fleet),
        "broken": broken(steps),
    }


def by_label(figures: Figures, name: str) -> dict[str, float]:
    """The figures of one name, by their last label."""
    found: dict[str, float] = {}
    for key, value in figures.items():
        if key[0] == name:
            found[key[-1]] = found.get(key[-1], 0) + value
    return found


def ratio(figures: Figures, outcomes: frozenset[str]) -> float | None:
    """Which share of the requests had one of these outcomes; None where there were none."""
    counts = by_label(figures, "requests")
    whole = sum(counts.values())
    return sum(counts.get(name, 0) for name in outcomes) / whole if whole else None


def is_alive(worker: Mapping[str, Any], now: float) -> bool:
    """Whether a worker has been heard of lately."""
    return is_heard(number(worker.get("seen")), now, ALIVE_SECONDS)


def number(value: Any) -> float:
    """A number that another process wrote; 0 where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def broken(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Errors and dead letters of the window, grouped, the most common first."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for step in steps:
        for key, count in step.figures.items():
            if key[0] not in ("failed", "dead"):
                continue
            what, of = ("dead letter", None) if key[0] == "dead" else ("failed request", key[1])
            group = found.setdefault(
                key, {"what": what, "kind": key[-1], "model": of, "count": 0, "first": step.begin, "last": 0}
            )
            group["count"] += count
            group["last"] = step.begin
    return sorted(found.values(), key=lambda group: -group["count"])


def _series(steps: Sequence[Step]) -> dict[str, Any]:
    counted = [by_label(step.figures, "requests") for step in steps]
    saved = [sum(by_label(step.figures, "saved").values()) for step in steps]
    known = [outcome.value for outcome in Outcome if any(outcome.value in step for step in counted)]
    return {
        "times": [step.begin for step in steps],
        "outcomes": {name: [step.get(name, 0) for step in counted] for name in known},
        "saved_seconds": saved,
    }


def _marks(fleet: Fleet, model: str | None) -> list[dict[str, Any]]:
    begin = fleet.steps[0].begin if fleet.steps else fleet.now
    marks = [
        {"time": when, "text": f"{name} version {version}"}
        for (name, version), when in fleet.versions.items()
        if when >= begin and model in (None, name)
    ]
    return sorted(marks, key=lambda mark: number(mark["time"]))


def _names(fleet: Fleet, total: Figures, model: str | None) -> list[str]:
    served = {name for said in fleet.workers.values() for name in _models_of(said)}
    counted = {key[1] for key in total if key[0] == "attempts"}
    return sorted(name for name in served | counted if model in (None, name))


def _model(name: str, fleet: Fleet, total: Figures, rates: Figures) -> dict[str, Any]:
    said = [
        _models_of(worker)[name]
        for worker in fleet.workers.values()
        if is_alive(worker, fleet.now) and name in _models_of(worker)
    ]
    calls, attempts = _of_name(total, "calls", name), sum(_of_name(total, "attempts", name).values())
    answered = sum(
        value for key, value in total.items() if key[:2] == ("requests", name) and key[2] in _BY_A_CALL
    )
    return {
        "name": name,
        "version": ", ".join(sorted({str(one.get("version")) for one in said})) or None,
        "calls_per_second": sum(_of_name(rates, "calls", name).values()),
        "p50_seconds": quantile(0.5, calls, CALL_SECONDS),
        "p99_seconds": quantile(0.99, calls, CALL_SECONDS),
        "attempts_per_call": attempts / answered if answered else None,
        "workers_down": sum(one.get("is_down") is True for one in said),
        "workers": len(said),
        "busy": sum(number(one.get("busy")) for one in said),
        "slots": sum(number(one.get("slots")) for one in said),
    }


def _workers(fleet: Fleet) -> list[dict[str, Any]]:
    rows = []
    for name, said in sorted(fleet.workers.items()):
        models = _models_of(said).values()
        rows.append(
            {
                "id": name,
                "host": str(said.get("host")),
                "pid": said.get("pid"),
                "version": str(said.get("version")),
                "started": number(said.get("started")),
                "seen_seconds_ago": max(0.0, fleet.now - number(said.get("seen"))),
                "state": str(said.get("state")) if is_alive(said, fleet.now) else "late",
                "busy": sum(number(one.get("busy")) for one in models),
                "slots": sum(number(one.get("slots")) for one in models),
                "in_progress": number(said.get("in_progress")),
                "requests_per_second": fleet.worker_rates.get(name, 0.0),
                "rss_bytes": number(said.get("rss_bytes")),
            }
        )
    return rows


def _models_of(said: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    models = said.get("models")
    if not isinstance(models, dict):
        return {}
    return {name: model for name, model in models.items() if isinstance(model, dict)}


def _of_model(figures: Figures, model: str | None) -> Figures:
    """What a dead letter died of is known, but not of which model."""
    if model is None:
        return figures
    return {key: value for key, value in figures.items() if key[0] == "dead" or key[1] == model}


def _of_name(figures: Figures, name: str, model: str) -> dict[str, float]:
    return {key[2]: value for key, value in figures.items() if key[:2] == (name, model)}
