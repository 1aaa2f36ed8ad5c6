"""Attempts at model calls, and the line in which they wait for a thread."""

import math
from collections import deque
from typing import Any

from worker.model import ModelError


class Attempt:
    """One payload's part in a model call: set up by the loop, filled in by a thread, read by the loop when it
    is done. `alone` says that it shares its call with no other, `ends_at` (monotonic seconds) until when
    somebody wants it, `traceparent` of which trace it is a part, `is_interactive` that it goes before others;
    `rows` is how many shared it, one of them `leads`, and the error of the call as a whole `is_shared`."""

    __slots__ = (
        "alone", "begun", "begun_at", "call", "ended", "ends_at", "error", "is_interactive", "is_shared",
        "leads", "payload", "result", "rows", "traceparent",
    )  # fmt: skip

    def __init__(self, call: Any, payload: bytes, *, alone: bool = False, ends_at: float = math.inf) -> None:
        self.call, self.payload, self.alone, self.ends_at = call, payload, alone, ends_at
        self.traceparent: str | None = None
        self.is_interactive = self.leads = self.is_shared = False
        self.begun = self.ended = 0.0  # monotonic seconds; 0 while it has not begun
        self.begun_at = 0.0  # Unix seconds
        self.result: bytes | None = None
        self.error: ModelError | None = None
        self.rows = 1


class Line:
    """What waits for the threads of a model: what is interactive first, and each kind in the order of its
    coming. None stands for the end of a thread, and comes last."""

    def __init__(self) -> None:
        self._interactive, self._others = deque[Attempt](), deque[Attempt]()
        self._ends = 0

    def __bool__(self) -> bool:
        return bool(self._interactive or self._others or self._ends)

    @property
    def first(self) -> Attempt | None:
        """What `take` would return."""
        return self._nearest[0] if self._nearest else None

    def put(self, attempt: Attempt | None) -> None:
        """One more waits."""
        if attempt is None:
            self._ends += 1
        else:
            (self._interactive if attempt.is_interactive else self._others).append(attempt)

    def take(self) -> Attempt | None:
        """The first, which waits no longer."""
        if self._nearest:
            return self._nearest.popleft()
        self._ends -= 1
        return None

    def withdraw(self) -> list[Attempt]:
        """Take back all attempts."""
        waiting = [*self._interactive, *self._others]
        self._interactive.clear()
        self._others.clear()
        return waiting

    @property
    def _nearest(self) -> deque[Attempt]:
        return self._interactive or self._others
