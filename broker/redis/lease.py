"""The sign of life that keeps what a process holds its own: renewed by a thread while the process works."""

import threading
import time

from redis.exceptions import RedisError

from broker.redis.address import Address
from broker.redis.link import Link

_GONE, _IN_TIME = 0, 1
_TIMEOUT_SECONDS = 5.0


class Lease:
    """Renews the lease of one holder at a time, six times in its length, on a connection of its own.

    A thread, because the owner may be at work elsewhere: a pipeline between two replies, a parse of 16 MB.
    With `turning`, only while the owner has been seen within half a lease: a loop that hangs must lose what
    it holds to others, and finds that out when it turns again. Rejected: ending the process then, which would
    also kill model calls that go on well.
    """

    def __init__(self, address: Address, key: str, seconds: float, *, turning: bool) -> None:
        self._key, self._seconds, self._turning = key, seconds, turning
        self._link = Link(address, min(_TIMEOUT_SECONDS, seconds / 2))
        self._holder: str | None = None
        self._seen = self._since = time.monotonic()
        self._inside = False
        self._lost_holder: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def begin(self, holder: str) -> None:
        """Renew this holder's lease from now on, and no other."""
        self._seen = self._since = time.monotonic()
        self._holder = holder
        if not self._thread.is_alive() and not self._ended.is_set():
            self._thread.start()

    def suspend(self) -> None:
        """Renew nothing until the next `begin`."""
        self._holder = None

    @property
    def is_lost(self) -> bool:
        """Whether somebody else has taken over what was held."""
        return self._lost_holder is not None and self._lost_holder == self._holder

    @property
    def unbroken_seconds(self) -> float:
        """How long it has been renewed in time.

        After an outage of the server everybody's lease has run out, and nobody is dead: only who has been
        alive for a whole lease may judge.
        """
        return time.monotonic() - self._since

    def enter(self) -> None:
        """The owner has been seen, and is from now on where the server's own time limits bound it."""
        self._inside = True

    def leave(self) -> None:
        """It is back."""
        self._seen, self._inside = time.monotonic(), False

    def end(self) -> None:
        """Stop the thread."""
        self._holder = None
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(1)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds / 6):
            holder = self._holder
            if holder is not None and self._is_turning():
                self._renew(holder)
        self._link.close()

    def _is_turning(self) -> bool:
        idle = time.monotonic() - self._seen
        return not self._turning or self._inside or idle < self._seconds / 2

    def _renew(self, holder: str) -> None:
        try:
            answer = self._link.run("renew", [self._key], [holder, round(self._seconds * 1000)])
        except (RedisError, OSError):
            self._link.close()
            return
        if holder != self._holder:
            return
        if answer == _GONE:
            self._lost_holder = holder
        elif answer != _IN_TIME:
            self._since = time.monotonic()
