"""Is it working? One sentence, made by rule: the first that applies."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["ok", "idle", "warn", "bad"]
Sentence = tuple[Level, str]

OLD_SECONDS = 60.0
_MANY_FAILED = 0.05


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known. `waiting` and `oldest_seconds` are None where the broker cannot be asked; `growth` is
    how many more wait from second to second; `down` is each model that is down, and on how many workers;
    `late` workers have not been heard of lately, which a cache that is full also brings about."""

    broker_error: str | None = None
    cache_error: str | None = None
    waiting: int | None = None
    oldest_seconds: float | None = None
    growth: float = 0.0
    is_paused: bool = False
    workers: int = 0
    late: int = 0
    is_full: bool = False
    states: Mapping[str, int] = field(default_factory=dict)
    down: Mapping[str, int] = field(default_factory=dict)
    is_saturated: bool = False
    requests: float = 0
    failed_ratio: float | None = None
    most_common_error: str | None = None


def verdict(situation: Situation) -> dict[str, str]:
    """Level and text."""
    for rule in _RULES:
        said = rule(situation)
        if said is not None:
            return {"level": said[0], "text": said[1]}
    raise AssertionError("the last rule always applies")


def _without_servers(now: Situation) -> Sentence | None:
    if now.broker_error is not None and now.cache_error is not None:
        return "bad", "Neither the broker nor the cache answers: nothing can be worked on."
    if now.broker_error is not None:
        return "bad", "The broker does not answer: nothing comes in, and no reply goes out."
    if now.cache_error is not None:
        return "bad", f"The cache does not answer: every request costs a model call.{_waits(now)}"
    return None


def _without_workers(now: Situation) -> Sentence | None:
    if now.workers:
        return None
    if now.late and now.is_full:
        return "bad", f"The cache's memory is full: {_count(now.late, 'worker')} cannot report.{_waits(now)}"
    if now.waiting:
        return "bad", f"No worker is alive, and {_count(now.waiting, 'message')} wait."
    return "idle", "No worker is alive, and nothing waits."


def _paused(now: Situation) -> Sentence | None:
    if not now.is_paused:
        return None
    return "warn", f"Paused: workers take nothing until `queue resume`.{_waits(now)}"


def _model_down(now: Situation) -> Sentence | None:
    if not now.down:
        return None
    names = ", ".join(f"{name} (on {count} of {now.workers})" for name, count in now.down.items())
    models = "A model is" if len(now.down) == 1 else "Models are"
    return "bad", f"{models} down: {names}. Hits go on, the rest waits.{_waits(now)}"


def _cut_off(now: Situation) -> Sentence | None:
    lost = now.states.get("broker lost", 0)
    return ("warn", f"{lost} of {now.workers} workers have lost the broker.{_waits(now)}") if lost else None


def _behind(now: Situation) -> Sentence | None:
    if (now.oldest_seconds or 0) < OLD_SECONDS:
        return None
    growth = f", {now.growth:+,.0f}/s" if abs(now.growth) >= 1 else ""
    why = "; the model has no room left" if now.is_saturated else ""
    course = "Behind" if not growth else "Catching up" if now.growth < 0 else "Falling behind"
    return "warn", f"{course}: the oldest request is {_age(now.oldest_seconds)} old{growth}{why}."


def _failing(now: Situation) -> Sentence | None:
    if now.failed_ratio is None or now.failed_ratio < _MANY_FAILED:
        return None
    most = f", most of them with {now.most_common_error}" if now.most_common_error else ""
    return "warn", f"Working, but {now.failed_ratio:.0%} of the requests fail{most}."


def _silent(now: Situation) -> Sentence | None:
    if not now.late:
        return None
    return "warn", f"Working; no word lately from {_count(now.late, 'worker')}.{_waits(now)}"


def _well(now: Situation) -> Sentence | None:
    workers = _count(now.workers, "worker")
    if not now.requests and not now.waiting:
        return "idle", f"Ready: {workers}, and nothing to do."
    oldest = f", oldest request {_age(now.oldest_seconds)}" if now.waiting else ""
    return "ok", f"Working, keeping up: {workers}{oldest}."


_RULES: Iterable[Callable[[Situation], Sentence | None]] = (
    _without_servers,
    _without_workers,
    _paused,
    _model_down,
    _cut_off,
    _behind,
    _failing,
    _silent,
    _well,
)


def _waits(now: Situation) -> str:
    return f" {_count(now.waiting, 'message')} wait." if now.waiting else ""


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _age(seconds: float | None) -> str:
    for limit, unit, name in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172_800.0, 3600.0, "h")):
        if (seconds or 0) < limit:
            value = (seconds or 0) / unit
            return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
    return f"{(seconds or 0) / 86_400:.0f} days"
