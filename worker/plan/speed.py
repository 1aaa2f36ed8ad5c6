"""How fast a model has been of late, from the fleet's figures."""

from typing import NamedTuple

from worker.durations import span
from worker.fleet.figures import Figures
from worker.fleet.reader import Fleet
from worker.page.status import of_figures

WINDOW_SECONDS = 3600


_LEAST_SECONDS = 10.0  # of the present minute: its figures come by steps of seconds
_BUSY = 0.5  # of what its calls at once can do


class Speed(NamedTuple):
    """Calls per second, and where that is known from; `at_best` per second, and how, where the model was
    never busy in that time and may therefore do more."""

    per_second: float
    source: str
    at_best: float | None = None
    how: str | None = None


def speed(fleet: Fleet, model: str, *, takes_arrays: bool) -> Speed | None:
    """What was seen in the fastest minute, the present one included; None where there was no call. What a
    model that takes arrays may do at best is not known: how full they were is not."""
    seen = [one for one in (_seen(fleet, at, model) for at in range(len(fleet.steps))) if one is not None]
    if not seen:
        return None
    fastest = max(seen, key=lambda one: one.per_second)
    possible = None if takes_arrays else _possible(fleet, model)
    if possible is None or max(one.busy for one in seen) >= _BUSY * possible.slots:
        return Speed(fastest.per_second, fastest.source)
    if possible.per_second <= fastest.per_second:
        return Speed(fastest.per_second, fastest.source)
    return Speed(fastest.per_second, fastest.source, possible.per_second, possible.how)


class _Seen(NamedTuple):
    """Calls per second of a minute; `busy`: how many were under way at once, on average."""

    per_second: float
    busy: float
    source: str


def _seen(fleet: Fleet, at: int, model: str) -> _Seen | None:
    step, seconds = fleet.steps[at], float(fleet.step_seconds)
    source = "the fastest minute of the last hour"
    if at == len(fleet.steps) - 1:
        seconds = min(max(fleet.now - step.begin, _LEAST_SECONDS), seconds)
        earlier = any(_calls(one.figures, model) for one in fleet.steps[:-1])
        source = "the present minute" + ("" if earlier else ", no whole minute yet")
    calls = _calls(step.figures, model)
    if not calls:
        return None
    return _Seen(calls / seconds, step.figures.get(("spent", model), 0) / seconds, source)


class _Possible(NamedTuple):
    """What the workers that are alive could do at the mean call."""

    per_second: float
    slots: float
    how: str


def _possible(fleet: Fleet, model: str) -> _Possible | None:
    total = fleet.total()
    calls, spent = _calls(total, model), total.get(("spent", model), 0)
    slots = sum(row["slots"] for row in of_figures(fleet, model)["models"])
    if not (calls and spent and slots):
        return None
    mean = spent / calls
    return _Possible(slots / mean, slots, f"{slots:,.0f} calls at once of {span(mean)} each")


def _calls(figures: Figures, model: str) -> float:
    return sum(value for key, value in figures.items() if key[:2] == ("calls", model))
