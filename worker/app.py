"""Builds a worker from its settings, runs it, drains it: the one file that knows all the others."""

import gc
import importlib.metadata
import json
import secrets
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import redis

from broker.base import BrokerOptions, BrokerUnreachable
from broker.embedded import join
from broker.urls import mask, open_broker
from wire.key import Selection
from wire.message import Limits
from wire.names import Names
from worker.audit import audit, same_server
from worker.breaker import Breaker
from worker.cache import RedisCache
from worker.cache_link import CacheLink, redis_client
from worker.calls import Callee, Calls
from worker.catalog import Cacheable, Catalog, Model, field_equals, predicate
from worker.consistency import check_at_start
from worker.flight import Flights
from worker.handler import Handler
from worker.health import HealthServer, Heartbeat, Readiness, health_app
from worker.http_model import HttpTarget
from worker.intake import Intake
from worker.logs import Log, quiet_libraries
from worker.loop import Loop
from worker.metrics import Metrics
from worker.model import Target
from worker.pool import Batching
from worker.python_model import PythonTarget, load
from worker.retry import RetryPolicy
from worker.settings import CacheableRule, ModelSettings, Settings
from worker.watch import Watch

OK, FAILED, UNREACHABLE = 0, 1, 3
_RECONNECT_MAX_SECONDS = 10.0
_COLLECT_AFTER_OBJECTS = 20_000


def run(settings: Settings, log: Log, *, retry: bool = True) -> int:
    """Run a worker until SIGTERM or SIGINT; the exit code: 0, 1 for a model that is lost, 3 for no broker.

    Raises ValueError for a Python target or rule that cannot be loaded, OSError for a port that is taken.
    """
    quiet_libraries()
    metrics = Metrics(settings.models, version())
    readiness, heartbeat = Readiness(), Heartbeat(time.monotonic)
    watch = Watch(metrics, log, heartbeat, readiness)
    with ExitStack() as stack:
        health = HealthServer(
            health_app(metrics.registry, heartbeat.wrong, readiness.wrong),
            settings.http_host,
            settings.http_port,
        )
        stack.callback(health.close)
        log.info("listening", url=f"{health.url}/metrics")
        callees = {name: build_callee(name, model, settings) for name, model in settings.models.items()}
        for callee in callees.values():
            callee.target.warm()
        readiness.reason = "no broker yet"
        cache = _open_cache(settings, watch, log, stack)
        check_at_start(settings, log)
        loop = _build_loop(settings, callees, cache, watch, retry=retry)
        _listen_to_signals(loop)
        _calm_the_collector()
        try:
            loop.run()
        except BrokerUnreachable as error:
            log.error("broker unreachable", error=str(error))  # noqa: TRY400 - a traceback explains nothing
            return UNREACHABLE
        return FAILED if loop.lost_model is not None else OK


def _calm_the_collector() -> None:
    """Look for cycles rarely, and never among what was there at the start: a batch makes thousands of objects
    and no cycle, and looking through them every 700 was a tenth of the work of a hit."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)


def version() -> str:
    """The installed version of recollect."""
    return importlib.metadata.version("recollect")


def build_catalog(settings: Settings) -> Catalog:
    """The models as the handler sees them."""
    return Catalog(
        {name: build_model(name, model, settings) for name, model in settings.models.items()},
        settings.default_model,
    )


def build_model(name: str, model: ModelSettings, settings: Settings) -> Model:
    """One model's policy."""
    return Model(
        name,
        model.version,
        namespace=settings.namespace,
        selection=Selection.of(model.key_include, model.key_exclude),
        ttl_seconds=model.ttl_seconds,
        ttl_bounds_seconds=(model.ttl_min_seconds, model.ttl_max_seconds),
        cacheable=_build_rule(model.cacheable),
    )


def build_callee(name: str, model: ModelSettings, settings: Settings) -> Callee:
    """How one model is called. Raises ValueError for headers that cannot be read."""
    policy = RetryPolicy(
        model.attempts, model.budget_seconds, model.wait_initial_seconds, model.wait_max_seconds
    )
    batching = Batching(model.batch_size, model.batch_wait_ms / 1000) if model.batch_size > 1 else None
    target = _build_target(name, model, settings)
    return Callee(target, policy, model.concurrency, model.timeout_seconds, batching)


