"""What a cache was good for: outcomes, why misses were misses, how old hits were, what they saved."""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from worker.console import printable
from worker.durations import moment, span
from worker.fleet.figures import Figures
from worker.fleet.misses import EVERY, Reason
from worker.fleet.reader import Fleet
from worker.metrics import AGE_SECONDS
from worker.settings import ModelSettings
from worker.versions import served_models

_REASONS = {
    Reason.UNSEEN: "never seen, or gone",
    Reason.EXPIRED: "expired",
    Reason.VERSION: "another version",
    Reason.UNREADABLE: "unreadable entry",
    Reason.TOO_OLD: "older than max_age",
}


def hindsight(fleet: Fleet, models: Mapping[str, ModelSettings], only: str | None) -> dict[str, Any]:
    """By model, or of `only` one, over the fleet's window; as JSON can carry it. Times are Unix seconds."""
    total, names = fleet.total(), known_models(fleet, models)
    return {
        "since": fleet.steps[0].begin,
        "until": fleet.now,
        "models": {name: _model(total, name, models.get(name)) for name in names if only in (None, name)},
        "memory_bytes": fleet.server.get("used_memory"),
        "maxmemory_bytes": fleet.server.get("maxmemory"),
        "policy": fleet.server.get("maxmemory_policy"),
        "evicted": fleet.server.get("evicted_keys"),
    }


def known_models(fleet: Fleet, models: Mapping[str, ModelSettings]) -> list[str]:
    """Those that are set, and those that were asked for or served of late."""
    asked = {key[1] for key in fleet.total() if key[0] == "requests"}
    return [*models, *sorted((asked | served_models(fleet.versions)) - models.keys())]


def _model(total: Figures, name: str, settings: ModelSettings | None) -> dict[str, Any]:
    outcomes = _of(total, "requests", name)
    requests, reasons, hours = (
        sum(outcomes.values()),
        _of(total, "misses", name),
        total.get(("saved", name), 0),
    )
    price = None if settings is None else settings.price_per_model_hour
    return {
        "requests": requests,
        "outcomes": outcomes,
        "hit_ratio": outcomes.get("hit", 0) / requests if requests else None,
        "misses": {"one_in": EVERY, "sampled": sum(reasons.values()), "reasons": reasons},
        "hits_by_age": _ages(_of(total, "ages", name)),
        "ttl_seconds": None if settings is None else settings.ttl_seconds,
        "saved_hours": hours / 3600,
        "saved_money": None if price is None else hours / 3600 * price,
    }


def _of(total: Figures, name: str, model: str) -> dict[str, int]:
    found = {key[2]: round(value) for key, value in total.items() if key[:2] == (name, model)}
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _ages(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """How many hits were at most so old (None: any age), and which share of all hits those make, which is
    what a time to live of that length would have kept, or more."""
    bounds = (*AGE_SECONDS, math.inf)
    by_bound = {float(bound): count for bound, count in counts.items()}
    sums = list(accumulate(by_bound.get(bound, 0) for bound in bounds))
    return [
        {
            "age_seconds": bound if math.isfinite(bound) else None,
            "hits": by_bound.get(bound, 0),
            "share_up_to": upto / sums[-1] if sums[-1] else None,
        }
        for bound, upto in zip(bounds, sums, strict=True)
    ]


def hindsight_text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    blocks = [[f"since {moment(found['since'])}, {span(found['until'] - found['since'])}"]]
    blocks += [_block(name, model) for name, model in found["models"].items()]
    memory, most = found["memory_bytes"], found["maxmemory_bytes"]
    if memory is not None:
        limit = f"of {most:,} ({memory / most:.0%})" if most else "without a limit"
        blocks.append([f"memory {memory:,} bytes {limit}, evicted {found['evicted'] or 0:,}"])
    return "\n\n".join("\n".join(block) for block in blocks)


def _block(name: str, model: Mapping[str, Any]) -> list[str]:
    requests = model["requests"]
    lines = [f"{printable(name):<14} {requests:>12,} requests"]
    if not requests:
        return lines
    lines += [_counted(outcome, count, requests) for outcome, count in model["outcomes"].items()]
    saved = f"  {'saved':<12} {model['saved_hours']:>12,.1f} model hours"
    money = model["saved_money"]
    return [*lines, saved if money is None else f"{saved}, about {money:,.2f}", *_ttl(model), *_why(model)]


def _counted(what: str, count: int, whole: int) -> str:
    return f"  {printable(what):<12} {count:>12,}  {count / whole:>7.2%}"


def _ttl(model: Mapping[str, Any]) -> list[str]:
    hits = sum(row["hits"] for row in model["hits_by_age"])
    if not hits:
        return []
    told = _telling(model["hits_by_age"])
    kept = " · ".join(f"{span(row['age_seconds'])} {_share(row['share_up_to'])}" for row in told)
    now = (
        ""
        if model["ttl_seconds"] is None
        else f" (ttl_seconds is {model['ttl_seconds']:g}, {span(model['ttl_seconds'])})"
    )
    return [f"  a TTL of     {kept}", f"               would have kept at least so many of the hits{now}"]


def _telling(ages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows up to the first that holds all hits."""
    told = []
    for row in ages:
        if row["age_seconds"] is None:
            break
        if row["share_up_to"]:
            told.append(row)
        if row["share_up_to"] == 1:
            break
    return told


def _share(share: float) -> str:
    """Rounded down, so that 100% are all."""
    return f"{math.floor(share * 100)}%"


def _why(model: Mapping[str, Any]) -> list[str]:
    sampled, reasons = model["misses"]["sampled"], model["misses"]["reasons"]
    if not sampled:
        return []
    shares = " · ".join(f"{_REASONS.get(r, printable(r))} {n / sampled:.1%}" for r, n in reasons.items())
    looked = f"{sampled:,} {'was' if sampled == 1 else 'were'} looked into, 1 miss in {EVERY}"
    return [f"  misses       {shares}", f"               ({looked})"]
