"""What the worker's command line does besides running."""

import argparse
import sys

import orjson

from broker.base import Broker, BrokerError
from broker.urls import mask
from wire.errors import InvalidRequest
from wire.key import Selection, canonical
from wire.names import Names
from wire.values import refuse_large_integers
from worker.catalog import Model
from worker.console import FAILED, OK, UsageError, agreed, connected, print_json, unreachable
from worker.queues import set_paused
from worker.show import as_rows, as_text
from worker.sources import Loaded


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
    known = {name.removeprefix(f"{names.prefix}."): name for name in names.queues if name != names.paused}
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


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]
