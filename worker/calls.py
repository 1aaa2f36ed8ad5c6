"""The life of a model call: attempts, the waits between them, and its end. All of it on the loop's thread."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from wire.errors import Failure
from worker.model import ModelError, Target, TimedOut, TransientFailure
from worker.pool import Attempt, Batching, Pool
from worker.retry import RetryPolicy

# A target's own timeout comes first: it frees its thread. The loop's is for those that have none.
_GRACE_SECONDS = 0.5
# Why a call for many requests can fail because of one of them; a model that is away or late fails for all.
_BY_A_ROW = frozenset({"status", "transient"})


@dataclass(frozen=True, slots=True)
class Callee:
    """How one model is called."""

    target: Target
    retry: RetryPolicy
    concurrency: int
    timeout_seconds: float
    batching: Batching | None = None


class Answered(NamedTuple):
    """How a call ended. `tag` is the caller's; exactly one of `result` and `failure` is set.

    `created` is when the successful attempt began (Unix seconds), `seconds` how long it took, divided by the
    rows of its call.
    """

    tag: Any
    result: bytes | None
    failure: Failure | None
    created: float
    seconds: float


class CallObserver(Protocol):
    """What is told of every attempt."""

    def model_attempt(self, model: str, result: str, seconds: float) -> None:
        """One attempt ended: `ok`, `transient`, `permanent` or `timeout`."""

    def model_retry(self, model: str, reason: str) -> None:
        """Another attempt will follow."""


class _Call:
    __slots__ = ("alone", "attempts", "begun", "model", "payload", "tag")

    def __init__(self, model: str, payload: bytes, tag: Any, *, alone: bool) -> None:
        self.model, self.payload, self.tag, self.alone = model, payload, tag, alone
        self.attempts = 0
        self.begun = 0.0  # of the first attempt: the wait for a thread is not the model's budget


class Calls:
    """Every call under way. `wake` is called from model threads when one has ended."""

    def __init__(
        self,
        callees: Mapping[str, Callee],
        clock: Callable[[], float],
        wake: Callable[[], None],
        observer: CallObserver,
    ) -> None:
        self._callees, self._clock, self._wake, self._observer = callees, clock, wake, observer
        self._ended: deque[Attempt] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()
        self._pools = {
            name: Pool(name, callee.target, callee.concurrency, self._on_end, callee.batching)
            for name, callee in callees.items()
        }

    def start(self, model: str, payload: bytes, tag: Any, *, alone: bool = False) -> None:
        """Begin a call, which shares itself with no other if it is to be `alone`; its end comes out of
        `advance`."""
        self._attempt(_Call(model, payload, tag, alone=alone))

    def advance(self) -> list[Answered]:
        """Begin the attempts whose wait is over; return the calls that have ended since the last time."""
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            self._attempt(heapq.heappop(self._timers)[2])
        self._write_off(now)
        return [answered for attempt in self._drain() if (answered := self._end(attempt)) is not None]

    def next_due_seconds(self) -> float | None:
        """How long until a wait is over; None where nothing waits."""
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def exhausted(self) -> str | None:
        """The model that has lost half of its threads or more, where there is one."""
        for name, pool in self._pools.items():
            if pool.lost * 2 >= pool.size and pool.lost > 0:
                return name
        return None

    def close(self) -> None:
        """Let the threads end. Waits are dropped."""
        for pool in self._pools.values():
            pool.close()

    def _attempt(self, call: _Call) -> None:
        call.attempts += 1
        # The last one shares its call with nobody: a row that makes the model fail must fail alone.
        if 1 < call.attempts == self._callees[call.model].retry.attempts:
            call.alone = True
        self._pools[call.model].submit(Attempt(call, call.payload, alone=call.alone))

    def _on_end(self, attempt: Attempt) -> None:
        self._ended.append(attempt)
        self._wake()

    def _drain(self) -> Iterator[Attempt]:
        while self._ended:
            yield self._ended.popleft()

    def _write_off(self, now: float) -> None:
        for name, pool in self._pools.items():
            seconds = self._callees[name].timeout_seconds
            for attempt in pool.overdue(now, seconds + _GRACE_SECONDS):
                attempt.result, attempt.error, attempt.ended = None, TimedOut(seconds), now
                self._ended.append(attempt)

    def _end(self, attempt: Attempt) -> Answered | None:
        call: _Call = attempt.call
        call.begun = call.begun or attempt.begun
        seconds = attempt.ended - attempt.begun
        error = attempt.error
        self._observer.model_attempt(call.model, _named(error), seconds)
        if error is None:
            return Answered(call.tag, attempt.result, None, attempt.begun_at, seconds / attempt.rows)
        if isinstance(error, TransientFailure) and self._retry(call, error):
            return None
        if attempt.rows > 1 and error.reason in _BY_A_ROW:
            self._observer.model_retry(call.model, error.reason)
            call.alone = True
            self._attempt(call)
            return None
        failure = Failure(error.kind, _said(error, attempt.rows), call.attempts)
        return Answered(call.tag, None, failure, attempt.begun_at, seconds)

    def _retry(self, call: _Call, error: TransientFailure) -> bool:
        now = self._clock()
        policy = self._callees[call.model].retry
        wait = policy.wait_seconds(call.attempts, now - call.begun, error.retry_after)
        if wait is None:
            return False
        self._observer.model_retry(call.model, error.reason)
        heapq.heappush(self._timers, (now + wait, next(self._order), call))
        return True


def _said(error: ModelError, rows: int) -> str:
    """Of a call for many without the model's own words: they may be about another's payload."""
    return str(error) if rows == 1 else f"{str(error).partition(': ')[0]}, for {rows} requests"


def _named(error: ModelError | None) -> str:
    if error is None:
        return "ok"
    if isinstance(error, TimedOut):
        return "timeout"
    return "transient" if isinstance(error, TransientFailure) else "permanent"
