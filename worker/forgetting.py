"""Making a cache forget what a model answered."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

from wire.names import Names


class Held(NamedTuple):
    """So many entries, and the bytes of their values."""

    entries: int
    bytes: int


def held(client: "redis.Redis", names: Names, model: str, version: str | None = None) -> Held:
    """What is stored of a model, or of one of its versions. Raises redis.RedisError or OSError."""
    entries = size = 0
    for batch in batches(client, names.entries_of(model, version)):
        entries += len(batch)
        size += sum(sizes(client, batch))
    return Held(entries, size)


def sizes(client: "redis.Redis", keys: list[Any]) -> list[int]:
    """The bytes of each value; 0 where there is none, or one that is no entry."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.strlen(key)
        return [size if isinstance(size, int) else 0 for size in pipe.execute(raise_on_error=False)]


def forget(client: "redis.Redis", names: Names, model: str, version: str | None = None) -> int:
    """Forget all results of a model, or of one of its versions; how many there were. Raises
    redis.RedisError or OSError.

    The new generation comes first: from then on no worker finds the old entries, unlinked or not, nor what
    calls that are under way will write.
    """
    seconds, micros = client.time()
    client.set(names.generation(model, version), seconds * 1_000_000 + micros)
    count = 0
    for batch in batches(client, names.entries_of(model, version)):
        count += int(client.unlink(*batch))
    return count


def batches(client: "redis.Redis", stem: str) -> Iterator[list[Any]]:
    """The names of all keys that begin with `stem`, some at a time."""
    # A model's name may hold what SCAN's pattern takes for a wildcard.
    pattern = "".join(f"\\{char}" if char in "*?[]^\\" else char for char in stem) + "*"
    cursor: Any = 0
    while True:
        cursor, found = client.scan(cursor, match=pattern, count=1000)
        if found:
            yield found
        if not cursor:
            return
