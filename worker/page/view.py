"""The answer to /status.json: what is known of the fleet, its queues and its servers, and what is not."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import redis

from worker.fleet.reader import Fleet, FleetReader
from worker.page.status import FAILED, is_alive, number, of_figures, ratio
from worker.page.verdict import Situation, verdict
from worker.queues import Queues

WINDOWS = (900, 3600, 86_400, 604_800)
_FULL = 0.9
_PATIENCE_SECONDS = 0.1
Read = tuple[Fleet | None, str | None]


class View:
    """Safe to use from any thread. `clock` gives Unix seconds; `urls` are those of `broker` and `cache`
    without their passwords; `dead` is the name of the queue of dead letters."""

    def __init__(
        self,
        reader: FleetReader,
        queues: Queues,
        clock: Callable[[], float],
        *,
        prefix: str,
        version: str,
        urls: Mapping[str, str],
        dead: str,
        allows_actions: bool,
    ) -> None:
        self._reader, self._queues, self._clock = reader, queues, clock
        self._urls, self._dead = urls, dead
        self._constant = {"prefix": prefix, "version": version, "allows_actions": allows_actions}
        self._lock = threading.Lock()
        self._last: dict[int, Read] = {}

    def status(self, window_seconds: int, model: str | None = None) -> dict[str, Any]:
        """As of now, of one model or of all. Whatever is down, there is an answer."""
        fleet, error = self._read(window_seconds)
        shown: dict[str, Any] = dict(_NOTHING) if fleet is None else of_figures(fleet, model)
        shown["totals"] = {**shown["totals"], **self._backlog()}
        return {
            **self._constant,
            "now": self._clock() if fleet is None else fleet.now,
            "window_seconds": window_seconds,
            "step_seconds": 60 if fleet is None else fleet.step_seconds,
            "verdict": verdict(self._situation(fleet, error)),
            **shown,
            "queues": self._lengths(),
            "is_paused": self._queues.is_paused,
            "services": {
                "broker": {"url": self._urls["broker"], **_health(self._queues.error)},
                "cache": {"url": self._urls["cache"], **_health(error), **_server(fleet)},
            },
        }

    def close(self) -> None:
        """Hang up."""
        self._reader.close()

    def _read(self, window_seconds: int) -> Read:
        """The fleet, or why it cannot be read. While somebody else asks a server that takes its time, what
        was answered last holds: those who wait would hold the threads that probes are answered on."""
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return self._last.get(window_seconds, (None, "it takes its time to answer"))
        try:
            found: Read = self._reader.read(window_seconds), None
        except (redis.RedisError, OSError) as error:
            found = None, str(error) or type(error).__name__
        finally:
            self._lock.release()
        self._last = {window_seconds: found} if found[0] is None else {**self._last, window_seconds: found}
        return found

    def _backlog(self) -> dict[str, Any]:
        queues = self._queues
        if queues.error is not None:
            return dict.fromkeys(("waiting", "oldest_seconds", "empty_in_seconds", "dead_letters"))
        waiting, dead = self._waiting(), queues.waiting.get(self._dead)
        growth = queues.growth_per_second
        return {
            "waiting": waiting,
            "oldest_seconds": self._oldest(),
            "empty_in_seconds": waiting / -growth if waiting and growth < 0 else None,
            "dead_letters": 0 if dead is None else dead.messages,
        }

    def _waiting(self) -> int:
        found = self._queues.waiting
        return sum(found[name].messages for name in self._queues.worked if name in found)

    def _oldest(self) -> float:
        return max(self._queues.oldest_seconds(name) for name in self._queues.worked)

    def _lengths(self) -> list[dict[str, Any]]:
        queues = self._queues
        is_known = queues.error is None
        return [
            {
                "name": name,
                "messages": waiting.messages if is_known else None,
                "oldest_seconds": queues.oldest_seconds(name) if is_known and name in queues.worked else None,
            }
            for name, waiting in queues.waiting.items()
        ]

    def _situation(self, fleet: Fleet | None, error: str | None) -> Situation:
        queues = self._queues
        is_known = queues.error is None
        known = Situation(
            broker_error=queues.error,
            cache_error=error,
            waiting=self._waiting() if is_known else None,
            oldest_seconds=self._oldest() if is_known else None,
            growth=queues.growth_per_second,
            is_paused=queues.is_paused,
        )
        return known if fleet is None else _with_fleet(known, fleet)


def _with_fleet(known: Situation, fleet: Fleet) -> Situation:
    alive = [said for said in fleet.workers.values() if is_alive(said, fleet.now)]
    everything = of_figures(fleet, None)
    models = everything["models"]
    return replace(
        known,
        workers=len(alive),
        late=len(fleet.workers) - len(alive),
        is_full=_is_full(fleet),
        states=Counter(str(said.get("state")) for said in alive),
        down={one["name"]: one["workers_down"] for one in models if one["workers_down"]},
        is_saturated=any(one["slots"] and one["busy"] >= _FULL * one["slots"] for one in models),
        requests=sum(value for key, value in fleet.rates.items() if key[0] == "requests"),
        failed_ratio=ratio(fleet.rates, FAILED),
        most_common_error=next((one["kind"] for one in everything["broken"] if one["model"]), None),
    )


def _is_full(fleet: Fleet) -> bool:
    limit = number(fleet.server.get("maxmemory"))
    may_evict = fleet.server.get("maxmemory_policy") != "noeviction"
    return not may_evict and 0 < limit <= number(fleet.server.get("used_memory"))


_NOTHING: Mapping[str, Any] = {
    "totals": dict.fromkeys(
        ("requests", "requests_per_second", "hit_ratio", "saved_seconds", "failed_ratio", "outcomes")
    ),
    "series": {"times": [], "outcomes": {}, "saved_seconds": []},
    "marks": [],
    "models": [],
    "workers": [],
    "broken": [],
}


def _health(error: str | None) -> dict[str, Any]:
    return {"is_ok": error is None, "error": error}


def _server(fleet: Fleet | None) -> dict[str, Any]:
    info: Mapping[str, Any] = {} if fleet is None else fleet.server
    return {
        "version": info.get("valkey_version") or info.get("redis_version"),
        "memory_bytes": number(info.get("used_memory")) if info else None,
        "maxmemory_bytes": number(info.get("maxmemory")) if info else None,
        "policy": info.get("maxmemory_policy"),
        "evicted": number(info.get("evicted_keys")) if info else None,
    }
