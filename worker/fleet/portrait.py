"""What a worker says of itself to the fleet, beside its figures."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import ProcessCollector

from worker.health import Readiness
from worker.metrics import Metrics

_ASKED = (
    "recollect_requests_in_progress",
    "recollect_model_calls_in_progress",
    "recollect_model_concurrency",
    "recollect_model_down",
)
_SAYINGS = ("starting", "draining")


class Portrait:
    """Drawn anew at each call: host, pid, version, start (Unix seconds), state, and how busy it is."""

    def __init__(
        self,
        metrics: Metrics,
        readiness: Readiness,
        is_paused: Callable[[], bool],
        versions: Mapping[str, str],
        version: str,
        started: float,
    ) -> None:
        """`versions` are the models' by name, `version` is recollect's."""
        self._registry = metrics.registry.restricted_registry(_ASKED)
        self._process = ProcessCollector(registry=None)
        self._readiness, self._is_paused, self._versions = readiness, is_paused, versions
        self._constant = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": version,
            "started": started,
        }

    def __call__(self) -> dict[str, Any]:
        """As JSON can carry it."""
        found: dict[tuple[str, str], float] = {
            (sample.name, sample.labels.get("model", "")): sample.value
            for family in (*self._registry.collect(), *self._process.collect())
            for sample in family.samples
        }
        models = {
            name: {
                "version": version,
                "busy": found.get(("recollect_model_calls_in_progress", name), 0),
                "slots": found.get(("recollect_model_concurrency", name), 0),
                "is_down": found.get(("recollect_model_down", name), 0) > 0,
            }
            for name, version in self._versions.items()
        }
        return {
            **self._constant,
            "state": self._state(),
            "in_progress": found.get(("recollect_requests_in_progress", ""), 0),
            "rss_bytes": found.get(("process_resident_memory_bytes", ""), 0),
            "models": models,
        }

    def _state(self) -> str:
        reason = self._readiness.reason
        if reason is None:
            return "paused" if self._is_paused() else "working"
        return reason if reason in _SAYINGS else "broker lost"
