"""What one worker counted: figures by name and labels, as its metrics have them, and how they travel."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from prometheus_client import Counter

from worker.metrics import AGE_SECONDS, CALL_SECONDS, Metrics

Key = tuple[str, ...]
Figures = dict[Key, float]
"""A name and its labels to a count: (`requests`, model, outcome), (`saved`, model) in seconds, (`attempts`,
model, result), (`calls`, model, upper bound of their seconds), (`spent`, model) on them in seconds,
(`failed`, model, kind), (`dead`, reason), (`ages`, model, upper bound of the age of a hit's entry),
(`misses`, model, reason) of those that were sampled."""

_LABELS = {
    "requests": 2, "saved": 1, "attempts": 2, "calls": 2, "spent": 1, "failed": 2, "dead": 1, "ages": 2,
    "misses": 2,
}  # fmt: skip
_BOUNDS = {
    name: frozenset([*map(str, bounds), "+Inf"])
    for name, bounds in (("calls", CALL_SECONDS), ("ages", AGE_SECONDS))
}
_MOST = 2.0**53


def read(metrics: Metrics) -> Figures:
    """What has been counted since the worker's start."""
    counted: tuple[tuple[str, Counter, tuple[str, ...]], ...] = (
        ("requests", metrics.requests, ("model", "outcome")),
        ("saved", metrics.saved, ("model",)),
        ("attempts", metrics.attempts, ("model", "result")),
        ("failed", metrics.failed, ("model", "kind")),
        ("dead", metrics.dead_letters, ("reason",)),
        ("misses", metrics.sampled, ("model", "reason")),
    )
    figures: Figures = {}
    for name, counter, labels in counted:
        for sample in next(iter(counter.collect())).samples:
            if sample.value:
                figures[(name, *(sample.labels[label] for label in labels))] = sample.value
    for name, histogram in (("calls", metrics.call_seconds), ("ages", metrics.hit_ages)):
        for (model,), counts in histogram.counts():
            figures |= {(name, model, bound): count for bound, count in counts.items() if count}
    figures |= {
        ("spent", *model): seconds for model, seconds in metrics.call_seconds.sums().items() if seconds
    }
    return figures


def difference(later: Figures, earlier: Figures) -> Figures:
    """What has come since; what has not changed is left out."""
    return {key: value - earlier.get(key, 0) for key, value in later.items() if value != earlier.get(key, 0)}


def add(total: Figures, more: Mapping[Key, float]) -> None:
    """Add `more` to `total`."""
    for key, value in more.items():
        total[key] = total.get(key, 0) + value


def encode(figures: Figures) -> bytes:
    """As it is stored."""
    return orjson.dumps([[*key, value] for key, value in figures.items()])


def decode(stored: bytes) -> Figures:
    """What `encode` made; nothing of what is not of that form: others may write to that server, too."""
    try:
        rows = orjson.loads(stored)
    except orjson.JSONDecodeError:
        return {}
    return dict(_rows(rows if isinstance(rows, list) else []))


def _rows(rows: Iterable[Any]) -> Iterable[tuple[Key, float]]:
    for row in rows:
        if not isinstance(row, list) or not all(isinstance(part, str) for part in row[:-1]):
            continue
        *key, value = row or [None]
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST
        if is_number and key and len(key) == 1 + _LABELS.get(key[0], -1) and _is_bound(key):
            yield tuple(key), value


def _is_bound(key: Sequence[str]) -> bool:
    return key[0] not in _BOUNDS or key[-1] in _BOUNDS[key[0]]
