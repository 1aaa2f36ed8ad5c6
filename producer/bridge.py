"""The I/O thread behind `AsyncProducer`: it owns a `Producer`, and takes the verbs of many in turn.

A verb is a `Job`: the same generator that `Producer` itself drives, advanced where something has landed for
it. What is to be sent is left to the next turn's listening, so that calls which come together go in one
sending; what came in a turn goes to each event loop in one call.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from broker.base import BrokerError
from producer.job import End, Job, SteppedProducer
from producer.traffic import POLL_SECONDS
from wire.reply import Reply

_PAUSE_SECONDS = 1.0
_CLOSED = "this AsyncProducer is closed; make a new one"
_ENDED = "this AsyncProducer was closed while this was under way"
_FORKED = "this AsyncProducer was made before a fork; make one in each process"


class Closed(BaseException):
    """Ends a wait for the broker when the bridge is to end: no verb takes it for an error of its own."""


class Bridge:
    """The thread, its producer and its jobs. `submit` and `wake` may be called from any thread."""

    def __init__(self, url: str | None, options: dict[str, Any]) -> None:
        self._closing = threading.Event()
        self._producer = SteppedProducer(url, **{"sleep": self._sleep, **options})
        self._orders: deque[Callable[[], None]] = deque()
        self._ordered = threading.Event()
        self._jobs: dict[Job, None] = {}
        self._landed: dict[asyncio.AbstractEventLoop, list[tuple[Job, list[Reply], End | None]]] = (
            defaultdict(list)
        )
        self._process, self._lock = os.getpid(), threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def producer(self) -> SteppedProducer:
        """The thread's own: others may look, and wake it."""
        return self._producer

    @property
    def is_forked(self) -> bool:
        """Whether this is the child of the process that made it: the thread is not here."""
        return os.getpid() != self._process

    @property
    def is_alive(self) -> bool:
        """Whether the thread turns."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, order: Callable[[], None]) -> None:
        """Have the thread do something. Raises RuntimeError where there is no thread any more."""
        if self.is_forked:
            raise RuntimeError(_FORKED)
        with self._lock:  # what is ordered before the end is seen by the thread's last look
            if self._closing.is_set():
                raise RuntimeError(_CLOSED)
            self._orders.append(order)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recollect-io", daemon=True)
                self._thread.start()
        if not self._ordered.is_set():
            self._ordered.set()
            self._producer.wake()

    def start(self, job: Job) -> None:
        """Begin a job."""
        self.submit(lambda: self._jobs.setdefault(job))

    def end(self, job: Job) -> None:
        """Nobody waits for it any more."""
        if not job.ended.done():
            with contextlib.suppress(RuntimeError):  # closed, or in a child: there is nobody to tell
                self.submit(lambda: self._drop(job))

    def feed(self, job: Job) -> None:
        """There is more for it to read."""
        if not (job.is_fed or self._closing.is_set()):
            job.is_fed = True
            self.submit(lambda: None)

    async def close(self) -> None:
        """End all that is under way and leave the broker; nothing in a forked child, where none is ours."""
        if self.is_forked:
            return
        with self._lock:
            is_first = not self._closing.is_set()
            self._closing.set()
        if self._thread is not None:
            self._ordered.set()
            self._producer.wake()
            await asyncio.to_thread(self._thread.join)
        elif is_first:
            self._producer.close()

    def _sleep(self, seconds: float) -> None:
        if self._closing.wait(seconds):
            raise Closed

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._turn()
            except Closed:
                break
            except Exception as error:  # noqa: BLE001 - all that is under way depends on the connection
                self._fail(error)
        self._take_orders()
        self._fail(RuntimeError(_ENDED))
        self._producer.close()

    def _turn(self) -> None:
        self._take_orders()
        now = time.monotonic()
        for job in [job for job in self._jobs if job.is_due(now)]:
            self._keep(job, *job.advance(self._producer, now))
        self._deliver()
        self._producer.listen(min([POLL_SECONDS, *(job.seconds for job in self._jobs)]))

    def _take_orders(self) -> None:
        self._ordered.clear()
        while self._orders:
            self._orders.popleft()()

    def _keep(self, job: Job, replies: list[Reply], end: End | None) -> None:
        if end is not None:
            del self._jobs[job]
        self._landed[job.loop].append((job, replies, end))

    def _deliver(self) -> None:
        landed, self._landed = self._landed, defaultdict(list)
        for loop, news in landed.items():
            try:
                loop.call_soon_threadsafe(_land, news)
            except RuntimeError:  # it is closed: whoever waited in it is gone
                for job, _, _ in news:
                    self._drop(job)

    def _drop(self, job: Job) -> None:
        if job in self._jobs:
            del self._jobs[job]
            job.drop()

    def _fail(self, error: Exception) -> None:
        """All that is under way."""
        idle = not self._jobs
        for job in list(self._jobs):
            job.drop()
            self._keep(job, [], End(_copied(error)))
        self._deliver()
        if idle and not self._closing.is_set():
            self._ordered.wait(_PAUSE_SECONDS)


def _land(news: list[tuple[Job, list[Reply], End | None]]) -> None:
    for job, replies, end in news:
        job.land(replies, end)


def _copied(error: Exception) -> Exception:
    """One for each that waits: raised by many, one exception would gather all their tracebacks."""
    if isinstance(error, BrokerError | RuntimeError):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    return error
