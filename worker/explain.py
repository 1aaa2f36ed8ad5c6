"""Is this payload remembered, and if not, why? Asked by a person, of the cache itself.

Only what can be known is said. A server that has forgotten does not know what it forgot: evicted, expired
for long, purged, refused by a rule and never asked look alike, and are named together.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import redis

from wire.errors import InvalidRequest
from wire.key import RECIPE, canonical
from wire.message import Request
from wire.names import Names
from wire.values import refuse_large_integers
from worker.catalog import Catalog, Model
from worker.durations import ago, moment, span
from worker.entry import BadEntry, Entry
from worker.freshness import Use, use_of
from worker.versions import holder_of, read_versions, remembered_by, see_generation

DIGEST = re.compile(r"[0-9a-f]{64}")
_OVER = {b"!": "the model has just failed for it", b"-": "its call has just ended with nothing that is kept"}

VERSIONS = 20  # that are asked for, the latest


class Unanswerable(ValueError):
    """A question that makes no sense; the text says what was expected."""


class Explainer:
    """Of one catalog and one cache. `clock` gives Unix seconds. Belongs to one thread at a time."""

    def __init__(
        self,
        catalog: Catalog,
        connect: Callable[[], "redis.Redis"],
        names: Names,
        clock: Callable[[], float],
    ) -> None:
        self._catalog, self._connect, self._names, self._clock = catalog, connect, names, clock

    def model(self, name: str | None) -> Model:
        """The model of that name. Raises Unanswerable."""
        model = self._catalog.find(name)
        if model is None:
            raise Unanswerable(self._catalog.unknown(name).message)
        return model

    def find(self, asked: str, model_name: str | None, *, shows_result: bool) -> dict[str, Any]:
        """What is stored under a key's digest, or for a JSON payload; where a request would not be answered
        from it, `reason` and, in a sentence, `why`. Raises Unanswerable, redis.RedisError, OSError."""
        model, asked = self.model(model_name), asked.strip()
        payload = None if DIGEST.fullmatch(asked) else payload_of(asked)
        with self._connect() as client:
            see_generation(client, self._names, model)
            digest = asked if payload is None else model.key(payload)
            redis_key = self._names.entry(model.name, model.version, digest)
            stored: Any = client.get(redis_key)
            found = self._described(stored, digest, model)
            if stored is None:
                found |= self._missing(client, model, digest, payload)
        result = found.pop("body", None)
        if shows_result and result is not None:
            found["result"] = orjson.loads(result)
        return {
            "key": digest,
            "model": model.name,
            "version": model.version,
            "generation": model.generation,
            "recipe": RECIPE,
            "fields": fields_of(model),
            "redis_key": redis_key,
            **found,
        }

    def _described(self, stored: bytes | None, digest: str, model: Model) -> dict[str, Any]:
        """`is_stored`: whether there is an entry, in or past its time."""
        if stored is None:
            return {"is_stored": False}
        try:
            entry = Entry.decode(stored, digest)
        except BadEntry as error:
            said = f"what is stored is no entry: {error}"
            return {"is_stored": False, "is_hit": False, "reason": "unreadable", "why": said}
        now = self._clock()
        return {
            "is_stored": True,
            "age_seconds": now - entry.created,
            "ttl_seconds": entry.expires - now,
            "model_seconds": entry.compute_ms / 1000,
            "size_bytes": len(entry.body),
            "body": entry.body,
            **_use(entry, model, now),
        }

    def _missing(
        self, client: "redis.Redis", model: Model, digest: str, payload: bytes | None
    ) -> Mapping[str, Any]:
        """Why there is nothing: what the server shows of it, and what it cannot show."""
        reason, why = "unseen", f"it was never asked, or {_gone(model)}"
        before = (
            self._under(client, model, digest) if payload is None else self._of_before(client, model, payload)
        )
        if before is not None:
            reason, why = before
        lease: Any = client.get(self._names.flight(model.name, model.version, digest))
        if lease is not None:
            why += "; " + _OVER.get(lease, "a worker is asking the model for it now")
        return {"is_hit": False, "reason": reason, "why": why}

    def _under(self, client: "redis.Redis", model: Model, digest: str) -> tuple[str, str] | None:
        """Whether a key is one of another version."""
        version = holder_of(client, self._names, model, digest, most=VERSIONS)
        return None if version is None else _elsewhere(version, model)

    def _of_before(self, client: "redis.Redis", model: Model, payload: bytes) -> tuple[str, str] | None:
        """Whether it is there under another version, or from before a purge that is not yet through."""
        served = read_versions(client, self._names)
        version = remembered_by(client, self._names, served, model, payload, most=VERSIONS)
        if version is not None:
            return _elsewhere(version, model)
        if model.generation and client.exists(
            self._names.entry(model.name, model.version, model.at(0).key(payload))
        ):
            return "purged", f"it was remembered before the purge {_purged(model)}"
        return None


def payload_of(asked: str) -> bytes:
    """The canonical form of a payload's JSON. Raises Unanswerable."""
    try:
        payload = canonical(orjson.loads(asked))
        refuse_large_integers(asked.encode(), payload)
    except (ValueError, TypeError, InvalidRequest) as error:
        raise Unanswerable(f"expected a key (64 hexadecimal digits) or a JSON payload: {error}") from None
    return payload


def fields_of(model: Model) -> dict[str, list[str]] | None:
    """Which top-level fields decide the answer; None for all."""
    return None if model.selection is None else model.selection.tag()


def _use(entry: Entry, model: Model, now: float) -> dict[str, Any]:
    """What the run would make of it for a request without directives."""
    use = use_of(entry, Request(b""), model.policy, now)
    if use is Use.HIT:
        return {"is_hit": True}
    why = f"it expired {ago(now - entry.expires)}, and is kept for the time when the model fails"
    if use is Use.STALE:
        why = f"it expired {ago(now - entry.expires)}; it answers once more, and the model is asked again"
    return {"is_hit": False, "reason": "expired", "why": why}


def _elsewhere(version: str, model: Model) -> tuple[str, str]:
    return "version", f"it is remembered under version {version}; this is version {model.version}"


def _gone(model: Model) -> str:
    purged = f", purged ({_purged(model)})" if model.generation else ""
    kept = span(model.policy.stale_max)
    refused = ", refused by `cacheable`" if model.has_rule else ""
    return (
        f"is gone: expired for more than {kept}, evicted{purged}{refused}, or not kept (too large, "
        "no_store), or was remembered under other key settings (key_include, key_exclude, namespace)"
    )


def _purged(model: Model) -> str:
    """When: a generation is the server's time in microseconds."""
    return f"of {moment(model.generation / 1e6)}"
