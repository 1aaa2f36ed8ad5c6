"""What a confirmation means: in the server's memory, or on its disk."""

from typing import Literal

from redis.exceptions import RedisError, ResponseError

from broker.base import BrokerUnreachable
from broker.redis.link import Link

_HINT = "hint: CONFIG SET appendonly yes and appendfsync always, or Redis 7.2 / Valkey with appendonly yes"


class Durability:
    """`normal` trusts the server's own persistence; `strict` confirms only what is on disk.

    Strict costs nothing where the server syncs every write (`appendfsync always`); elsewhere WAITAOF is asked
    after each step. The loss of the disk, and a failover to a replica that lags, are beyond both.
    """

    def __init__(self, level: Literal["normal", "strict"], timeout: float) -> None:
        self._level, self._timeout = level, timeout
        self._asks = False

    @property
    def asks(self) -> bool:
        """Whether each step is followed by a question."""
        return self._asks

    def check(self, link: Link) -> None:
        """See whether the server can do it. Raises BrokerUnreachable where it cannot."""
        if self._level == "normal":
            return
        self._asks = not _syncs_always(link)
        if self._asks:
            try:
                link.ask("WAITAOF", 1, 0, self._milliseconds())
            except ResponseError as error:
                raise BrokerUnreachable(
                    f"durability is strict, and this server cannot say what is on disk ({error}); {_HINT}"
                ) from error

    def confirm(self, link: Link) -> None:
        """Return when all that was written on this link is as safe as was asked for. Raises RedisError."""
        if self._asks and link.ask("WAITAOF", 1, 0, self._milliseconds())[0] < 1:
            raise RedisError("the server did not write to its disk in time")

    def _milliseconds(self) -> int:
        return round(self._timeout * 500)


def _syncs_always(link: Link) -> bool:
    try:
        found = link.ask("CONFIG", "GET", "append*")
    except ResponseError:
        return False  # managed servers forbid it: ask after each step, then
    pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return pairs.get(b"appendonly") == b"yes" and pairs.get(b"appendfsync") == b"always"
