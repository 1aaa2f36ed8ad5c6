"""A histogram that takes many observations of one value at once.

prometheus_client's own takes them one by one, under a lock, and finds its labels anew each time: for a batch
of hits that was a third of all the work. This is what it exports, counted per batch.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily


class BatchHistogram:
    """Written by one thread, read by any. `buckets` are upper bounds in ascending order, without infinity."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._bounds = tuple(buckets)
        self._shown = [*(str(bound) for bound in self._bounds), "+Inf"]
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not labels:
            self.touch()
        registry.register(self)

    def touch(self, *labels: str) -> None:
        """Let the series of these labels begin at 0."""
        if labels not in self._counts:
            self._sums[labels] = 0.0
            self._counts[labels] = [0] * (len(self._bounds) + 1)

    def observe(self, value: float, *labels: str, count: int = 1) -> None:
        """So many observations of `value`."""
        self.touch(*labels)
        self._counts[labels][bisect_left(self._bounds, value)] += count
        self._sums[labels] += value * count

    def observe_all(self, values: Iterable[float], *labels: str) -> None:
        """One observation of each."""
        self.touch(*labels)
        counts, bounds, total = self._counts[labels], self._bounds, 0.0
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self._sums[labels] += total

    def counts(self) -> list[tuple[tuple[str, ...], dict[str, int]]]:
        """For each set of labels how many observations were in each bucket, by its upper bound. For any
        thread."""
        return [
            (labels, dict(zip(self._shown, list(counts), strict=True)))
            for labels, counts in list(self._counts.items())
        ]

    def sums(self) -> dict[tuple[str, ...], float]:
        """For each set of labels the sum of what was observed. For any thread."""
        return dict(self._sums)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What prometheus_client asks of a collector."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, counts in list(self._counts.items()):
            buckets = list(zip(self._shown, map(float, accumulate(counts)), strict=True))
            family.add_metric(labels, buckets, sum_value=self._sums[labels])
        return [family]
