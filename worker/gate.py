"""Whether a model may be called now: its breaker, and what it said itself with Retry-After."""

from collections.abc import Callable

from worker.breaker import Breaker
from worker.model import DeadlinePassed, ModelError, TransientFailure


class Gate:
    """Belongs to the loop's thread. `clock` is monotonic."""

    def __init__(self, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._breaker, self._clock = breaker, clock
        self._held_until = 0.0
        self._asked_at: float | None = None
        self._last = ""

    @property
    def is_open(self) -> bool:
        """Whether calls are passed at all: the breaker's word for the contrary is `open`."""
        return not self._breaker.is_open

    @property
    def held_seconds(self) -> float:
        """How long the model wants to be left alone yet."""
        return max(0.0, self._held_until - self._clock())

    @property
    def down_seconds(self) -> float:
        """How long the model has been down, or has asked for time without answering once: only that counts
        against those who wait."""
        asked = 0.0 if self._asked_at is None else self._clock() - self._asked_at
        return max(self._breaker.open_seconds, asked)

    @property
    def is_shut(self) -> bool:
        """Whether a new call would have to wait: also not the next one is a probe."""
        return self.held_seconds > 0 or not self._breaker.is_due

    @property
    def why(self) -> str:
        """What is said to those that do not wait any longer."""
        return f"the model fails, the last time by {self._last}, and is left alone for now"

    def passes(self) -> bool:
        """Whether this call may begin. While the breaker is open one may, once per interval: the probe."""
        return self._breaker.allows()

    def ended(self, error: ModelError | None) -> None:
        """A call ended. Only what may be over later speaks against the model, and not that it asks for time:
        who does is there."""
        if isinstance(error, DeadlinePassed):
            return
        if not isinstance(error, TransientFailure):
            self._breaker.succeeded()
            self._asked_at = None
            return
        self._last = error.reason
        if error.hold_seconds <= 0:
            self._breaker.failed()
        else:
            now = self._clock()
            self._asked_at = now if self._asked_at is None else self._asked_at
            self._held_until = max(self._held_until, now + error.hold_seconds)
