"""Models as their settings describe them: policy, target, and how they are called."""

import json
import ssl
import time
from collections.abc import Callable
from typing import Any

from broker.tls import MODEL, context_of
from wire.key import Selection
from worker.breaker import Breaker
from worker.calls import Callee
from worker.catalog import Cacheable, Catalog, Model, Policy, field_equals, predicate
from worker.gate import Gate
from worker.http_model import HttpTarget
from worker.model import Target
from worker.pool import Batching
from worker.python_model import PythonTarget, load
from worker.retry import RetryPolicy
from worker.settings import CacheableRule, ModelSettings, Settings


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
        policy=Policy(
            model.ttl_seconds,
            (model.ttl_min_seconds, model.ttl_max_seconds),
            model.stale_max_seconds,
            model.stale_if_error_seconds,
            model.stale_while_revalidate_seconds,
            model.budget_seconds,
            frozenset(model.directives),
        ),
        cacheable=_build_rule(model.cacheable),
    )


def build_callee(
    name: str, model: ModelSettings, settings: Settings, on_down: Callable[[bool], None] = lambda _: None
) -> Callee:
    """How one model is called. `on_down` is told when it is left alone, and when it is called again.

    Raises ValueError for headers that cannot be read.
    """
    policy = RetryPolicy(
        model.attempts, model.budget_seconds, model.wait_initial_seconds, model.wait_max_seconds
    )
    breaker = Breaker(model.breaker_failures, model.breaker_seconds, time.monotonic, on_down)
    gate = Gate(breaker, time.monotonic)
    batching = Batching(model.batch_size, model.batch_wait_ms / 1000) if model.batch_size > 1 else None
    target = _build_target(name, model, settings)
    return Callee(target, policy, model.concurrency, model.timeout_seconds, gate, batching)


def _build_target(name: str, model: ModelSettings, settings: Settings) -> Target:
    if model.target.startswith("python:"):
        return PythonTarget(model.target.removeprefix("python:"), max_bytes=settings.result_max_bytes)
    return HttpTarget(
        model.target,
        headers={**model.headers, **_headers_of(name, model)},
        timeout_seconds=model.timeout_seconds,
        concurrency=model.concurrency,
        max_bytes=settings.result_max_bytes,
        tls=tls_of(name, model),
    )


def tls_of(name: str, model: ModelSettings) -> ssl.SSLContext | None:
    """How an https:// target is checked, where the settings say more than the system. Raises ValueError."""
    files = model.ca_file, model.cert_file, model.key_file
    if not any(files):
        return None
    try:
        return context_of(MODEL, *(None if file is None else str(file) for file in files))
    except ValueError as error:
        raise ValueError(f"models.{name}.{error}") from None


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
