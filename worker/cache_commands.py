"""`python -m worker cache`: what is stored, what it was good for, why a payload is a miss, forgetting."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from broker.base import BrokerError
from broker.urls import mask
from wire.names import Names
from worker.app import cache_address
from worker.cache_audit import why
from worker.cache_link import redis_client
from worker.console import OK, UsageError, check_model, print_json, print_text, printable, unreachable
from worker.durations import written
from worker.explain import Explainer, Unanswerable
from worker.explain_text import as_text, compared
from worker.fleet.buckets import HOUR
from worker.fleet.reader import FleetReader
from worker.forgetting import batches
from worker.models import build_catalog
from worker.purge import purge
from worker.sources import Loaded
from worker.stats import hindsight, hindsight_text, known_models
from worker.versions import read_versions, served_models

_TIMEOUT_SECONDS = 5.0
_LONGEST_SECONDS = HOUR.kept_seconds - 86_400


def cache(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Carry out one of them."""
    if arguments.action == "stats":
        arguments.since = _since(arguments.since)
    try:
        with ExitStack() as stack:
            try:
                client = stack.enter_context(cache_client(loaded))
            except ValueError as error:  # the address; later ones are mistakes of what was asked
                return unreachable("cache", mask(loaded.settings.cache_url), why(loaded.settings, error))
            return _ACTIONS[arguments.action](arguments, loaded, client)
    except BrokenPipeError:
        raise
    except (redis.RedisError, OSError, BrokerError) as error:
        return unreachable("cache", mask(loaded.settings.cache_url), why(loaded.settings, error))
    except ValueError as error:
        raise UsageError(f"error: {error}") from None


@contextmanager
def cache_client(loaded: Loaded) -> Iterator["redis.Redis"]:
    """A client of the cache of the settings. Raises BrokerError, redis.RedisError, OSError, ValueError."""
    with ExitStack() as stack:
        client = redis_client(cache_address(loaded.settings, stack), _TIMEOUT_SECONDS)
        stack.callback(client.close)
        yield client


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    seconds = written(text)
    if seconds is None or seconds > _LONGEST_SECONDS:
        expected = f"expected a span such as 90m, 24h or 7d, at most {_LONGEST_SECONDS // 86_400}d"
        raise UsageError(f"error: --since {text}: {expected}")
    return seconds


def _stats(arguments: argparse.Namespace, loaded: Loaded, client: "redis.Redis") -> int:
    names, models = Names(loaded.settings.prefix), loaded.settings.models
    if arguments.since is None:
        known = list(dict.fromkeys([*models, *sorted(served_models(read_versions(client, names)))]))
        check_model(arguments.model, known)
        wanted = [name for name in known if arguments.model in (None, name)]
        _print_stored(client, names, wanted, as_json=arguments.json)
        return OK
    fleet = FleetReader(lambda: client, names).read(arguments.since)
    check_model(arguments.model, known_models(fleet, models))
    found = hindsight(fleet, models, arguments.model)
    if arguments.json:
        print_json(found)
    else:
        print_text(hindsight_text(found))
    return OK


def _print_stored(client: "redis.Redis", names: Names, models: list[str], *, as_json: bool) -> None:
    info: dict[str, Any] = client.info()
    entries = {
        model: sum(len(batch) for batch in batches(client, names.entries_of(model))) for model in models
    }
    stats = {
        "entries": entries,
        "memory_bytes": info["used_memory"],
        "maxmemory_bytes": info["maxmemory"],
        "policy": info["maxmemory_policy"],
        "evicted": info["evicted_keys"],
        "expired": info["expired_keys"],
    }
    if as_json:
        print_json(stats)
        return
    for model, count in entries.items():
        print_text(f"{printable(model):<20} {count:>12,} entries")
    print_text(f"{'memory':<20} {info['used_memory']:>12,} bytes of {info['maxmemory'] or 'no limit'}")
    print_text(f"{'evicted / expired':<20} {info['evicted_keys']:>12,} / {info['expired_keys']:,}")


def _explain(arguments: argparse.Namespace, loaded: Loaded, client: "redis.Redis") -> int:
    explainer = Explainer(
        build_catalog(loaded.settings), lambda: client, Names(loaded.settings.prefix), time.time
    )
    check_model(arguments.model, loaded.settings.models)
    asked = _asked(arguments.payload, arguments.other)
    model = explainer.model(arguments.model)
    comparison = compared(asked[0], asked[1], model) if len(asked) == 2 else None
    found = [explainer.find(one, arguments.model, shows_result=False) for one in asked]
    if arguments.json:
        print_json(found[0] if comparison is None else {"payloads": found, **comparison.as_dict()})
    else:
        print_text(as_text(found, comparison))
    return OK


def _asked(first: str, second: str | None) -> list[str]:
    """What is asked about. One - is all of standard input; two are its lines."""
    given = [first] if second is None else [first, second]
    if given == ["-", "-"]:
        lines = [line for line in sys.stdin if line.strip()]
        if len(lines) != 2:
            raise Unanswerable(
                f"- -: expected two lines on standard input, one payload each; got {len(lines)}"
            )
        return lines
    return [sys.stdin.read() if one == "-" else one for one in given]


_ACTIONS: dict[str, Callable[[argparse.Namespace, Loaded, "redis.Redis"], int]] = {
    "stats": _stats,
    "explain": _explain,
    "purge": purge,
}
