"""`Producer`: push requests, get replies."""

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from broker.base import Broker
from broker.urls import open_broker
from producer.courier import Courier
from producer.lines import common_fields, in_order, refusal, replies_in, request_line
from producer.window import PACK_MAX_BYTES, Pack, Window
from wire.errors import InvalidRequest
from wire.names import Names
from wire.reply import BadReply, Reply

_POLL_SECONDS = 0.5
_CHOICE = """Producer needs the broker's URL. Choose one:
    Producer("embedded:")                  one machine, for trying out
    Producer("redis://host:6379/0")        or pyamqp://user:password@host:5672//"""


@dataclass(slots=True)
class Feed:
    """The input of a map and how it is sent."""

    items: Iterator[tuple[int, Any]]
    fields: dict[str, Any]
    in_flight: int
    pack: int
    whole: bool
    ordered: bool

    def has_room(self, window: Window) -> bool:
        """Whether one more pack may go. In order, what waits behind the oldest counts too."""
        ahead = window.reach if self.ordered else window.requests
        return ahead + self.pack <= self.in_flight or not window.requests


class Producer:
    """Sends requests to the workers of one prefix and joins their replies.

    A context manager; belongs to one thread. `url` is `embedded:`, `redis://…`, `pyamqp://…` or any kombu
    transport's; it is never read from the environment. Raises ValueError without one, BrokerError for a
    wrong one, and BrokerUnreachable from any verb when there is no broker for `reconnect_seconds`. `on_wait`
    is told of each try that failed, `on_idle` twice a second while a `map` waits.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "recollect",
        broker: Broker | None = None,
        reconnect_seconds: float = 300.0,
        on_wait: Callable[[Exception], None] | None = None,
        on_idle: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if url is None and broker is None:
            raise ValueError(_CHOICE)
        self._names = Names(prefix)
        opened = broker if broker is not None else open_broker(url or "", self._names)
        self._courier = Courier(opened, reconnect_seconds=reconnect_seconds, clock=clock, on_wait=on_wait)
        self._clock, self._on_idle = clock, on_idle
        self._inbox: str | None = None

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave; the private reply queue goes, and with it what nobody waits for any more."""
        self._courier.close()

    def connect(self, *, retry: bool = True) -> None:
        """Connect now rather than with the first verb. Raises BrokerUnreachable, at once without `retry`."""
        self._courier.connect(retry=retry)

    def map(
        self,
        payloads: Iterable[Any],
        *,
        model: str | None = None,
        in_flight: int = 1000,
        pack: int = 32,
        ordered: bool = False,
        whole_requests: bool = False,
        reply_timeout: float = 300.0,
        **directives: Any,
    ) -> Iterator[Reply]:
        """A reply for every payload, as they come; with `ordered`, in the order of the input.

        Lazy: at most `in_flight` requests are ahead of what was yielded. `pack` of them travel in a message.
        `Reply.index` counts payloads from 0. A payload that cannot be sent is answered in its place with an
        error of kind `invalid_request`. With `whole_requests`, each item is a request of the contract.
        `directives` are those of the contract (`bypass`, `refresh`, `no_store`, `ttl` in seconds). What is
        unanswered is sent again after a reconnect, and when nothing came for `reply_timeout` seconds.
        """
        if in_flight < 1 or pack < 1:
            raise ValueError(f"in_flight and pack must be at least 1; got {in_flight} and {pack}")
        fields = common_fields(model, directives)
        feed = Feed(enumerate(payloads), fields, in_flight, min(pack, in_flight), whole_requests, ordered)
        replies = self._map(feed, reply_timeout)
        return in_order(replies) if ordered else replies

    def call(
        self, payload: Any, *, model: str | None = None, timeout: float = 60.0, **directives: Any
    ) -> Reply:
        """The reply to one payload. Raises TimeoutError after `timeout` seconds."""
        end = self._clock() + timeout
        window, ready = Window(), deque[Reply]()
        feed = Feed(iter([(0, payload)]), common_fields(model, directives), 1, 1, whole=False, ordered=False)
        self._courier.resend = lambda: self._send_again(window)
        self._send(window, ready, feed)
        while not ready:
            if self._clock() >= end:
                raise TimeoutError(
                    f"no reply within {timeout:g} s; is a worker running? (python -m worker run) "
                    f"Does it read {self._names.requests} of the same broker?"
                )
            ready.extend(self._replies(window, min(_POLL_SECONDS, max(0.0, end - self._clock()))))
        return ready.popleft()

    def enqueue(
        self,
        payloads: Iterable[Any],
        *,
        run: str | None = None,
        model: str | None = None,
        pack: int = 32,
        whole_requests: bool = False,
        **directives: Any,
    ) -> int:
        """Send without waiting; how many requests were sent. `collect` gets the replies of `run`, or all.

        Raises InvalidRequest for the first payload that cannot be sent; those before it are sent.
        """
        reply_to = self._names.replies if run is None else self._names.replies_for(run)
        self._courier.declare(reply_to)
        fields, count, current = common_fields(model, directives), 0, Pack()
        for payload in payloads:
            current.add(request_line(payload, fields, whole_requests), count)
            count += 1
            if len(current.lines) >= pack or current.size >= PACK_MAX_BYTES:
                self._courier.send(self._names.requests, [current.message(reply_to, time.time())])
                current = Pack()
        if current.lines:
            self._courier.send(self._names.requests, [current.message(reply_to, time.time())])
        return count

    def collect(self, *, run: str | None = None, timeout: float = 10.0) -> Iterator[Reply]:
        """The replies of what was enqueued for `run`, until none came for `timeout` seconds.

        A message of replies is acknowledged after the last of them was taken. One that is no reply is
        passed over.
        """
        queue = self._names.replies if run is None else self._names.replies_for(run)
        self._courier.declare(queue)
        end = self._clock() + timeout
        while self._clock() < end:
            for message in self._courier.receive(queue, 16, min(_POLL_SECONDS, timeout)):
                yield from replies_in(message)
                self._courier.settle([message])
                end = self._clock() + timeout

    def _map(self, feed: "Feed", reply_timeout: float) -> Iterator[Reply]:
        window, ready = Window(), deque[Reply]()
        more, heard = True, self._clock()
        self._courier.resend = lambda: self._send_again(window)
        try:
            while more or window.requests or ready:
                more = more and self._send(window, ready, feed)
                while ready:
                    yield ready.popleft()
                    heard = self._clock()
                if window.requests:
                    ready.extend(self._replies(window, _POLL_SECONDS))
                if not ready:
                    self._on_idle()
                if self._clock() - heard > reply_timeout:
                    self._send_again(window)
                    heard = self._clock()
        finally:
            self._courier.resend = lambda: None  # an abandoned map has nothing more to ask

    def _send(self, window: Window, ready: deque[Reply], feed: "Feed") -> bool:
        """Fill the window; False when the input is at its end."""
        while feed.has_room(window) and len(ready) < feed.in_flight:
            pack, more = self._fill(feed, ready)
            self._dispatch(window, pack)
            if not more:
                return False
        return True

    def _fill(self, feed: "Feed", ready: deque[Reply]) -> tuple[Pack, bool]:
        pack = Pack()
        while len(pack.lines) < feed.pack and pack.size < PACK_MAX_BYTES and len(ready) < feed.in_flight:
            index, payload = next(feed.items, (-1, None))
            if index < 0:
                return pack, False
            try:
                pack.add(request_line(payload, feed.fields, feed.whole), index)
            except InvalidRequest as error:
                ready.append(refusal(error, index))
        return pack, True

    def _dispatch(self, window: Window, pack: Pack) -> None:
        if pack.lines:
            message = pack.message(self._own_inbox(), time.time())
            self._courier.send(self._names.requests, [message])
            window.sent(pack)

    def _send_again(self, window: Window) -> None:
        inbox = self._own_inbox()
        messages = [pack.message(inbox, time.time()) for pack in window.unanswered()]
        if messages:
            self._courier.send(self._names.requests, messages)

    def _own_inbox(self) -> str:
        if self._inbox is None:
            self._inbox = self._names.replies_for(uuid.uuid4().hex)
            self._courier.own(self._inbox)
        return self._inbox

    def _replies(self, window: Window, timeout: float) -> list[Reply]:
        messages = self._courier.receive(self._own_inbox(), 64, timeout)
        found: list[Reply] = []
        for message in messages:
            try:
                found += window.answered(message)
            except BadReply:
                continue  # not from a worker of this contract; the request is still unanswered
        if messages:
            self._courier.settle(messages)
        return found
