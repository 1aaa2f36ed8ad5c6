"""A Producer as the command line asks for it."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from broker.exposure import UNVERIFIED, is_unverified
from broker.urls import mask
from producer.client import Producer
from producer.where import broker_url, settings_file
from wire.directives import directives_of
from wire.trace import TRACEPARENT, is_traceparent

_WAIT_MENTIONED_SECONDS = 30.0


def open_producer(arguments: argparse.Namespace, on_idle: Callable[[], None] = lambda: None) -> Producer:
    """Connected. Raises ValueError for settings that are none, BrokerError."""
    producer = Producer(**connection(arguments), on_idle=on_idle)
    try:
        producer.connect(retry=not arguments.no_retry)
    except BaseException:
        producer.close()
        raise
    return producer


def connection(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a Producer is made with. Raises ValueError for settings that are none."""
    file = settings_file()
    url = broker_url(arguments, file)
    prefix = prefix_of(arguments, file)
    durability = os.environ.get("RECOLLECT_DURABILITY") or file.get("durability") or "normal"
    if durability not in ("normal", "strict"):
        raise ValueError(f"durability is {durability!r}; expected normal or strict")
    if is_unverified(url):
        say(f"warning: {mask(url)}: {UNVERIFIED}")
    on_wait = _mention(time.monotonic)
    return {"url": url, "prefix": prefix, "durability": durability, "on_wait": on_wait}


def prefix_of(arguments: argparse.Namespace, file: Mapping[str, Any]) -> str:
    """Of the queues."""
    return str(arguments.prefix or os.environ.get("RECOLLECT_PREFIX") or file.get("prefix") or "recollect")


def say(text: str) -> None:
    """To whoever watches."""
    print(text, file=sys.stderr, flush=True)


def _mention(clock: Callable[[], float]) -> Callable[[Exception], None]:
    silent_until = 0.0

    def on_wait(error: Exception) -> None:
        nonlocal silent_until
        if clock() >= silent_until:
            silent_until = clock() + _WAIT_MENTIONED_SECONDS
            say(f"{error}; trying again (--no-retry gives up at once)")

    return on_wait


def directives(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every request is to say, as `map`, `call` and `enqueue` take it."""
    given = directives_of(arguments, time.time())
    traceparent = os.environ.get("TRACEPARENT")
    if is_traceparent(traceparent):  # else it is the mistake of who started us, and no reason to stop
        given[TRACEPARENT] = traceparent
    return given
