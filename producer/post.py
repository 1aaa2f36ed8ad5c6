"""Sending where nobody waits: packs are gathered, and many share a round trip."""

import time
from collections.abc import Callable, Generator

from broker.base import Message
from producer.courier import Courier
from producer.feed import Feed
from producer.traffic import Wait
from producer.window import Pack
from wire.errors import InvalidRequest
from wire.reply import Reply

_MOST_MESSAGES, _MOST_BYTES, _MOST_SECONDS = 512, 4 << 20, 0.05


class Post:
    """Sends to `queue`, confirmed, what is to be answered to `reply_to`.

    Packs go when 512 of them or 4 MiB are gathered, and at once where the last sending is 50 ms ago: packs
    that come slowly do not wait for each other. `on_refused` gets what cannot be sent, `on_sent` after each
    sending how many requests are confirmed by now.
    """

    def __init__(
        self,
        courier: Courier,
        queue: str,
        reply_to: str | None,
        on_refused: Callable[[Reply], None] | None,
        on_sent: Callable[[int], None] | None,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._courier, self._queue, self._reply_to, self._clock = courier, queue, reply_to, clock
        self._on_refused, self._on_sent = on_refused or _refuse, on_sent or _ignore
        self._messages: list[Message] = []
        self._requests = self._bytes = self._confirmed = 0
        self._due = clock()

    def send(self, feed: Feed) -> Generator[Wait, None, int]:
        """Send all that `feed` reads; returns how many requests.

        Where reading raises, where a payload is refused or is not there yet: what was read before is sent.
        """
        while not feed.ended:
            try:
                pack, refused = feed.fill(feed.pack)
            except Exception:
                self._add(feed.begun)
                self._flush()
                raise
            self._add(pack)
            if refused is not None:
                self._flush()
                self._on_refused(refused)
            elif feed.is_waiting:
                self._flush()
                yield Wait(feed.patience)
        self._flush()
        return self._confirmed

    def _add(self, pack: Pack) -> None:
        if pack.lines:
            self._messages.append(pack.message(self._reply_to, time.time()))
            self._requests += len(pack.lines)
            self._bytes += pack.size
        is_full = len(self._messages) == _MOST_MESSAGES or self._bytes >= _MOST_BYTES
        if is_full or self._clock() >= self._due:
            self._flush()

    def _flush(self) -> None:
        if self._messages:
            self._courier.send(self._queue, self._messages)
            self._confirmed += self._requests
            self._messages, self._requests, self._bytes = [], 0, 0
            self._on_sent(self._confirmed)
        self._due = self._clock() + _MOST_SECONDS


def _refuse(refused: Reply) -> None:
    raise InvalidRequest(str((refused.error or {}).get("message")))


def _ignore(_confirmed: int) -> None:
    pass
