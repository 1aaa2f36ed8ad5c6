"""A verb under way beside others: what it does next, and who waits for what comes of it."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

from producer.client import Producer
from producer.traffic import POLL_SECONDS, Wait
from producer.window import Pack
from wire.names import Priority
from wire.reply import Reply

Steps = Iterator[Reply | Wait]
Begin = Callable[["SteppedProducer"], Steps]


class SteppedProducer(Producer):
    """Its verbs are not driven but given out, and leave sending to whoever listens for all of them."""

    _begun: Steps = iter(())

    def steps(self, verb: Callable[..., Any], *arguments: Any, **options: Any) -> Steps:
        """Those of `verb`, a method of Producer. Raises what the verb raises."""
        verb(self, *arguments, **options)
        return self._begun

    def asking(self, payload: Any, **options: Any) -> Steps:
        """Those of a call: who asks waits for as long as they like, and nothing is sent again meanwhile."""
        return self.steps(Producer.map, [payload], pack=1, in_flight=1, reply_timeout=math.inf, **options)

    def connecting(self, retry: bool) -> Steps:
        """Connect, as a job like any other."""
        self.connect(retry=retry)
        yield from ()

    def listen(self, seconds: float) -> None:
        """Send what is not sent yet, and land what comes."""
        self._traffic.listen(seconds)

    @property
    def trouble(self) -> Exception | None:
        """See Courier."""
        return self._courier.trouble

    @property
    def is_connected(self) -> bool:
        """See Courier."""
        return self._courier.is_connected

    def wake(self) -> None:
        """End a `listen`, from any thread."""
        self._courier.wake()

    def no_reply(self, timeout: float, priority: Priority) -> str:
        """What to say where there was no reply in time."""
        return self._no_reply(timeout, priority)

    def _driven(self, steps: Steps) -> Iterator[Reply]:
        self._begun = steps
        return iter(())

    def _done(self, steps: Generator[Wait, None, int]) -> int:
        self._begun = steps
        return 0

    def _dispatch(self, pack: Pack) -> None:
        pass


class Job:
    """One verb under way: its steps in the thread, its replies and its end in the event loop that wants them.

    `eager` jobs are advanced as far as they go, others for as many replies as were asked for.
    """

    def __init__(self, begin: Begin, *, eager: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self._begin, self._eager = begin, eager
        self._steps: Steps | None = None
        self._wait = Wait(0.0)
        self._due, self._asked, self.is_fed = 0.0, 0, False
        self.came: deque[Reply] = deque()
        self.ended: asyncio.Future[Any] = self.loop.create_future()
        self._news: asyncio.Future[None] | None = None
        self.on_turn: Callable[[], None] = lambda: None

    async def next(self) -> Reply:
        """The next reply; asyncio's loop only. Raises StopAsyncIteration, or what the verb raised."""
        while not self.came:
            if self.ended.done():
                self.ended.result()
                raise StopAsyncIteration
            self._news = self.loop.create_future()
            await self._news
        return self.came.popleft()

    def land(self, replies: list[Reply], end: "End | None") -> None:
        """What came of a turn; asyncio's loop only."""
        self.came.extend(replies)
        if end is not None and not self.ended.done():
            end.tell(self.ended)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
        self.on_turn()

    def ask(self) -> None:
        """One more reply is wanted; the thread only, like all that follows."""
        self._asked += 1

    @property
    def seconds(self) -> float:
        """How long it may be left alone, as it said last."""
        return self._wait.seconds if self._eager or self._asked > 0 else POLL_SECONDS

    def is_due(self, now: float) -> bool:
        """Whether it can go on."""
        if not (self._eager or self._asked > 0):
            return False
        place = self._wait.place
        return self.is_fed or now >= self._due or (place is not None and place.has_landed)

    def advance(self, producer: SteppedProducer, now: float) -> tuple[list[Reply], "End | None"]:
        """As far as it goes."""
        self.is_fed = False
        found: list[Reply] = []
        try:
            if self._steps is None:
                self._steps = self._begin(producer)
            while self._eager or self._asked > 0:
                step = next(self._steps)
                if isinstance(step, Wait):
                    self._wait, self._due = step, now + step.seconds
                    break
                found.append(step)
                self._asked -= 1
        except StopIteration as stop:
            return found, End(value=stop.value)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to who waits
            return found, End(error)
        return found, None

    def drop(self) -> None:
        """Nobody waits any more."""
        if isinstance(self._steps, Generator):
            self._steps.close()


class End:
    """How a job ended."""

    def __init__(self, error: Exception | None = None, value: Any = None) -> None:
        self._error, self._value = error, value

    def tell(self, ended: "asyncio.Future[Any]") -> None:
        """Whoever waits."""
        if self._error is None:
            ended.set_result(self._value)
        else:
            ended.set_exception(self._error)
            ended.exception()  # where nobody waits any more, that is no fault to log
