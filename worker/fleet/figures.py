"""What one worker counted: figures by name and labels, as its metrics have them, and how they travel."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from prometheus_client import Counter

from worker.metrics import Metrics

Key = tuple[str, ...]
Figures = dict[Key, float]
"""A name and its labels to a count: (`requests`, model, outcome), (`saved`, model) in seconds, (`attempts`,
model, result), (`calls`, model, upper bound of their seconds), (`failed`, model, kind), (`dead`, reason)."""


def read(metrics: Metrics) -> Figures:
    """What has been counted since the worker's start."""
    counted: tuple[tuple[str, Counter, tuple[str, ...]], ...] = (
        ("requests", metrics.requests, ("model", "outcome")),
        ("saved", metrics.saved, ("model",)),
        ("attempts", metrics.attempts, ("model", "result")),
        ("failed", metrics.failed, ("model", "kind")),
        ("dead", metrics.dead_letters, ("reason",)),
    )
    figures: Figures = {}
    for name, counter, labels in counted:
        for sample in next(iter(counter.collect())).samples:
            if sample.value:
                figures[(name, *(sample.labels[label] for label in labels))] = sample.value
    for (model,), counts in metrics.call_seconds.counts():
        for bound, count in counts.items():
            if count:
                figures["calls", model, bound] = count
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
        if isinstance(row, list) and len(row) > 1 and all(isinstance(part, str) for part in row[:-1]):
            value = row[-1]
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                yield tuple(row[:-1]), value
