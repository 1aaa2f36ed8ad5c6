"""`python -m worker check`: is everything there, and does it fit together?"""

import argparse
import time
from contextlib import ExitStack

import redis

from broker.base import BrokerError
from broker.dead import Letter
from broker.urls import mask
from wire.names import Names
from worker.app import cache_address
from worker.audit import audit, same_server
from worker.cache_audit import why
from worker.cache_link import redis_client
from worker.console import FAILED, OK, UNREACHABLE, connected
from worker.exposed import exposures
from worker.fleet.reader import count_alive
from worker.letters import Letters
from worker.probe import Line, probe_model
from worker.queue_audit import audit_queue
from worker.sources import Loaded
from worker.timeline import timeline

_TIMEOUT_SECONDS = 5.0
_LETTERS = 1_000  # read in search of what the broker set aside by itself
_UNWELL = ("queue",)  # what is there, but not as it must be


def check(arguments: argparse.Namespace, loaded: Loaded) -> int:  # noqa: ARG001 - the shape of a command
    """Say of settings, broker, cache and models whether they are well, with a hint for what is not."""
    settings = loaded.settings
    lines: list[Line] = [
        ("ok", "settings", f"{len(loaded.origins)} set; `config` shows where each comes from", "")
    ]
    lines += [*_check_broker(loaded), *_check_queue(loaded), *_check_cache(loaded)]
    lines += [("warn", service, said, hint) for service, (said, hint) in exposures(settings).items()]
    lines += [probe_model(name, model, settings) for name, model in settings.models.items()]
    lines += timeline(settings)
    for verdict, what, said, hint in lines:
        print(f"{verdict:<5} {what:<9} {said}" + (f"\n      hint      {hint}" if hint else ""))
    failed = [what for verdict, what, _, _ in lines if verdict == "fail"]
    warned = [what for verdict, what, _, _ in lines if verdict == "warn"]
    print(f"{len(failed)} failed, {len(warned)} warnings")
    if any(what not in _UNWELL for what in failed):
        return UNREACHABLE
    return FAILED if failed else OK


def _check_broker(loaded: Loaded) -> list[Line]:
    shown = mask(loaded.settings.broker_url)
    names = Names(loaded.settings.prefix)
    by_broker: list[str] = []

    def visit(letter: Letter) -> None:
        if letter.is_by_broker:
            by_broker.append(letter.reason)

    try:
        with connected(loaded) as broker:
            depth, oldest = broker.depth(), broker.oldest()
            if loaded.settings.broker_url.partition(":")[0] in ("amqp", "amqps", "pyamqp"):
                Letters(broker, names).walk(visit, most=_LETTERS)
    except BrokerError as error:
        return [("fail", "broker", str(error), "is it running, and is RECOLLECT_BROKER_URL its address?")]
    is_paused = depth.pop(names.paused, 0) > 0
    age = f", the oldest request {time.time() - min(oldest.values()):,.1f} s" if oldest else ""
    lines: list[Line] = [("ok", "broker", f"{shown} · {sum(depth.values()):,} waiting{age}", "")]
    if is_paused:
        lines.append(("warn", "queue", "paused: workers take nothing", "python -m worker queue resume"))
    if by_broker:
        said = f"the broker dead-letters by itself: {len(by_broker):,} letters, such as {by_broker[-1]}"
        lines.append(("warn", "queue", said, "`dead list` shows them; look for a policy or a delivery limit"))
    return lines


def _check_queue(loaded: Loaded) -> list[Line]:
    try:
        return audit_queue(loaded.settings)
    except BrokerError:
        return []  # the broker's own line has said it
    except (redis.RedisError, OSError, ValueError, TypeError) as error:
        return [("warn", "queue", f"the server could not be asked: {error}", "is INFO allowed?")]


def _check_cache(loaded: Loaded) -> list[Line]:
    settings = loaded.settings
    shown = mask(settings.cache_url)
    try:
        with ExitStack() as stack:
            client = redis_client(cache_address(settings, stack), _TIMEOUT_SECONDS)
            stack.callback(client.close)
            said = audit(client, carries_queue=same_server(settings.cache_url, settings.broker_url))
            alive = count_alive(client, Names(settings.prefix))
    except (redis.RedisError, OSError, BrokerError, ValueError) as error:
        hint = "is it running, and is RECOLLECT_CACHE_URL its address?"
        return [("fail", "cache", f"{shown}: {why(settings, error)}", hint)]
    workers: Line = ("ok", "workers", f"{alive or 'none'} alive", "")
    if said:
        text, _, hint = "; ".join(said).partition("; hint: ")
        return [("warn", "cache", f"{shown}: {text}", hint), workers]
    return [("ok", "cache", shown, ""), workers]
