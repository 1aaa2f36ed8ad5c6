"""Is this payload remembered? Asked by a person, of the cache itself."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import redis

from wire.errors import InvalidRequest
from wire.key import canonical
from wire.names import Names
from wire.values import refuse_large_integers
from worker.catalog import Catalog, Model
from worker.entry import BadEntry, Entry

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Unanswerable(ValueError):
    """A question that makes no sense; the text says what was expected."""


class Lookup:
    """Of one catalog and one cache. `clock` gives Unix seconds. Belongs to one thread at a time."""

    def __init__(
        self,
        catalog: Catalog,
        connect: Callable[[], "redis.Redis"],
        names: Names,
        clock: Callable[[], float],
    ) -> None:
        self._catalog, self._connect, self._names, self._clock = catalog, connect, names, clock

    def find(self, asked: str, model_name: str | None, *, shows_result: bool) -> dict[str, Any]:
        """What is stored under a key's digest, or for a JSON payload. Raises Unanswerable,
        redis.RedisError, OSError."""
        model = self._catalog.find(model_name)
        if model is None:
            raise Unanswerable(self._catalog.unknown(model_name).message)
        with self._connect() as client:
            digest = self._digest(client, asked.strip(), model)
            stored: Any = client.get(self._names.entry(model.name, model.version, digest))
        return {
            "key": digest,
            "model": model.name,
            "version": model.version,
            "redis_key": self._names.entry(model.name, model.version, digest),
            **self._described(stored, digest, shows_result=shows_result),
        }

    def _digest(self, client: "redis.Redis", asked: str, model: Model) -> str:
        if _DIGEST.fullmatch(asked):
            return asked
        try:
            payload = canonical(orjson.loads(asked))
            refuse_large_integers(asked.encode(), payload)
        except (ValueError, TypeError, InvalidRequest) as error:
            raise Unanswerable(f"expected a key (64 hexadecimal digits) or a JSON payload: {error}") from None
        generation: Any = client.get(self._names.generation(model.name))
        model.see_generation(int(generation) if generation is not None and generation.isdigit() else 0)
        return model.key(payload)

    def _described(self, stored: bytes | None, digest: str, *, shows_result: bool) -> Mapping[str, Any]:
        if stored is None:
            return {"is_stored": False}
        try:
            entry = Entry.decode(stored, digest)
        except BadEntry as error:
            return {"is_stored": False, "why": f"what is stored is no entry: {error}"}
        now = self._clock()
        return {
            "is_stored": True,
            "age_seconds": now - entry.created,
            "ttl_seconds": entry.expires - now,
            "model_seconds": entry.compute_ms / 1000,
            "size_bytes": len(entry.body),
            **({"result": orjson.loads(entry.body)} if shows_result else {}),
        }
