"""`Producer`: push requests, get replies."""

import contextlib
import itertools
import math
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Literal

from broker.base import Broker, BrokerOptions
from broker.urls import open_broker
from producer.courier import Courier
from producer.feed import Feed
from producer.lines import common_fields, waiting_fields
from producer.pace import Pace
from producer.post import Post
from producer.traffic import Traffic, Wait
from producer.window import Pack, Window
from wire.names import Names, Priority
from wire.reply import Reply

_CHOICE = """Producer needs the broker's URL: Producer("embedded:") on one machine, for trying out,
or Producer("redis://host:6379/0"), Producer("pyamqp://user:password@host:5672//")"""


class Producer:
    """Sends requests to the workers of one prefix and joins their replies.

    A context manager; belongs to one thread. `url` is `embedded:`, `redis://…`, `pyamqp://…` or any kombu
    transport's; it is never read from the environment. Raises ValueError without one, BrokerError for a
    wrong one, and BrokerUnreachable from any verb when there is no broker for `reconnect_seconds`. `on_wait`
    is told of each try that failed, `on_idle` twice a second while a `map` or a `collect` waits.

    Several maps and calls may be under way at once: each gets its own replies. `AsyncProducer` has the same
    verbs for asyncio.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = "recollect",
        broker: Broker | None = None,
        lease_seconds: float = 30.0,
        durability: Literal["normal", "strict"] = "normal",
        reconnect_seconds: float = 300.0,
        on_wait: Callable[[Exception], None] | None = None,
        on_idle: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if url is None and broker is None:
            raise ValueError(_CHOICE)
        self._names = Names(prefix)
        options = BrokerOptions(lease_seconds, durability)
        opened = broker if broker is not None else open_broker(url or "", self._names, options)
        self._courier = Courier(
            opened, reconnect_seconds=reconnect_seconds, clock=clock, sleep=sleep, on_wait=on_wait
        )
        self._clock, self._on_idle = clock, on_idle
        self._traffic = Traffic(self._courier, self._names, clock)
        self._own, self._numbers = uuid.uuid4().hex, itertools.count()

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
        priority: Priority = "bulk",
        rate: float | None = None,
        queue_max: int | None = None,
        **directives: Any,
    ) -> Iterator[Reply]:
        """A reply for every payload, as they come; with `ordered`, in the order of the input.

        Lazy: at most `in_flight` payloads are read ahead of what was yielded. `pack` of them travel in a
        message. `Reply.index` counts payloads from 0. A payload that cannot be sent is answered in its place
        with an error of kind `invalid_request`. With `whole_requests`, each item is a request of the
        contract. `directives` are those of the contract: `bypass`, `refresh`, `no_store`, `only_if_cached`;
        `ttl`, `max_age` and `stale_if_error` in seconds; `deadline` in Unix seconds. `traceparent` may be
        given beside them, here and to `call` and `enqueue`; ValueError where it is not of the W3C form.
        What is unanswered is sent again after a reconnect, and `reply_timeout` seconds after it was sent and
        the last reply came, as far as `queue_max` allows. What has the `priority` `interactive` is served
        before what is `bulk`. At most `rate` payloads are sent a second, and none while `queue_max` messages
        wait for the workers.
        """
        if in_flight < 1 or pack < 1:
            raise ValueError(f"in_flight and pack must be at least 1; got {in_flight} and {pack}")
        fields, pack = waiting_fields(model, directives), min(pack, in_flight)
        payloads = self._paced(payloads, rate, queue_max, pack)
        feed = Feed(payloads, fields, self._stem(), pack=pack, whole=whole_requests, waits=True)
        window = Window(self._names.requests_of(priority), ordered=ordered)
        return self._driven(self._map(feed, window, in_flight, reply_timeout))

    def call(
        self,
        payload: Any,
        *,
        model: str | None = None,
        timeout: float = 60.0,
        priority: Priority = "interactive",
        **directives: Any,
    ) -> Reply:
        """The reply to one payload; `priority` as for `map`.

        Raises TimeoutError after `timeout` seconds, or BrokerUnreachable where there was no broker so long.
        """
        end, fields = self._clock() + timeout, waiting_fields(model, directives)
        feed = Feed([payload], fields, self._stem(), pack=1, whole=False, waits=True)
        steps = self._map(feed, Window(self._names.requests_of(priority)), 1, math.inf)
        with self._courier.until(end), contextlib.closing(steps):
            for step in steps:
                if isinstance(step, Reply):
                    return step
                left = end - self._clock()
                if left <= 0:
                    break
                self._traffic.listen(min(step.seconds, left))
        raise TimeoutError(self._no_reply(timeout, priority))

    def enqueue(
        self,
        payloads: Iterable[Any],
        *,
        run: str | None = None,
        model: str | None = None,
        reply: bool = True,
        pack: int = 32,
        whole_requests: bool = False,
        on_refused: Callable[[Reply], None] | None = None,
        on_sent: Callable[[int], None] | None = None,
        priority: Priority = "bulk",
        rate: float | None = None,
        queue_max: int | None = None,
        **directives: Any,
    ) -> int:
        """Send without waiting; how many requests were sent. `collect` gets the replies of `run`, or all.
        `priority`, `rate` and `queue_max` are as for `map`.

        Without `reply` nobody is answered. Raises InvalidRequest for the first payload that cannot be sent;
        with `on_refused`, it gets the error reply instead and the rest goes on. What was read before is sent
        by then, also where `payloads` raises; `on_sent` gets the number of requests confirmed so far.

        Messages are sent many at a time. One that is complete 50 ms or more after the last sending goes
        before the next payload is read; sooner, it may wait for that one, however long it takes to come.
        """
        queue = self._names.requests_of(priority)
        reply_to = self._names.replies_of(run)
        if reply:
            self._courier.declare(reply_to)
        else:
            directives["reply"] = False
        fields, payloads = common_fields(model, directives), self._paced(payloads, rate, queue_max, pack)
        feed = Feed(payloads, fields, self._stem(), pack=pack, whole=whole_requests, waits=False)
        answer_to = reply_to if reply else None
        post = Post(self._courier, queue, answer_to, on_refused, on_sent, clock=self._clock)
        return self._done(post.send(feed))

    def collect(self, *, run: str | None = None, timeout: float = 10.0) -> Iterator[Reply]:
        """The replies of what was enqueued for `run`, until none came for `timeout` seconds.

        A message of replies is acknowledged when the next reply is asked for after its last; what was not
        taken goes back. One that is no reply is passed over.
        """
        return self._driven(self._traffic.collected(self._names.replies_of(run), timeout))

    def depth(self, *, run: str | None = None) -> int:
        """How many messages wait for `collect`: takes none of them.

        A message holds the replies to those that went in one (`pack` of `enqueue`), or a part of them.
        """
        queue = self._names.replies_of(run)
        return self._courier.depth((queue,))[queue]

    def _driven(self, steps: Iterator[Reply | Wait]) -> Iterator[Reply]:
        """The replies among `steps`; where they say Wait, it is waited."""
        for step in steps:
            if isinstance(step, Reply):
                yield step
                continue
            self._traffic.listen(step.seconds)
            if step.place is not None and not step.place.has_landed:
                self._on_idle()

    def _done(self, steps: Generator[Wait, None, int]) -> int:
        """What `steps` return in the end; where they say Wait, it is waited."""
        while True:
            try:
                self._traffic.listen(next(steps).seconds)
                self._on_idle()
            except StopIteration as end:
                return int(end.value)

    def _map(
        self, feed: Feed, window: Window, in_flight: int, reply_timeout: float
    ) -> Generator[Reply | Wait, None, None]:
        heard = self._clock()
        with self._traffic.expecting(feed.stem, window):
            while True:
                for pack in feed.packs(window, in_flight):
                    self._dispatch(pack)
                    window.sent(pack)
                for reply in window.take():
                    yield reply
                    heard = self._clock()
                if feed.ended and not window.requests:
                    return
                if window.requests or feed.is_waiting:
                    yield Wait(feed.patience, window)
                if heard < (since := self._clock() - reply_timeout):
                    self._traffic.dispatch(feed.again(window.sent_before(since)))

    def _dispatch(self, pack: Pack) -> None:
        self._traffic.dispatch([pack])

    def _paced(self, payloads: Iterable[Any], rate: float | None, most: int | None, pack: int) -> Any:
        if rate is None and most is None:
            return payloads
        return Pace(payloads, rate, most, self._traffic.waiting, self._clock, pack=pack)

    def _stem(self) -> str:
        # Numbers behind what is drawn once: drawing each id was a sixth of what sending takes, and a thread
        # beside others loses its turn at each system call.
        return f"{self._own}x{next(self._numbers):x}"

    def _no_reply(self, timeout: float, priority: Priority) -> str:
        return (
            f"no reply within {timeout:g} s; is a worker running? (python -m worker run) "
            f"Does it read {self._names.requests_of(priority)} of the same broker?"
        )
