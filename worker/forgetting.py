"""Making a cache forget what a model answered."""

from collections.abc import Iterator
from typing import Any

import redis

from wire.names import Names


def forget(client: "redis.Redis", names: Names, model: str) -> int:
    """Forget all results of a model; how many there were. Raises redis.RedisError or OSError.

    The new generation comes first: from then on no worker finds the old entries, unlinked or not.
    """
    seconds, micros = client.time()
    client.set(names.generation(model), seconds * 1_000_000 + micros)
    count = 0
    for batch in batches(client, names.entries_of(model)):
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
