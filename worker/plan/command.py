"""`python -m worker plan`: rows, distinct, remembered, calls and time, before anything is sent."""

import argparse
import errno
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import redis

from broker.base import BrokerError
from broker.urls import mask
from rows.cells import types_of
from rows.payload import NoPayload, Pick, check_names, names_of, picker
from rows.row import BadRow, Row
from rows.source import Source, open_source
from wire.directives import add_directives, directives_of
from wire.errors import InvalidRequest
from wire.message import encode_request
from wire.names import Names
from worker.app import cache_address, limits_of
from worker.breaker import Breaker
from worker.cache import CacheDown, RedisCache
from worker.cache_audit import why
from worker.cache_link import CacheLink, redis_client
from worker.catalog import Catalog
from worker.console import FAILED, OK, UsageError, check_model, print_json, print_text, say, unreachable
from worker.fleet.reader import FleetReader
from worker.handler import Handler
from worker.models import build_catalog
from worker.plan.planner import Line, Planner
from worker.plan.speed import WINDOW_SECONDS, Speed, speed
from worker.plan.text import as_dict, as_text
from worker.settings import Settings
from worker.sources import Loaded

_TIMEOUT_SECONDS = 5.0
_BATCH_ROWS, _BATCH_BYTES = 256, 8 << 20
_TELL_SECONDS = 10.0


def add_plan(sub: Any, common: argparse.ArgumentParser) -> None:
    """Its arguments."""
    plan = sub.add_parser("plan", parents=[common], help="what a file of rows would cost; calls no model")
    plan.add_argument("input", metavar="IN", help="a .jsonl, .csv or .parquet file, or - for standard input")
    plan.add_argument("--model", help="of rows that name none, where several are served")
    plan.add_argument("--payload", metavar="a,b", help="only these columns make the payload")
    plan.add_argument("--types", metavar="COLUMN:TYPE,…", help="of a CSV file's columns that are not text")
    plan.add_argument("--requests", action="store_true", help="each line is a whole request")
    add_directives(plan)
    plan.add_argument("--json", action="store_true")


def plan(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Read it all, look it all up, say what it comes to."""
    settings = loaded.settings
    if not settings.models:
        raise UsageError("error: no model is set: its version and key settings are part of every key")
    check_model(arguments.model, settings.models)
    lines = _lines(arguments)
    try:
        with _ends_on_signals(), ExitStack() as stack:
            return _plan(arguments, settings, lines, stack)
    except BrokenPipeError:
        raise
    except (redis.RedisError, CacheDown, BrokerError) as error:
        return unreachable("cache", mask(settings.cache_url), why(settings, error))
    except (OSError, ValueError) as error:
        raise UsageError(f"error: {error}") from None


def _plan(arguments: argparse.Namespace, settings: Settings, lines: Iterator[Line], stack: ExitStack) -> int:
    url, names = cache_address(settings, stack), Names(settings.prefix)
    reader = FleetReader(partial(redis_client, url, _TIMEOUT_SECONDS), names)
    stack.callback(reader.close)
    try:
        fleet = reader.read(WINDOW_SECONDS)  # first: a cache that is not there is met before the file is read
    except OSError as error:
        raise CacheDown(str(error)) from error
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recollect-plan-")))
    catalog = build_catalog(settings)
    planner = Planner(_handler(settings, catalog, url, names, stack), catalog, place)
    for batch in _batches(lines, time.monotonic, lambda: planner.rows):
        with _room(place):
            planner.add(batch)
    with _room(place):
        plans = planner.plans()
    speeds: dict[str, Speed | None] = {
        name: speed(fleet, name, takes_arrays=model.batch_size > 1) for name, model in settings.models.items()
    }
    if arguments.json:
        print_json(as_dict(planner, plans, speeds))
    else:
        print_text(as_text(planner, plans, speeds))
    return OK if plans or not planner.rows else FAILED


@contextmanager
def _ends_on_signals() -> Iterator[None]:
    """Being ended is an exception, too, so that nothing stays in the temporary directory."""

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _room(place: Path) -> Iterator[None]:
    """Raises UsageError where there is none left for counting in `place`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(
            f"error: no room is left in {place.parent} for counting, which takes 17 bytes a row, or several "
            "times that while a field is under suspicion: set TMPDIR to a larger place"
        ) from None


def _handler(settings: Settings, catalog: Catalog, url: str, names: Names, stack: ExitStack) -> Handler:
    breaker = Breaker(1, _TIMEOUT_SECONDS, time.monotonic, lambda _: None)
    cache = RedisCache(partial(CacheLink, url), breaker, _Silent(), deadline_seconds=_TIMEOUT_SECONDS)
    stack.callback(cache.close)
    return Handler(catalog, cache, names, limits_of(settings), time.time, lambda: None, _raise)


class _Silent:
    """An observer of a cache to whom nobody listens."""

    def cache_operation(self, operation: str, seconds: float) -> None:
        """See worker.cache.Observer."""

    def cache_error(self, operation: str) -> None:
        """See worker.cache.Observer."""

    def cache_stored(self, size: int) -> None:
        """See worker.cache.Observer."""


def _raise(fault: Exception) -> None:
    raise fault


def _lines(arguments: argparse.Namespace) -> Iterator[Line]:
    """The rows as `producer map` would send them. Raises UsageError."""
    if arguments.requests and arguments.payload is not None:
        raise UsageError("error: --payload makes payloads of rows, --requests takes whole requests; give one")
    try:
        names = names_of(arguments.payload)
        types = types_of(arguments.types)
        source = open_source(
            arguments.input, types=types, columns=None if names is None else frozenset(names)
        )
        if not source.is_stream:
            check_names(names, source.columns, source.path)
    except (ValueError, OSError) as error:
        raise UsageError(f"error: {error}") from None
    return _requests(source, picker(names), _common(arguments), is_whole=arguments.requests)


def _common(arguments: argparse.Namespace) -> dict[str, Any]:
    """What every request says that does not say otherwise. Raises UsageError."""
    common = directives_of(arguments, time.time())
    if arguments.model is not None:
        common["model"] = arguments.model
    try:
        encode_request({"payload": None, **common})
    except InvalidRequest as error:
        raise UsageError(f"error: {error}") from None
    return common


def _requests(source: Source, pick: Pick, common: dict[str, Any], *, is_whole: bool) -> Iterator[Line]:
    for row in source.rows():
        if isinstance(row, BadRow):
            yield Line(row.number, problem=row.problem)
            continue
        try:
            yield Line(row.number, encode_request(_request(row, pick, common, is_whole=is_whole)))
        except (NoPayload, InvalidRequest) as error:
            yield Line(row.number, problem=str(error))


def _request(row: Row, pick: Pick, common: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    if not is_whole:
        return {**common, "payload": pick(row.value)}
    if not isinstance(row.value, dict):
        raise InvalidRequest(f"request is {type(row.value).__name__}; expected an object with a payload")
    return {**common, **row.value}


def _batches(
    lines: Iterator[Line], clock: Callable[[], float], read: Callable[[], int]
) -> Iterator[list[Line]]:
    """So many at once as one look-up takes. Says now and then how many have been `read`."""
    batch, size, tell_at = list[Line](), 0, clock() + _TELL_SECONDS
    for line in lines:
        batch.append(line)
        size += len(line.request)
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
            if clock() >= tell_at:
                say(f"{read():,} rows so far")
                tell_at = clock() + _TELL_SECONDS
    if batch:
        yield batch
