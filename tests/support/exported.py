"""What a worker exports, to hold expressions against."""

import re
from collections import defaultdict
from collections.abc import Sequence

from tests.support.promql import metrics_in_all
from wire.names import Names
from worker.metrics import Metrics

# What a scrape adds, and Prometheus itself makes.
SCRAPED = {"job", "instance", "pod"}
OTHERS = {"up": set[str](), "ALERTS": {"alertname", "alertstate"}}
_OPEN = {"model", "version", "queue", "le", *SCRAPED}  # labels without a closed set of values


class Exported:
    """The samples of a worker that serves a model, looks at its queues, and has seen one request. `records`
    are what recording rules add to them."""

    def __init__(self, records: Sequence[str]) -> None:
        self.metrics = _metrics()
        self._values: dict[str, dict[str, set[str]]] = {}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                known = self._values.setdefault(sample.name, defaultdict(set))
                for label, value in sample.labels.items():
                    known[label].add(value)
        for name in records:
            self._values[name] = self._recorded(name)

    def check(self, expressions: Sequence[str]) -> None:
        """Raises AssertionError for a metric, a label or a label's value that is not there."""
        for expression, metrics in zip(expressions, metrics_in_all(tuple(expressions)), strict=True):
            for metric, used in metrics.items():
                labels = self._labels(metric, expression)
                assert used.keys() <= labels.keys() | SCRAPED, f"labels of {metric}: {expression}"
                for label, values in used.items():
                    self._check_values(labels.get(label, set()), label, values, expression)

    def _labels(self, metric: str, expression: str) -> dict[str, set[str]]:
        if metric in OTHERS:
            return {label: set() for label in OTHERS[metric]}
        assert metric in self._values, f"nothing exports {metric}: {expression}"
        return self._values[metric]

    def _check_values(self, known: set[str], label: str, values: Sequence[str], expression: str) -> None:
        if label == "queue":
            for value in values:
                assert any(re.fullmatch(value, queue) for queue in Names().queues), f"{value}: {expression}"
        elif label not in _OPEN and label not in OTHERS["ALERTS"]:
            assert known >= set(values), f"{label} is never {set(values) - known}: {expression}"

    def _recorded(self, name: str) -> dict[str, set[str]]:
        """`job_model:recollect_x:rate5m` is by model; its values are those of the metric it is made from."""
        level, metric, _ = name.split(":")
        found: dict[str, set[str]] = {}
        for label in level.split("_")[1:]:
            values = [known[label] for source, known in self._values.items() if _is_of(source, metric, label)]
            found[label] = set().union(*values, *([] if values else [self._all(label)]))
        return found

    def _all(self, label: str) -> set[str]:
        return set().union(*(known[label] for known in self._values.values() if label in known))


def _is_of(source: str, metric: str, label: str) -> bool:
    return source.removesuffix("_total").removesuffix("_bucket") == metric and ":" not in source


def _metrics() -> Metrics:
    metrics = Metrics(["m"], "1")
    metrics.serves("m", 1, lambda: 0)
    for queue in Names().queues:
        metrics.queue_depth.labels(queue).set(0)
    for queue in Names().worked:
        metrics.ages(queue, lambda: 0)
    return metrics
