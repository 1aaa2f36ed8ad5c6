"""`python -m worker cache purge`: says how much it would forget, asks, and forgets."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from wire.names import Names
from worker.catalog import Model
from worker.console import FAILED, OK, UsageError, agreed, check_model, print_json, printable, say
from worker.explain import DIGEST, VERSIONS, Unanswerable, payload_of
from worker.forgetting import Held, ServerFull, forget, held, sizes
from worker.models import build_catalog
from worker.sources import Loaded
from worker.versions import holder_of, read_versions, see_generation, served_models

_ONE = "error: --key and --payload need --model NAME where not exactly one model is served"
_FULL = "the server is full: entries are dropped first, then the generation moves, then it looks once more"
_EXPECTED = "error: cache purge needs --model NAME (and --version), or --key DIGEST, or --payload JSON"


class Task(NamedTuple):
    """What is to be forgotten: in words, as JSON, how much it is at most, and how."""

    said: str
    of: dict[str, Any]
    held: Held
    forget: Callable[[], int]


def purge(arguments: argparse.Namespace, loaded: Loaded, client: "redis.Redis") -> int:
    """Carry it out. Raises UsageError, Unanswerable, redis.RedisError, OSError."""
    task = _task(arguments, loaded, client)
    count, size = task.held
    what = f"{count:,} {'result' if count == 1 else 'results'} ({size:,} bytes) of {task.said}"
    if arguments.dry_run:
        say(f"{what} would be forgotten")
        return OK
    if arguments.yes:
        say(f"forgetting {what}")
    elif not agreed(f"forget {what}?"):
        say("nothing was forgotten")
        return FAILED
    try:
        purged = task.forget()
    except ServerFull as error:
        say(f"error: {error}")
        return FAILED
    print_json({**task.of, "purged": purged})
    return OK


def _task(arguments: argparse.Namespace, loaded: Loaded, client: "redis.Redis") -> Task:
    names = Names(loaded.settings.prefix)
    if arguments.version == "":
        raise UsageError("error: --version is empty; expected a version of the model")
    if arguments.key is not None or arguments.payload is not None:
        return _one(arguments, loaded, client, names)
    model, version = arguments.model, arguments.version
    if model is None:
        raise UsageError(_EXPECTED)
    stored = held(client, names, model, version)
    if not stored.entries:  # of a model that nobody serves any more there may be entries
        check_model(model, {*loaded.settings.models, *served_models(read_versions(client, names))})
    of = {"model": model} if version is None else {"model": model, "version": version}
    said = printable(model if version is None else f"{model} version {version}")
    return Task(
        said,
        of,
        stored,
        lambda: forget(client, names, model, version, on_full=lambda: say(_FULL)),
    )


def _one(arguments: argparse.Namespace, loaded: Loaded, client: "redis.Redis", names: Names) -> Task:
    """One entry. A call for it that is under way will store its answer: that is a new one."""
    check_model(arguments.model, loaded.settings.models)
    model = build_catalog(loaded.settings).find(arguments.model)
    if model is None:
        raise UsageError(_ONE)
    if arguments.version is not None:
        model = model.under(arguments.version)
    digest = _digest(arguments, model, client, names)
    if arguments.key is not None and arguments.version is None:
        model = _holder(model, digest, client, names)
    entry = names.entry(model.name, model.version, digest)
    if client.exists(names.flight(model.name, model.version, digest)):
        say("a worker asks the model for it now, or did a moment ago: what that brings is remembered")
    (size,) = sizes(client, [entry])
    of = {"model": model.name, "version": model.version, "key": digest}
    said = printable(f"{model.name} version {model.version}, key {digest}")
    return Task(said, of, Held(int(size > 0), size), lambda: int(client.unlink(entry)))


def _holder(model: Model, digest: str, client: "redis.Redis", names: Names) -> Model:
    """The model of the version that has an entry under a key: its own, or another one, which is said."""
    if client.exists(names.entry(model.name, model.version, digest)):
        return model
    version = holder_of(client, names, model, digest, most=VERSIONS)
    if version is None:
        return model
    say(printable(f"it is stored under version {version}; served now is version {model.version}"))
    return model.under(version)


def _digest(arguments: argparse.Namespace, model: Model, client: "redis.Redis", names: Names) -> str:
    if arguments.key is not None:
        if not DIGEST.fullmatch(arguments.key):
            raise Unanswerable(f"--key {arguments.key[:80]}: expected 64 hexadecimal digits, as replies have")
        return str(arguments.key)
    payload = payload_of(sys.stdin.read() if arguments.payload == "-" else arguments.payload)
    see_generation(client, names, model)
    return model.key(payload)
