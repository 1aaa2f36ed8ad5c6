"""Builds a worker from its settings, runs it, drains it: the one file that knows all the others."""

import gc
import importlib.metadata
import secrets
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from broker.base import BrokerError, BrokerOptions, BrokerUnreachable
from broker.embedded import join
from broker.redis.url import check_url
from broker.urls import mask, open_broker
from wire.message import Limits
from wire.names import Names
from worker.breaker import Breaker
from worker.cache import RedisCache
from worker.cache_audit import say_audit
from worker.cache_link import CacheLink, redis_client
from worker.calls import Callee, Calls
from worker.consistency import check_at_start
from worker.exposed import is_own, say_exposures
from worker.fleet.build import build_reporter
from worker.fleet.misses import MissSampler
from worker.flight import Flights
from worker.handler import Handler
from worker.health import App, HealthServer, Heartbeat, Readiness, health_app
from worker.intake import Intake
from worker.lane import Lane
from worker.logs import Log, quiet_libraries
from worker.lookout import Lookout
from worker.loop import Loop
from worker.metrics import Metrics
from worker.models import build_callee, build_catalog
from worker.page.app import PATHS
from worker.page.build import build_page
from worker.queues import Queues
from worker.settings import Settings
from worker.watch import Watch
from worker.work import Work

OK, FAILED, UNREACHABLE = 0, 1, 3
CLIENT_SECONDS = 2.0  # of the fleet's figures and the page: nobody's work waits for them
_RECONNECT_MAX_SECONDS = 10.0
_COLLECT_AFTER_OBJECTS = 20_000


def run(settings: Settings, log: Log, *, retry: bool = True) -> int:
    """Run a worker until SIGTERM or SIGINT; the exit code: 0, 1 for a model that is lost, 3 for no broker.

    Raises ValueError for a Python target or rule that cannot be loaded, OSError for a port that is taken.
    """
    quiet_libraries()
    metrics = Metrics(settings.models, version())
    readiness, heartbeat = Readiness(), Heartbeat(time.monotonic)
    queues = Queues(Names(settings.prefix), time.time)
    watch = Watch(metrics, log, heartbeat, readiness, queues)
    with ExitStack() as stack:
        cache_url = cache_address(settings, stack)
        connect = partial(redis_client, cache_url, CLIENT_SECONDS)
        page = build_page(settings, connect, queues, broker_options(settings), version(), log)
        stack.callback(page.close)
        pages = dict.fromkeys(PATHS, page)
        serve(settings, health_app(metrics.registry, heartbeat.wrong, readiness.wrong, pages), log, stack)
        callees = _build_callees(settings, watch)
        readiness.reason = "no broker yet"
        cache = _open_cache(settings, cache_url, watch, log, stack)
        check_at_start(settings, log)
        say_exposures(settings, log)
        lookout = build_lookout(settings, queues, watch)
        stack.callback(lookout.close)
        misses = MissSampler(Names(settings.prefix), metrics.count_sampled)
        reporter = build_reporter(
            settings, connect, metrics, readiness, queues, version(), watch.figures_refused, misses.look
        )
        stack.callback(reporter.close)
        loop = _build_loop(settings, callees, cache, watch, misses, lambda: queues.is_paused, retry=retry)
        _listen_to_signals(loop)
        _calm_the_collector()
        lookout.start()
        reporter.start()
        try:
            loop.run()
        except BrokerUnreachable as error:
            log.error("broker unreachable", error=str(error))  # noqa: TRY400 - a traceback explains nothing
            return UNREACHABLE
        return FAILED if loop.lost_model is not None else OK


def serve(settings: Settings, app: App, log: Log, stack: ExitStack) -> None:
    """Serve `app` where the settings say. Raises OSError for a port that is taken."""
    server = HealthServer(app, settings.http_host, settings.http_port)
    stack.callback(server.close)
    log.info("listening", url=f"{server.url}/metrics", page=f"{server.url}/")
    if settings.allow_actions and not is_own(settings.http_host):
        hint = "there is no login: put something in front that asks who you are"
        log.warning("open page", said="whoever reaches it may replay, purge and pause", hint=hint)


def _build_callees(settings: Settings, watch: Watch) -> dict[str, Callee]:
    callees = {
        name: build_callee(name, model, settings, partial(watch.model_down, name))
        for name, model in settings.models.items()
    }
    for callee in callees.values():
        callee.target.warm()
    return callees


