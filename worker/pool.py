"""The threads that call one model.

The loop decides when a call has taken too long. Its thread cannot be stopped, so it is written off: a new one
takes its place, and what it brings later is dropped. Too many of those, and the process is better replaced.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from worker.attempt import Attempt, Line
from worker.model import DeadlinePassed, ModelError, Rejection, Target, TransientFailure

_MOST_BYTES = 16 << 20  # of payloads in one call, or nearly


class Batching(NamedTuple):
    """How many payloads go into one call at most, and how long the first waits for others."""

    size: int
    wait_seconds: float


class _Load:
    """What a thread has taken; `begun` is when its present call began."""

    __slots__ = ("begun", "pending", "written_off")

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.pending = set(attempts)
        self.begun = time.monotonic()
        self.written_off = False


class Pool:
    """At most `size` calls of one target at once. `done` is told of each end, on the thread that made it.

    With `batching`, payloads that wait share a call. One that is rejected as a whole is split until it is
    known which rows are to blame. A Retry-After holds all threads: seen here, or each would make one more
    call before the loop hears of it.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        size: int,
        done: Callable[[Attempt], None],
        batching: Batching | None = None,
    ) -> None:
        self._name, self._target, self.size, self._done = name, target, size, done
        self._batching = batching
        self._waiting = Line()
        self._ready, self._gathering = threading.Condition(), threading.Lock()
        self._running: set[_Load] = set()
        self._held_until = 0.0
        self._threads = 0
        self._lost = 0
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """How many threads are written off and have not come back."""
        return self._lost

    @property
    def running(self) -> int:
        """How many calls are being made, those that were written off apart."""
        return len(self._running)

    def submit(self, attempt: Attempt) -> None:
        """Call as soon as a thread is free."""
        if self._threads < self.size:
            self._grow()
        self._put(attempt)

    def withdraw(self) -> list[Attempt]:
        """Take back what has not begun."""
        with self._ready:
            return self._waiting.withdraw()

    def overdue(self, now: float, seconds: float) -> list[Attempt]:
        """Write off the calls that began more than `seconds` ago, and return what was in them."""
        with self._lock:
            late = [load for load in self._running if now - load.begun > seconds]
            for load in late:
                load.written_off = True
                self._running.discard(load)
                self._lost += 1
                self._threads -= 1
        for _ in late:
            self._grow()
        return [attempt for load in late for attempt in load.pending]

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._put(None)

    def _put(self, attempt: Attempt | None) -> None:
        with self._ready:
            self._waiting.put(attempt)
            self._ready.notify()

    def _grow(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"model {self._name}", daemon=True).start()

    def _work(self) -> None:
        while attempts := self._take():
            load = _Load(attempts)
            with self._lock:
                self._running.add(load)
            self._call(load, attempts)
            with self._lock:
                self._running.discard(load)
                if load.written_off:
                    self._lost -= 1
                    return

    def _take(self) -> list[Attempt]:
        """What the next call carries; nothing at the end. One thread gathers at a time, or many idle ones
        would each take one."""
        with self._gathering, self._ready:
            self._await_work()
            first = self._waiting.take()
            if first is None:
                return []
            taken = [first]
            if self._batching is None or first.alone:
                return taken
            end = time.monotonic() + self._batching.wait_seconds
            size = len(first.payload)
            while len(taken) < self._batching.size and size < _MOST_BYTES and self._has_another(end):
                following = self._waiting.first
                if following is None or following.alone:
                    break
                taken.append(following)
                size += len(following.payload)
                self._waiting.take()
            return taken

    def _await_work(self) -> None:
        """Until something waits, and the model wants to be asked."""
        while True:
            left = self._held_until - time.monotonic()
            if self._waiting and (left <= 0 or self._waiting.first is None):
                return
            self._ready.wait(left if self._waiting else None)

    def _has_another(self, end: float) -> bool:
        while not self._waiting:
            if not self._ready.wait(max(0.0, end - time.monotonic())):
                return bool(self._waiting)
        return True

    def _call(self, load: _Load, attempts: Sequence[Attempt]) -> None:
        with self._lock:
            if load.written_off:
                return
            begun_at, load.begun = time.time(), time.monotonic()
        late = [attempt for attempt in attempts if attempt.ends_at <= load.begun]
        self._settle(load, late, [DeadlinePassed()] * len(late))
        wanted = [attempt for attempt in attempts if not attempt.ends_at <= load.begun]
        if wanted:
            self._make(load, wanted, begun_at)

    def _make(self, load: _Load, attempts: Sequence[Attempt], begun_at: float) -> None:
        for n, attempt in enumerate(attempts):
            attempt.begun_at, attempt.begun, attempt.rows = begun_at, load.begun, len(attempts)
            attempt.leads = n == 0
        answers = self._answers([attempt.payload for attempt in attempts], _common_trace(attempts))
        if isinstance(answers, TransientFailure):
            self._held_until = max(self._held_until, time.monotonic() + answers.hold_seconds)
        if isinstance(answers, ModelError):
            if len(attempts) > 1 and answers.splits and not isinstance(answers, TransientFailure):
                middle = len(attempts) // 2
                self._call(load, attempts[:middle])
                self._call(load, attempts[middle:])
                return
            for attempt in attempts:
                attempt.is_shared = len(attempts) > 1
            answers = [answers] * len(attempts)
        self._settle(load, attempts, answers)

    def _answers(
        self, payloads: Sequence[bytes], traceparent: str | None
    ) -> Sequence[bytes | ModelError] | ModelError:
        try:
            if self._batching is None:
                return [self._target.call(payloads[0], traceparent)]
            return self._target.call_batch(payloads, traceparent)
        except ModelError as failure:
            return failure
        except BaseException as fault:  # noqa: BLE001 - a model may raise SystemExit; the thread must live
            return Rejection(f"model raised {type(fault).__name__}: {fault}")

    def _settle(
        self, load: _Load, attempts: Sequence[Attempt], answers: Sequence[bytes | ModelError]
    ) -> None:
        with self._lock:
            if load.written_off:
                return
            for attempt, answer in zip(attempts, answers, strict=True):
                attempt.ended = time.monotonic()
                attempt.result = answer if isinstance(answer, bytes) else None
                attempt.error = answer if isinstance(answer, ModelError) else None
                load.pending.remove(attempt)
        for attempt in attempts:
            self._done(attempt)


def _common_trace(attempts: Sequence[Attempt]) -> str | None:
    """That of all who share a call. Where they differ there is none: a span has one parent, and whoever reads
    another's trace must not find this call in it."""
    first = attempts[0].traceparent
    return first if all(attempt.traceparent == first for attempt in attempts) else None
