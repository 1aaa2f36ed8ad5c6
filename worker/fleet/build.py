"""Puts together what a worker reports of itself."""

import os
import secrets
import socket
import time
from collections.abc import Callable
from functools import partial

import redis

from wire.names import Names
from worker.fleet.buckets import Buckets
from worker.fleet.figures import read
from worker.fleet.portrait import Portrait
from worker.fleet.reporter import Reporter
from worker.health import Readiness
from worker.metrics import Metrics
from worker.queues import Queues
from worker.settings import Settings


def build_reporter(
    settings: Settings,
    connect: Callable[[], "redis.Redis"],
    metrics: Metrics,
    readiness: Readiness,
    queues: Queues,
    version: str,
    on_refusal: Callable[[str], None],
    aside: Callable[["redis.Redis"], None],
) -> Reporter:
    """What writes this process's figures to the cache's server, of which `connect` makes a client.
    `on_refusal` is told once what that does not take, `aside` is done before each report."""
    versions = {name: model.version for name, model in settings.models.items()}
    portrait = Portrait(metrics, readiness, lambda: queues.is_paused, versions, version, time.time())
    worker = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
    buckets = Buckets(partial(read, metrics))
    names = Names(settings.prefix)
    return Reporter(connect, names, worker, buckets, portrait, versions, time.time, on_refusal, aside=aside)
