"""Replies: written by workers, read by producers.

A cached result is spliced in as the bytes it is stored as: it is never parsed on its way through.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from wire.errors import Failure, Outcome

PART_HEADER = "part"


_HIT = b'{"id":%b,"status":"ok","result":%b,"error":null,%b"key":"%b","age_seconds":%.3f,"ttl_seconds":%.3f}'


class Provenance(NamedTuple):
    """Where an answer comes from: everything in a reply that is neither its id, result nor error."""

    outcome: Outcome
    model: str | None = None
    version: str | None = None
    key: str | None = None
    age_seconds: float | None = None
    ttl_seconds: float | None = None


def encode_result(request_id: str | None, result: bytes, origin: Provenance) -> bytes:
    """The reply that carries `result`, which must be JSON text."""
    return b'{"id":%b,"status":"ok","result":%b,"error":null,%b' % (
        orjson.dumps(request_id),
        result,
        _encode_origin(origin),
    )


def encode_hit(
    request_id: str | None, result: bytes, source: bytes, key: str, age_seconds: float, ttl_seconds: float
) -> bytes:
    """`encode_result` for an answer from the cache. `source` is what `encode_source` makes of a hit: the same
    for all hits of a model, and written once."""
    return _HIT % (orjson.dumps(request_id), result, source, key.encode(), age_seconds, ttl_seconds)


def encode_failure(request_id: str | None, failure: Failure, origin: Provenance) -> bytes:
    """The reply that carries an error."""
    return b'{"id":%b,"status":"error","result":null,"error":%b,%b' % (
        orjson.dumps(request_id),
        orjson.dumps(failure.as_dict()),
        _encode_origin(origin),
    )


def _encode_origin(origin: Provenance) -> bytes:
    outcome, model, version, key, age, ttl = origin
    return b'%b"key":%b,"age_seconds":%b,"ttl_seconds":%b}' % (
        encode_source(outcome, model, version),
        b"null" if key is None else b'"%b"' % key.encode(),
        b"null" if age is None else b"%.3f" % age,
        b"null" if ttl is None else b"%.3f" % ttl,
    )


@lru_cache(maxsize=1024)
def encode_source(outcome: Outcome, model: str | None, version: str | None) -> bytes:
    """What the replies of a model with one outcome have in common."""
    return orjson.dumps({"outcome": outcome.value, "model": model, "version": version})[1:-1] + b","


def pack_replies(replies: Sequence[bytes], max_bytes: int) -> Iterator[bytes]:
    """NDJSON bodies of at most `max_bytes`, each as full as can be; one reply that is larger goes alone."""
    part: list[bytes] = []
    size = 0
    for reply in replies:
        if part and size + len(reply) + 1 > max_bytes:
            yield b"\n".join(part) + b"\n"
            part, size = [], 0
        part.append(reply)
        size += len(reply) + 1
    if part:
        yield b"\n".join(part) + b"\n"


class BadReply(ValueError):
    """A reply that does not keep to the contract."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer to one request.

    `index` counts the requests of a `map` from 0 and is -1 elsewhere; `error` is the object of the contract
    (`kind`, `message`, `retryable`, `attempts`) or None.
    """

    id: str | None
    status: str
    result: Any
    error: dict[str, Any] | None
    outcome: str
    model: str | None
    version: str | None
    key: str | None
    age_seconds: float | None
    ttl_seconds: float | None
    index: int = -1

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.status == "ok"

    @classmethod
    def decode(cls, line: bytes, index: int = -1) -> "Reply":
        """The reply that `line` holds. Raises BadReply."""
        try:
            fields = orjson.loads(line)
            return cls(**{name: fields[name] for name in _REPLY_FIELDS}, index=index)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise BadReply(f"not a reply: {error!r}") from None

    def as_dict(self) -> dict[str, Any]:
        """The reply as the contract writes it."""
        return {name: getattr(self, name) for name in _REPLY_FIELDS}


_REPLY_FIELDS = (
    "id",
    "status",
    "result",
    "error",
    "outcome",
    "model",
    "version",
    "key",
    "age_seconds",
    "ttl_seconds",
)
