"""Which versions of which models were served of late, as workers wrote it down, and what they remember."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import redis

from wire.names import Names
from worker.catalog import Model
from worker.lookup import generation_names, latest

Versions = dict[tuple[str, str], float]


def read_versions(client: "redis.Redis", names: Names) -> Versions:
    """Model and version to when it was served first (Unix seconds). Raises redis.RedisError or OSError."""
    found: Any = client.hgetall(names.versions)
    return versions_in(found)


def versions_in(said: Mapping[bytes, bytes]) -> Versions:
    """The same, of what is stored; what cannot be read is left out."""
    found = {}
    for name, when in said.items():
        try:
            model, version = orjson.loads(name)
            found[str(model), str(version)] = float(when)
        except (ValueError, TypeError):
            continue
    return found


def served_models(served: Iterable[tuple[str, str]]) -> set[str]:
    """The models of these, which are models and versions."""
    return {model for model, _ in served}


def see_generation(client: "redis.Redis", names: Names, model: Model) -> None:
    """Have a model make the keys that workers make now. Raises redis.RedisError or OSError."""
    found: Any = client.mget(generation_names(names, model))
    model.see_generation(latest(found))


def remembered_by(
    client: "redis.Redis", names: Names, served: Versions, model: Model, payload: bytes, *, most: int
) -> str | None:
    """The other version of a model that remembers a payload, of the `most` versions that were new last.
    Raises redis.RedisError or OSError."""
    for version in _others(served, model, most):
        other = model.under(version)
        see_generation(client, names, other)
        if client.exists(names.entry(model.name, version, other.key(payload))):
            return version
    return None


def holder_of(client: "redis.Redis", names: Names, model: Model, digest: str, *, most: int) -> str | None:
    """The other version of a model that has something under a key, of the `most` that were new last. Raises
    redis.RedisError or OSError."""
    for version in _others(read_versions(client, names), model, most):
        if client.exists(names.entry(model.name, version, digest)):
            return version
    return None


def _others(served: Versions, model: Model, most: int) -> list[str]:
    since = {version: when for (name, version), when in served.items() if name == model.name}
    return sorted(since.keys() - {model.version}, key=lambda version: -since[version])[:most]
