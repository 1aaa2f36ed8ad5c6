"""What becomes of raw figures: medians, ranges, percentiles, ratios."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of some rounds, with the least and the most."""

    median: float
    least: float
    most: float
    rounds: int


def summarise(values: Sequence[float]) -> Summary | None:
    """The summary of what the rounds gave; None of nothing."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that the share of all is not above (nearest rank). Raises ValueError of nothing."""
    if not values:
        raise ValueError("no values")
    ranked = sorted(values)
    rank = -(-round(share * 1_000_000) * len(ranked) // 1_000_000)
    return ranked[min(len(ranked), max(1, rank)) - 1]


def ratio(above: Summary | None, below: Summary | None) -> float | None:
    """The ratio of two medians; None where one is missing or nothing is to be divided by."""
    if above is None or below is None or below.median == 0:
        return None
    return above.median / below.median


def short(value: float) -> str:
    """Three significant digits, thousands with commas."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1e}"
