"""What the worker's command line does besides running."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import orjson
import redis

from broker.base import Broker, BrokerError
from broker.urls import mask
from wire.errors import InvalidRequest
from wire.key import Selection, canonical
from wire.names import Names
from wire.values import refuse_large_integers
from worker.app import cache_address
from worker.cache_audit import why
from worker.cache_link import redis_client
from worker.catalog import Model
from worker.console import FAILED, OK, UsageError, agreed, connected, print_json, unreachable
from worker.forgetting import batches, forget
from worker.queues import set_paused
from worker.show import as_rows, as_text
from worker.sources import Loaded

_TIMEOUT_SECONDS = 5.0


def key(arguments: argparse.Namespace) -> int:
    """Print canonical form, digest and Redis key of a payload."""
    text = sys.stdin.buffer.read() if arguments.payload == "-" else arguments.payload.encode()
    try:
        payload = canonical(orjson.loads(text))
        refuse_large_integers(text, payload)
        names = Names(arguments.prefix)
        selection = Selection.of(_listed(arguments.key_include), _listed(arguments.key_exclude))
    except (ValueError, TypeError, InvalidRequest) as error:
        raise UsageError(f"error: payload: {error}") from None
    model = Model(
        arguments.model, arguments.model_version, namespace=arguments.namespace, selection=selection
    )
    model.see_generation(arguments.generation)
    digest = model.key(payload)
    print_json(
        {
            "canonical": model.key_text(payload).decode(),
            "digest": digest,
            "redis_key": names.entry(model.name, model.version, digest),
        }
    )
    return OK


def config(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Print every setting and its origin."""
    if arguments.json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in as_rows(loaded)})
    else:
        print(as_text(loaded))
    return OK


def cache(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Count the entries of each model, or forget those of one."""
    if arguments.action == "purge" and not arguments.model:
        raise UsageError("error: cache purge needs --model NAME")
    names = Names(loaded.settings.prefix)
    try:
        with _cache_client(loaded) as client:
            if arguments.action == "purge":
                count = forget(client, names, arguments.model)
                print_json({"model": arguments.model, "purged": count})
            else:
                _print_stats(client, names, loaded, as_json=arguments.json)
    except (redis.RedisError, OSError, BrokerError, ValueError) as error:
        return unreachable("cache", mask(loaded.settings.cache_url), why(loaded.settings, error))
    return OK


def _print_stats(client: "redis.Redis", names: Names, loaded: Loaded, *, as_json: bool) -> None:
    info: dict[str, Any] = client.info()
    entries = {
        model: sum(len(batch) for batch in batches(client, names.entries_of(model)))
        for model in loaded.settings.models
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
        print(f"{model:<20} {count:>12,} entries")
    print(f"{'memory':<20} {info['used_memory']:>12,} bytes of {info['maxmemory'] or 'no limit'}")
    print(f"{'evicted / expired':<20} {info['evicted_keys']:>12,} / {info['expired_keys']:,}")


def queue(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Count what waits, or drop it; have all workers pause, or go on."""
    names = Names(loaded.settings.prefix)
    try:
        with connected(loaded) as broker:
            if arguments.action == "purge":
                return _purge(broker, names, arguments)
            if arguments.action in ("pause", "resume"):
                return _pause(broker, names, is_paused=arguments.action == "pause")
            depth = broker.depth()
            is_paused = depth.pop(names.paused) > 0
    except BrokerError as error:
        return unreachable("broker", mask(loaded.settings.broker_url), error)
    if arguments.json:
        print_json({**depth, "paused": is_paused})
    else:
        for name, waiting in depth.items():
            print(f"{name:<28} {waiting:>10,} waiting")
        if is_paused:
            print("paused: workers take nothing until `queue resume`")
    return OK


def _purge(broker: Broker, names: Names, arguments: argparse.Namespace) -> int:
    known = {"requests": names.requests, "misses": names.misses, "replies": names.replies, "dead": names.dead}
    name = known.get(arguments.queue, arguments.queue)
    if name not in known.values() and not (name and names.is_reply_queue(name)):
        raise UsageError(f"error: queue purge needs --queue, one of: {', '.join(known)}")
    waiting = broker.depth().get(name)
    if not arguments.yes and not agreed(f"drop {waiting if waiting is not None else 'all'} in {name}?"):
        print("nothing was dropped", file=sys.stderr)
        return FAILED
    print_json({"queue": name, "purged": broker.purge(name)})
    return OK


def _pause(broker: Broker, names: Names, *, is_paused: bool) -> int:
    """Workers look at the queue every second; what they hold they finish."""
    set_paused(broker, names, is_paused=is_paused)
    print_json({"prefix": names.prefix, "paused": is_paused})
    return OK


@contextmanager
def _cache_client(loaded: Loaded) -> Iterator["redis.Redis"]:
    with ExitStack() as stack:
        client = redis_client(cache_address(loaded.settings, stack), _TIMEOUT_SECONDS)
        stack.callback(client.close)
        yield client


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]
