"""How fast a model has been of late, from the fleet's figures."""

from typing import NamedTuple

from worker.durations import span
from worker.fleet.figures import Figures
from worker.fleet.reader import Fleet
from worker.page.status import of_figures

WINDOW_SECONDS = 3600


class Speed(NamedTuple):
    """Calls per second, and where that is known from."""

    per_second: float
    source: str


def speed(fleet: Fleet, model: str, *, takes_arrays: bool) -> Speed | None:
    """The larger of what the fastest minute saw and what the workers that are alive could do, at so many
    calls at once; None where nothing was measured. A model that takes arrays is judged by the first alone."""
    known = [_fastest(fleet, model)]
    if not takes_arrays:
        known.append(_possible(fleet, model))
    return max((one for one in known if one is not None), default=None)


def _fastest(fleet: Fleet, model: str) -> Speed | None:
    """Of the minutes that are over."""
    counts = [_calls(step.figures, model) for step in fleet.steps[:-1]]
    most = max(counts, default=0)
    return Speed(most / fleet.step_seconds, "the fastest minute of the last hour") if most else None


def _possible(fleet: Fleet, model: str) -> Speed | None:
    total = fleet.total()
    calls, spent = _calls(total, model), total.get(("spent", model), 0)
    slots = sum(row["slots"] for row in of_figures(fleet, model)["models"])
    if not (calls and spent and slots):
        return None
    mean = spent / calls
    return Speed(slots / mean, f"{slots:,.0f} calls at once of {span(mean)} each, as in the last hour")


def _calls(figures: Figures, model: str) -> float:
    return sum(value for key, value in figures.items() if key[:2] == ("calls", model))
