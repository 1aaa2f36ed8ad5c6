"""Making a cache forget what a model answered."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import redis

from wire.names import Names
from worker.lookup import latest


class ServerFull(redis.OutOfMemoryError):
    """A server that takes no new generation even without the entries; the text says what that means."""


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


def forget(
    client: "redis.Redis",
    names: Names,
    model: str,
    version: str | None = None,
    *,
    on_full: Callable[[], None] = lambda: None,
) -> int:
    """Forget all results of a model, or of one of its versions; how many there were. Raises
    redis.RedisError (ServerFull where too little was freed) or OSError.

    The new generation comes first: from then on no worker finds the old entries, unlinked or not, nor what
    calls that are under way will write. Only a server that is full takes none before entries are gone, which
    is told to `on_full`; what was written until then goes with it.
    """
    try:
        _move_generation(client, names, model, version)
    except redis.OutOfMemoryError:
        on_full()
        count = _drop(client, names, model, version)
        try:
            _move_generation(client, names, model, version)
        except redis.OutOfMemoryError as error:
            raise ServerFull(
                f"{count:,} results were dropped, and the server is still full: what calls that are under "
                f"way bring may be found again; give it more memory, then purge once more ({error})"
            ) from None
        return count + _drop(client, names, model, version)
    return _drop(client, names, model, version)


def _move_generation(client: "redis.Redis", names: Names, model: str, version: str | None) -> None:
    """Above all that count there, also where the server's clock has gone back. A model's counts for all its
    versions, so it must be above theirs, too."""
    key = names.generation(model, version)
    others: list[Any] = [key, names.generation(model)]
    if version is None:
        others += [name for batch in batches(client, f"{key}:") for name in batch]
    seconds, micros = client.time()
    found: Any = client.mget(others)
    client.set(key, max(seconds * 1_000_000 + micros, latest(found) + 1))


def _drop(client: "redis.Redis", names: Names, model: str, version: str | None) -> int:
    return sum(int(client.unlink(*batch)) for batch in batches(client, names.entries_of(model, version)))


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
