"""The threads that call one model.

The loop decides when a call has taken too long. Its thread cannot be stopped, so it is written off: a new one
takes its place, and what it brings later is dropped. Too many of those, and the process is better replaced.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from worker.model import ModelError, Rejection, Target


class Attempt:
    """One model call: set up by the loop, filled in by a thread, read by the loop when it is done."""

    __slots__ = ("begun", "begun_at", "call", "ended", "error", "payload", "result", "written_off")

    def __init__(self, call: Any, payload: bytes) -> None:
        self.call, self.payload = call, payload
        self.begun = self.ended = 0.0  # monotonic seconds; 0 while it has not begun
        self.begun_at = 0.0  # Unix seconds
        self.result: bytes | None = None
        self.error: ModelError | None = None
        self.written_off = False


class Pool:
    """At most `size` calls of one target at once. `done` is told of each end, on the thread that made it."""

    def __init__(self, name: str, target: Target, size: int, done: Callable[[Attempt], None]) -> None:
        self._name, self._target, self.size, self._done = name, target, size, done
        self._waiting: SimpleQueue[Attempt | None] = SimpleQueue()
        self._running: set[Attempt] = set()
        self._threads = 0
        self._lost = 0
        self._lock = threading.Lock()

    @property
    def lost(self) -> int:
        """How many threads are written off and have not come back."""
        return self._lost

    def submit(self, attempt: Attempt) -> None:
        """Call as soon as a thread is free."""
        if self._threads < self.size:
            self._grow()
        self._waiting.put(attempt)

    def overdue(self, now: float, seconds: float) -> list[Attempt]:
        """Write off the calls that began more than `seconds` ago, and return them."""
        with self._lock:
            late = [attempt for attempt in self._running if now - attempt.begun > seconds]
            for attempt in late:
                attempt.written_off = True
                self._running.discard(attempt)
                self._lost += 1
                self._threads -= 1
        for _ in late:
            self._grow()
        return late

    def close(self) -> None:
        """Let the threads end after what they are doing."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _grow(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"model {self._name}", daemon=True).start()

    def _work(self) -> None:
        while (attempt := self._waiting.get()) is not None:
            attempt.begun_at, attempt.begun = time.time(), time.monotonic()
            with self._lock:
                self._running.add(attempt)
            self._call(attempt)
            with self._lock:
                self._running.discard(attempt)
                if attempt.written_off:
                    self._lost -= 1
                    return
            self._done(attempt)

    def _call(self, attempt: Attempt) -> None:
        try:
            result, error = self._target.call(attempt.payload), None
        except ModelError as failure:
            result, error = None, failure
        except BaseException as fault:  # noqa: BLE001 - a model may raise SystemExit; the thread must live
            result, error = None, Rejection(f"model raised {type(fault).__name__}: {fault}")
        if not attempt.written_off:
            attempt.result, attempt.error, attempt.ended = result, error, time.monotonic()
