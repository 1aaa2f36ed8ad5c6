"""Why misses are misses: of every hundred one is looked into, aside from the work.

What a look-up saw itself is counted at once. Where nothing was stored it is asked, on the thread that reports
figures, whether the payload is remembered under another version of its model.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import StrEnum

import redis

from wire.names import Names
from worker.catalog import Model
from worker.entry import Entry
from worker.job import Job
from worker.versions import read_versions, remembered_by

EVERY = 100  # misses, of which the first is looked into
_MOST_WAITING = 100  # with their payloads, each a megabyte at most
_VERSIONS = 3  # that are asked for, the latest


class Reason(StrEnum):
    """A closed set. `UNSEEN`: nothing is stored; it was never asked, or is gone. `TOO_OLD`: for a request
    with `max_age`."""

    UNSEEN = "unseen"
    EXPIRED = "expired"
    VERSION = "version"
    UNREADABLE = "unreadable"
    TOO_OLD = "too_old"


class MissSampler:
    """`count` is told the model and the reason of each miss that was looked into; on two threads."""

    def __init__(self, names: Names, count: Callable[[str, str], None]) -> None:
        self._names, self._count = names, count
        self._seen: Counter[str] = Counter()
        self._waiting: deque[tuple[Model, bytes]] = deque(maxlen=_MOST_WAITING)

    def missed(self, job: Job, entry: Entry | None, now: float, *, is_unreadable: bool) -> None:
        """See worker.handler.OnMiss. One that comes back from its wait for the model is not counted again."""
        if job.delivery.is_second:
            return
        model = job.model
        seen = self._seen[model.name]
        self._seen[model.name] = seen + 1
        if seen % EVERY:
            return
        if is_unreadable:
            self._count(model.name, Reason.UNREADABLE)
        elif entry is None:
            self._waiting.append((model, job.request.payload))
        else:
            self._count(model.name, Reason.EXPIRED if entry.expires <= now else Reason.TOO_OLD)

    def look(self, client: "redis.Redis") -> None:
        """Look into what waits for it. Raises redis.RedisError or OSError: what it held is lost then."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not waiting:
            return
        served = read_versions(client, self._names)
        for model, payload in waiting:
            other = remembered_by(client, self._names, served, model, payload, most=_VERSIONS)
            self._count(model.name, Reason.UNSEEN if other is None else Reason.VERSION)
