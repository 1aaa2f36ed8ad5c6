"""A quantile of what a histogram counted, as Prometheus' histogram_quantile estimates it."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate


def quantile(share: float, counts: Mapping[str, float], bounds: Sequence[float]) -> float | None:
    """The value below which `share` of the observations lie: `counts` are by their bucket's upper bound, and
    taken to be spread evenly within it. None without observations; the highest of `bounds`, which are
    finite and ascending, where it lies beyond."""
    uppers = (*bounds, math.inf)
    by_upper = {float(bound): count for bound, count in counts.items()}
    sums = list(accumulate(by_upper.get(upper, 0) for upper in uppers))
    if sums[-1] <= 0:
        return None
    rank = share * sums[-1]
    at = bisect_left(sums, rank)
    lower = uppers[at - 1] if at else 0.0
    if at == len(bounds):
        return lower
    before = sums[at - 1] if at else 0
    return lower + (uppers[at] - lower) * (rank - before) / (sums[at] - before)