def _calm_the_collector() -> None:
    """Look for cycles rarely, and never among what was there at the start: a batch makes thousands of objects
    and no cycle, and looking through them every 700 was a tenth of the work of a hit."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)


def version() -> str:
    """The installed version of recollect."""
    return importlib.metadata.version("recollect")


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
    """The cache's URL as redis-py takes it. Joins the embedded server where that is what is asked for.

    Raises BrokerError for a URL whose options nobody would obey, or whose files are not there.
    """
    if not settings.cache_url.startswith("embedded:"):
        try:
            check_url(settings.cache_url)
        except ValueError as error:
            raise BrokerError(f"cache_url {mask(settings.cache_url)}: {error}") from None
        return settings.cache_url
    server = join(settings.cache_url)
    stack.callback(server.close)
    return server.redis_url


def _open_cache(settings: Settings, url: str, watch: Watch, log: Log, stack: ExitStack) -> RedisCache:
    deadline = settings.cache_deadline_seconds
    breaker = Breaker(
        settings.cache_breaker_failures, settings.cache_breaker_seconds, time.monotonic, watch.cache_changed
    )
    cache = RedisCache(partial(CacheLink, url), breaker, watch, deadline_seconds=deadline)
    stack.callback(cache.close)
    say_audit(settings, redis_client(url, deadline), log)
    return cache


def build_lookout(settings: Settings, queues: Queues, watch: Watch | None = None) -> Lookout:
    """What looks at the queues of these settings."""
    names, options = Names(settings.prefix), replace(broker_options(settings), holds=False)
    return Lookout(lambda: open_broker(settings.broker_url, names, options), queues, watch)


def _build_loop(
    settings: Settings,
    callees: dict[str, Callee],
    cache: RedisCache,
    watch: Watch,
    misses: MissSampler,
    is_paused: Callable[[], bool],
    *,
    retry: bool,
) -> Loop:
    names = Names(settings.prefix)
    # A broker that takes nothing for now (an alarm) holds the loop up, and that is no reason to restart it.
    options = replace(broker_options(settings), reaps=True, on_wait=watch.turned)
    broker = open_broker(settings.broker_url, names, options)
    half = settings.in_flight_bytes // 2  # of what is held: for what waits for a model, and for what comes in
    return Loop(
        broker,
        _build_work(settings, callees, cache, watch, misses, broker.wake, half),
        watch,
        names,
        limits_of(settings),
        clock=time.monotonic,
        wall_clock=time.time,
        sleep=time.sleep,
        intake=Intake(settings.in_flight, half),
        reconnect_max_seconds=min(_RECONNECT_MAX_SECONDS, settings.lease_seconds / 3),
        drain_seconds=settings.drain_seconds,
        retry=retry,
        is_paused=is_paused,
        dead_letter_failed=settings.dead_letter_failed,
    )


def _build_work(
    settings: Settings,
    callees: dict[str, Callee],
    cache: RedisCache,
    watch: Watch,
    misses: MissSampler,
    wake: Callable[[], None],
    most_bytes: int,
) -> Work:
    names, clock, token = Names(settings.prefix), time.monotonic, secrets.token_hex(16)
    handler = Handler(
        build_catalog(settings),
        cache,
        names,
        limits_of(settings),
        time.time,
        lambda: watch.cache_error("lookup"),
        watch.fault,
        entry_max_bytes=settings.entry_max_bytes,
        token=token,
        on_miss=misses.missed,
    )
    calls = Calls(callees, clock, wake, watch)
    for name, callee in callees.items():
        watch.serves(name, callee.concurrency, partial(calls.in_progress, name))
    flight_lease = min(settings.flight_lease_seconds, settings.lease_seconds)  # or a redelivery would wait
    flights = Flights(cache, names, token, clock, lease_seconds=flight_lease)
    bounds = {"in_flight": settings.in_flight, "most_bytes": most_bytes}
    lane = Lane(callees, calls, flights, handler.finish, clock, **bounds)
    return Work(handler, calls, flights, lane, clock, time.time)


def _listen_to_signals(loop: Loop) -> None:
    """The first SIGTERM or SIGINT drains, the second gives everything back at once."""

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
