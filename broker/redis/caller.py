"""Asks the server on behalf of one holder, and makes of every trouble one: BrokerLost."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from broker.base import BrokerLost
from broker.redis.commands import Argument
from broker.redis.lease import Lease
from broker.redis.link import Link, Posted
from wire.names import Names

_LEASE_GONE = "the lease ran out: what was held has been given to others"


class Caller:
    """A link that is given up with its first error. `holder` is the id under which things are held."""

    def __init__(self, names: Names, lease: Lease, shown: str) -> None:
        self._names, self._lease, self._shown = names, lease, shown
        self._link: Link | None = None
        self.holder = ""

    @property
    def own_keys(self) -> list[Argument]:
        """The keys that every script of a holder begins with."""
        return [self._names.leases, self._names.in_flight(self.holder)]

    @property
    def is_connected(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    def begin(self, link: Link) -> None:
        """Ask on this link from now on; the holder's lease has begun, where there is one."""
        self._link = link
        if self.holder:
            self._lease.begin(self.holder)

    def end(self) -> None:
        """Hang up, and leave the lease alone. Never raises."""
        self._lease.suspend()
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def run(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Any:
        """The answer of a script that takes the holder first. Raises BrokerLost, also without a lease."""
        with self.asking() as link:
            return under_lease(link.run(script, keys, [self.holder, *arguments]))

    def post(self, script: str, keys: Sequence[Argument], arguments: Sequence[Argument]) -> Posted:
        """Begin the same for later. Raises BrokerLost."""
        with self.asking() as link:
            return link.post(script, keys, [self.holder, *arguments])

    def fetch(self, posted: Posted) -> Any:
        """The answer to what was posted. Raises BrokerLost."""
        with self.asking() as link:
            return under_lease(link.fetch(posted))

    def asking(self) -> "Caller":
        """A context: the link, for a moment; whatever goes wrong on it ends it as BrokerLost."""
        return self

    def __enter__(self) -> Link:
        # Entered ten times for a message: a generator and the two objects around it would cost more than
        # all that they guard.
        link = self._link
        if link is None:
            raise BrokerLost(f"not connected to {self._shown}")
        if self._lease.is_lost:
            self.end()
            raise BrokerLost(_LEASE_GONE)
        self._lease.enter()
        return link

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._lease.leave()
        if error is not None:
            self.end()  # also for Ctrl-C in the middle: an answer that is not read would be another's
        if isinstance(error, RedisError | OSError):
            raise BrokerLost(f"lost {self._shown}: {str(error) or type(error).__name__}") from error


def under_lease(answer: Any) -> Any:
    """What a script of a holder answered. Raises BrokerLost where it has no lease any more."""
    if answer is None:
        raise BrokerLost(_LEASE_GONE)
    return answer
