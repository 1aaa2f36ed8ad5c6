"""Every queue and Redis key name is made here."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

Priority = Literal["bulk", "interactive"]
PRIORITIES: tuple[Priority, ...] = ("bulk", "interactive")

_PREFIX = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_SUFFIX = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one installation. `prefix` keeps two installations on one server apart.

    `interactive` and `requests`: the queues that producers fill; the first is read first. `misses`: requests
    that were looked up, not found, and wait for the model. `replies`: the shared reply queue, for requests
    without a `reply_to`, or with one that is refused. `dead`: dead letters. `paused`: while a message is in
    it, workers take nothing.

    Raises ValueError for a prefix that is not a lower-case letter followed by up to 31 of a-z 0-9 _ -.
    """

    prefix: str = "recollect"
    interactive: str = field(init=False)
    requests: str = field(init=False)
    misses: str = field(init=False)
    replies: str = field(init=False)
    dead: str = field(init=False)
    paused: str = field(init=False)

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"prefix {self.prefix!r} must be a lower-case letter, then up to 31 of a-z 0-9 _ -"
            )
        for name in ("interactive", "requests", "misses", "replies", "dead", "paused"):
            object.__setattr__(self, name, f"{self.prefix}.{name}")

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues that every installation has."""
        return (*self.worked, self.replies, self.dead, self.paused)

    @property
    def worked(self) -> tuple[str, str, str]:
        """The queues that workers take from."""
        return (self.interactive, self.requests, self.misses)

    def requests_of(self, priority: str) -> str:
        """The queue of requests of a priority. Raises ValueError for one that is none."""
        if priority not in PRIORITIES:
            raise ValueError(f"priority {str(priority)[:80]!r} must be one of: {', '.join(PRIORITIES)}")
        return self.interactive if priority == "interactive" else self.requests

    def replies_for(self, name: str) -> str:
        """The reply queue called `name`: 1 to 64 of A-Z a-z 0-9 _ -. Raises ValueError for another name."""
        if not _SUFFIX.fullmatch(name):
            raise ValueError(f"reply queue name {name!r} must be 1 to 64 of A-Z a-z 0-9 _ -")
        return f"{self.replies}.{name}"

    def replies_of(self, run: str | None) -> str:
        """The queue of a run's replies, or, without one, the shared one. Raises ValueError as above."""
        return self.replies if run is None else self.replies_for(run)

    def is_reply_queue(self, queue: str) -> bool:
        """Whether a worker may send a reply to `queue`: to reply queues of this prefix, nowhere else."""
        return _is_reply_queue(self.replies, queue)

    def entry(self, model: str, version: str, digest: str) -> str:
        """The Redis key of an entry. The braces make value and lease of one key share a cluster slot."""
        return f"{_stem(self.prefix, model, version)}{{{digest}}}"

    def entry_maker(self, model: str, version: str) -> Callable[[str], str]:
        """`entry` of one model and version, for many digests."""
        stem = _stem(self.prefix, model, version)
        return lambda digest: f"{stem}{{{digest}}}"

    def flight(self, model: str, version: str, digest: str) -> str:
        """The Redis key of the lease on a model call for an entry."""
        return f"{self.prefix}:flight:{quote(model, safe='')}:{quote(version, safe='')}:{{{digest}}}"

    def entries_of(self, model: str, version: str | None = None) -> str:
        """What the Redis keys of all entries of a model (and version) begin with."""
        return _stem(self.prefix, model, version)

    def generation(self, model: str, version: str | None = None) -> str:
        """The Redis key that holds a model's generation, or that of one of its versions: the later of the
        two counts."""
        of = "" if version is None else f":{quote(version, safe='')}"
        return f"{self.prefix}:generation:{quote(model, safe='')}{of}"

    @property
    def leases(self) -> str:
        """The Redis key of all leases: holder to deadline, in milliseconds of the server's clock."""
        return f"{self.prefix}:leases"

    def in_flight(self, holder: str) -> str:
        """The Redis key of what a holder has received and not settled."""
        return f"{self.prefix}:in-flight:{holder}"

    @property
    def deliveries(self) -> str:
        """The Redis key that counts deliveries of what was in flight at a death."""
        return f"{self.prefix}:deliveries"

    @property
    def owners(self) -> str:
        """The Redis key of all private reply queues: queue to holder."""
        return f"{self.prefix}:owners"

    @property
    def declared(self) -> str:
        """The Redis key of all reply queues that stay."""
        return f"{self.prefix}:reply-queues"

    def figures(self, unit: str, number: int) -> str:
        """The Redis key of what all workers counted in a minute or an hour: worker to figures."""
        return f"{self.prefix}:figures:{unit}:{number}"

    @property
    def workers(self) -> str:
        """The Redis key of all workers: worker to what it said of itself last."""
        return f"{self.prefix}:workers"

    @property
    def versions(self) -> str:
        """The Redis key of when each version of a model was first served."""
        return f"{self.prefix}:versions"

    def blame(self, message: str) -> str:
        """The queue of notes on a message that runs alone, where the broker has no better place for them."""
        return f"{self.prefix}.blame.{message}"


@lru_cache(maxsize=1024)
def _stem(prefix: str, model: str, version: str | None) -> str:
    stem = f"{prefix}:k1:{quote(model, safe='')}:"
    return stem if version is None else f"{stem}{quote(version, safe='')}:"


@lru_cache(maxsize=4096)
def _is_reply_queue(shared: str, queue: str) -> bool:
    if queue == shared:
        return True
    head, dot, name = queue.rpartition(".")
    return bool(dot) and head == shared and _SUFFIX.fullmatch(name) is not None
