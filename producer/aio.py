"""`AsyncProducer`: the verbs of `Producer` for asyncio, over one thread that owns a `Producer`."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from broker.base import BrokerUnreachable
from producer.bridge import Bridge
from producer.client import Producer
from producer.job import Job
from producer.pace import NOT_YET
from wire.names import Priority
from wire.reply import Reply

Payloads = Iterable[Any] | AsyncIterable[Any]
_READ_AHEAD = 1000


class AsyncProducer:
    """Sends requests and joins their replies, for web services and notebooks.

    An async context manager. It takes what `Producer` takes, and its verbs take and raise what those of
    `Producer` do; what is wrong with their arguments is raised when they are first awaited. One thread holds
    the connection, for any number of verbs under way at once, in as many event loops as you like; calls that
    come together go in one sending, each as a message of its own. `on_wait` is called in that thread.

    Who is cancelled is forgotten: the worker may do the work, and nobody gets the reply. What is under way at
    `aclose` ends with RuntimeError, and so does every verb after it and in a forked child.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._bridge = Bridge(url, options)

    async def __aenter__(self) -> "AsyncProducer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leave; the private reply queue goes, and with it what nobody waits for any more."""
        await self._bridge.close()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs, as it does from the first verb to the end."""
        return self._bridge.is_alive

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection, as far as is known; nobody is asked."""
        return self.is_alive and self._bridge.producer.is_connected

    async def connect(self, *, retry: bool = True) -> None:
        """See Producer."""
        job = Job(lambda producer: producer.connecting(retry))
        with self._under_way(job):
            await job.ended

    async def call(
        self, payload: Any, *, timeout: float = 60.0, priority: Priority = "interactive", **options: Any
    ) -> Reply:
        """See Producer. `options` are `model` and the directives.

        Raises BrokerUnreachable where the broker was away when the time was over.
        """
        job = Job(lambda producer: producer.asking(payload, priority=priority, **options))
        with self._under_way(job):
            try:
                async with asyncio.timeout(timeout):
                    return await job.next()
            except TimeoutError:
                trouble = self._bridge.producer.trouble
                if trouble is not None:
                    raise BrokerUnreachable(str(trouble)) from trouble
                raise TimeoutError(self._bridge.producer.no_reply(timeout, priority)) from None

    async def map(self, payloads: Payloads, *, in_flight: int = 1000, **options: Any) -> AsyncIterator[Reply]:
        """See Producer. `payloads` are read in this event loop, as many ahead of what was yielded as may be
        in flight."""
        source = Source(in_flight)
        job = Job(lambda producer: producer.steps(Producer.map, source, in_flight=in_flight, **options))
        with self._under_way(job):
            async with source.read(payloads, lambda: self._bridge.feed(job)):
                with contextlib.suppress(StopAsyncIteration):
                    while True:
                        yield await job.next()
                        source.free(1)

    async def enqueue(
        self,
        payloads: Payloads,
        *,
        on_refused: Callable[[Reply], None] | None = None,
        on_sent: Callable[[int], None] | None = None,
        **options: Any,
    ) -> int:
        """See Producer. The callbacks are called in this event loop."""
        source = Source(_READ_AHEAD)
        told = {"on_refused": self._here(on_refused), "on_sent": self._here(on_sent)}
        job = Job(lambda producer: producer.steps(Producer.enqueue, source, **told, **options))
        job.on_turn = source.free_what_is_taken
        with self._under_way(job):
            async with source.read(payloads, lambda: self._bridge.feed(job)):
                return int(await job.ended)

    async def collect(self, **options: Any) -> AsyncIterator[Reply]:
        """See Producer: a reply is acknowledged when the next is asked for."""
        job = Job(lambda producer: producer.steps(Producer.collect, **options), eager=False)
        with self._under_way(job), contextlib.suppress(StopAsyncIteration):
            while True:
                self._bridge.submit(job.ask)
                yield await job.next()

    @contextlib.contextmanager
    def _under_way(self, job: Job) -> Any:
        self._bridge.start(job)
        try:
            yield
        finally:
            self._bridge.end(job)

    def _here(self, callback: Callable[[Any], None] | None) -> Callable[[Any], object] | None:
        """The same for the thread, called in the event loop that is running."""
        loop = asyncio.get_running_loop()
        return None if callback is None else lambda said: loop.call_soon_threadsafe(callback, said)


class Source:
    """Payloads between the event loop, which reads them, and the thread, which iterates over this.

    At most `most` that were read are not yet freed.
    """

    def __init__(self, most: int) -> None:
        self._most, self._read, self._freed = most, 0, 0
        self._waiting: deque[Any] = deque()
        self._taken = 0
        self._ended = False
        self._error: Exception | None = None
        self._room: asyncio.Future[None] | None = None

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> Any:
        """The thread's: the next payload, or NOT_YET. Raises what reading raised."""
        ended = self._ended  # looked at first: what was read before the end is there by then
        if self._waiting:
            self._taken += 1
            return self._waiting.popleft()
        if not ended:
            return NOT_YET
        if self._error is not None:
            raise self._error
        raise StopIteration

    @contextlib.asynccontextmanager
    async def read(self, payloads: Payloads, feed: Callable[[], None]) -> AsyncIterator[None]:
        """Meanwhile they are read, and `feed` is told when there is more."""
        reading = asyncio.get_running_loop().create_task(self._read_all(payloads, feed))
        try:
            yield
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def free(self, count: int) -> None:
        """So many more may be read."""
        self._freed += count
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def free_what_is_taken(self) -> None:
        """As many as the thread took."""
        self.free(self._taken - self._freed)

    async def _read_all(self, payloads: Payloads, feed: Callable[[], None]) -> None:
        try:
            reader = aiter(payloads) if isinstance(payloads, AsyncIterable) else _each(payloads)
            while True:
                while self._read - self._freed >= self._most:
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                self._waiting.append(await anext(reader))
                self._read += 1
                feed()
        except StopAsyncIteration:
            pass
        except BaseException as error:
            # It is raised where the verb is awaited: an input that was cut off must not pass for all of it.
            self._error = error if isinstance(error, Exception) else _cut_off(error)
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._ended = True
            with contextlib.suppress(RuntimeError):  # closed meanwhile: nobody reads it
                feed()


def _cut_off(error: BaseException) -> Exception:
    cut = RuntimeError(f"the payloads were cut off by {error!r}")
    cut.__cause__ = error
    return cut


async def _each(payloads: Iterable[Any]) -> AsyncIterator[Any]:
    for payload in payloads:
        yield payload
