"""The life of a model call: attempts, the waits between them, and its end. All of it on the loop's thread."""

import heapq
import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from wire.errors import ErrorKind, Failure
from worker.attempt import Attempt
from worker.gate import Gate
from worker.model import DeadlinePassed, Target, TimedOut, TransientFailure, named, said
from worker.pool import Batching, Pool
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
    gate: Gate
    batching: Batching | None = None

    @property
    def most_rows(self) -> int:
        """How many requests can be in its calls at once."""
        return self.concurrency * (1 if self.batching is None else self.batching.size)


class Answered(NamedTuple):
    """How a call ended. `tag` is the caller's; exactly one of `result` and `failure` is set.

    `created` is when the successful attempt began (Unix seconds), `seconds` how long it took, divided by the
    rows of its call. One that is `deferred` has not used up its attempts: the model is left alone for now,
    and has been down for `seconds`.
    """

    tag: Any
    result: bytes | None
    failure: Failure | None
    created: float
    seconds: float
    is_deferred: bool = False


class CallObserver(Protocol):
    """What is told of every attempt."""

    def model_attempt(self, model: str, result: str, seconds: float) -> None:
        """One attempt ended: `ok`, `transient`, `permanent` or `timeout`."""

    def model_retry(self, model: str, reason: str) -> None:
        """Another attempt will follow."""


@dataclass(slots=True, eq=False)
class _Call:
    model: str
    payload: bytes
    tag: Any
    alone: bool
    ends_at: float
    attempts: int  # that have been made
    traceparent: str | None
    is_interactive: bool
    begun: float = 0.0  # of the first attempt: the wait for a thread is not the model's budget


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
        self._deferred: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._order = itertools.count()
        self._under_way, self._interactive = Counter[str](), Counter[str]()
        self._pools = {
            name: Pool(name, callee.target, callee.concurrency, self._on_end, callee.batching)
            for name, callee in callees.items()
        }

    def start(
        self,
        model: str,
        payload: bytes,
        tag: Any,
        *,
        alone: bool = False,
        ends_at: float = math.inf,
        attempts: int = 0,
        traceparent: str | None = None,
        is_interactive: bool = False,
    ) -> None:
        """Begin a call, a part of the trace of `traceparent`, shared with no other if `alone`. Nobody waits
        after `ends_at` (monotonic seconds); `attempts` were made before. What is interactive gets the next
        thread that is free. Its end comes out of `advance`."""
        self._under_way[model] += 1
        self._interactive[model] += is_interactive
        made = min(attempts, self._callees[model].retry.attempts - 1)
        self._attempt(_Call(model, payload, tag, alone, ends_at, made, traceparent, is_interactive))

    def under_way(self, model: str) -> int:
        """How many calls of a model have begun and not ended; a wait between two attempts counts."""
        return self._under_way[model]

    def interactive(self, model: str) -> int:
        """How many of those are interactive."""
        return self._interactive[model]

    def in_progress(self, model: str) -> int:
        """How many calls the threads of a model are making. For any thread."""
        return self._pools[model].running

    @property
    def is_idle(self) -> bool:
        """Whether none is under way."""
        return not any(self._under_way.values())

    def advance(self) -> list[Answered]:
        """Begin the attempts whose wait is over; return the calls that have ended since the last time."""
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            self._attempt(heapq.heappop(self._timers)[2])
        self._write_off(now)
        ended = [answered for attempt in self._drain() if (answered := self._end(attempt)) is not None]
        while self._deferred:
            ended.append(self._put_off(self._deferred.popleft()))
        return ended

    def next_due_seconds(self) -> float | None:
        """How long until a wait is over; None where nothing waits."""
        if self._deferred:
            return 0.0
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
        callee = self._callees[call.model]
        if callee.gate.passes():
            # The last one shares its call with nobody: a row that makes the model fail must fail alone.
            if 1 < call.attempts + 1 == callee.retry.attempts:
                call.alone = True
            attempt = Attempt(call, call.payload, alone=call.alone, ends_at=call.ends_at)
            attempt.traceparent, attempt.is_interactive = call.traceparent, call.is_interactive
            self._pools[call.model].submit(attempt)
        else:
            self._deferred.append(call)

    def _put_off(self, call: _Call) -> Answered:
        self._leave(call)
        return deferred(call.tag, self._callees[call.model].gate, call.attempts)

    def _leave(self, call: _Call) -> None:
        self._under_way[call.model] -= 1
        self._interactive[call.model] -= call.is_interactive

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
        self._tell(attempt)
        error, seconds = attempt.error, attempt.ended - attempt.begun
        if error is None:
            self._leave(call)
            return Answered(call.tag, attempt.result, None, attempt.begun_at, seconds / attempt.rows)
        if isinstance(error, TransientFailure) and self._retry(call, error):
            return None
        if attempt.rows > 1 and error.reason in _BY_A_ROW:
            self._observer.model_retry(call.model, error.reason)
            call.alone = True
            self._attempt(call)
            return None
        self._leave(call)
        failure = Failure(error.kind, said(error, attempt.rows if attempt.is_shared else 1), call.attempts)
        return Answered(call.tag, None, failure, attempt.begun_at, seconds)

    def _tell(self, attempt: Attempt) -> None:
        model, error = attempt.call.model, attempt.error
        if isinstance(error, DeadlinePassed):
            return  # it was not made
        attempt.call.attempts += 1
        self._observer.model_attempt(model, named(error), attempt.ended - attempt.begun)
        gate = self._callees[model].gate
        if attempt.leads:
            gate.ended(error)
        if not gate.is_open:  # what has not begun does not begin
            self._deferred += [waiting.call for waiting in self._pools[model].withdraw()]

    def _retry(self, call: _Call, error: TransientFailure) -> bool:
        """Whether there will be another attempt. One more than the deadline allows is none."""
        now, callee = self._clock(), self._callees[call.model]
        wait = callee.retry.wait_seconds(call.attempts, now - call.begun, error.retry_after)
        if wait is None or now + wait >= call.ends_at:
            return False
        self._observer.model_retry(call.model, error.reason)
        if callee.gate.is_open:
            heapq.heappush(self._timers, (now + wait, next(self._order), call))
        else:
            self._deferred.append(call)
        return True


def deferred(tag: Any, gate: Gate, attempts: int) -> Answered:
    """The end of a call that is not made now, after so many attempts."""
    failure = Failure(ErrorKind.MODEL_UNAVAILABLE, gate.why, attempts)
    return Answered(tag, None, failure, 0.0, gate.down_seconds, is_deferred=True)