def _build_target(name: str, model: ModelSettings, settings: Settings) -> Target:
    if model.target.startswith("python:"):
        return PythonTarget(model.target.removeprefix("python:"), max_bytes=settings.result_max_bytes)
    return HttpTarget(
        model.target,
        headers={**model.headers, **_headers_of(name, model)},
        timeout_seconds=model.timeout_seconds,
        concurrency=model.concurrency,
        max_bytes=settings.result_max_bytes,
    )


def _headers_of(name: str, model: ModelSettings) -> dict[str, str]:
    if model.headers_file is None:
        return {}
    try:
        found: Any = json.loads(model.headers_file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"models.{name}.headers_file cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"models.{name}.headers_file must hold a JSON object of strings")
    return found


def _build_rule(rule: CacheableRule | str | None) -> Cacheable | None:
    if rule is None:
        return None
    if isinstance(rule, CacheableRule):
        return field_equals(rule.field, rule.equals)
    return predicate(load(rule.removeprefix("python:")))


def limits_of(settings: Settings) -> Limits:
    """How large messages may be."""
    return Limits(
        settings.request_max_bytes,
        settings.message_max_bytes,
        settings.reply_max_bytes,
        settings.message_max_requests,
    )


def broker_options(settings: Settings) -> BrokerOptions:
    """How a process of these settings lives with the broker."""
    return BrokerOptions(settings.lease_seconds, settings.durability)


def cache_address(settings: Settings, stack: ExitStack) -> str:
    """The cache's URL as redis-py takes it. Joins the embedded server where that is what is asked for."""
    if not settings.cache_url.startswith("embedded:"):
        return settings.cache_url
    server = join(settings.cache_url)
    stack.callback(server.close)
    return server.redis_url


def _open_cache(settings: Settings, watch: Watch, log: Log, stack: ExitStack) -> RedisCache:
    url, deadline = cache_address(settings, stack), settings.cache_deadline_seconds
    breaker = Breaker(
        settings.cache_breaker_failures, settings.cache_breaker_seconds, time.monotonic, watch.cache_changed
    )
    cache = RedisCache(partial(CacheLink, url), breaker, watch, deadline_seconds=deadline)
    stack.callback(cache.close)
    _say_audit(settings, redis_client(url, deadline), log)
    return cache


def _say_audit(settings: Settings, client: "redis.Redis", log: Log) -> None:
    shown = mask(settings.cache_url)
    try:
        with client:
            said = audit(client, carries_queue=same_server(settings.cache_url, settings.broker_url))
    except (redis.RedisError, OSError) as error:
        log.warning("cache down", cache=shown, error=str(error))
        return
    if said:
        log.warning("cache audit", cache=shown, wrong="; ".join(said))
    else:
        log.info("cache audit", cache=shown, wrong=None)


def _build_loop(
    settings: Settings, callees: dict[str, Callee], cache: RedisCache, watch: Watch, *, retry: bool
) -> Loop:
    names, limits, token = Names(settings.prefix), limits_of(settings), secrets.token_hex(16)
    flight_lease = min(settings.flight_lease_seconds, settings.lease_seconds)  # or a redelivery would wait
    # A broker that takes nothing for now (an alarm) holds the loop up, and that is no reason to restart it.
    options = replace(broker_options(settings), reaps=True, on_wait=watch.turned)
    broker = open_broker(settings.broker_url, names, options)
    handler = Handler(
        build_catalog(settings),
        cache,
        names,
        limits,
        time.time,
        lambda: watch.cache_error("lookup"),
        watch.fault,
        entry_max_bytes=settings.entry_max_bytes,
        token=token,
    )
    return Loop(
        broker,
        handler,
        Calls(callees, time.monotonic, broker.wake, watch),
        Flights(cache, names, token, time.monotonic, lease_seconds=flight_lease),
        watch,
        names,
        limits,
        clock=time.monotonic,
        wall_clock=time.time,
        sleep=time.sleep,
        intake=Intake(settings.in_flight, settings.in_flight_bytes),
        reconnect_max_seconds=min(_RECONNECT_MAX_SECONDS, settings.lease_seconds / 3),
        drain_seconds=settings.drain_seconds,
        retry=retry,
        dead_letter_failed=settings.dead_letter_failed,
    )


def _listen_to_signals(loop: Loop) -> None:
    """The first SIGTERM or SIGINT drains, the second gives everything back at once."""

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
