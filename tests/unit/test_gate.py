"""The breaker against what its history says, and what a gate makes of a model's errors."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from worker.breaker import Breaker
from worker.gate import Gate
from worker.model import BadResult, DeadlinePassed, ModelError, Rejection, TimedOut, TransientFailure

FAILURES, SECONDS = 3, 5.0


class Breaking(RuleBasedStateMachine):
    """A breaker, and a list of all that happened to it. What it says must follow from the list alone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.changes: list[bool] = []
        self.breaker = Breaker(FAILURES, SECONDS, lambda: self.now, self.changes.append)
        self.history: list[tuple[str, float]] = []

    @rule(seconds=st.floats(0.0, 2 * SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_try_succeeds(self) -> None:
        self.breaker.succeeded()
        self.history.append(("ok", self.now))

    @rule()
    def a_try_fails(self) -> None:
        self.breaker.failed()
        self.history.append(("failed", self.now))

    @rule()
    def somebody_asks(self) -> None:
        expected = self.is_due()
        assert self.breaker.allows() == expected
        if self.is_open():
            self.history += [("probe", self.now)] if expected else []

    def since_success(self) -> list[tuple[str, float]]:
        names = [name for name, _ in self.history]
        return self.history[len(names) - names[::-1].index("ok") :] if "ok" in names else self.history

    def is_open(self) -> bool:
        return sum(name == "failed" for name, _ in self.since_success()) >= FAILURES

    def is_due(self) -> bool:
        return not self.is_open() or self.now >= self.since_success()[-1][1] + SECONDS

    @invariant()
    def it_says_what_its_history_says(self) -> None:
        assert (self.breaker.is_open, self.breaker.is_due) == (self.is_open(), self.is_due())

    @invariant()
    def each_change_is_told_once(self) -> None:
        assert self.changes == [n % 2 == 0 for n in range(len(self.changes))]
        assert (self.changes[-1] if self.changes else False) == self.is_open()


TestBreaking = Breaking.TestCase


def gate(now: list[float], failures: int = 2) -> Gate:
    return Gate(Breaker(failures, SECONDS, lambda: now[0], lambda _: None), lambda: now[0])


def test_only_what_may_be_over_later_speaks_against_a_model() -> None:
    """A verdict is an answer: the service is there."""
    verdicts: list[ModelError | None] = [None, Rejection("no"), BadResult("NaN")]
    for verdict in verdicts:
        tried = gate([0.0])
        for error in (TransientFailure("x", "status"), verdict, TimedOut(1.0)):
            tried.ended(error)
        assert tried.is_open
    tried = gate([0.0])
    for error in (TransientFailure("x", "status"), DeadlinePassed(), TimedOut(1.0)):
        tried.ended(error)
    assert not tried.is_open, "that nobody waits any more says nothing of the model"
    assert "timeout" in tried.why


def test_a_retry_after_holds_for_a_minute_at_most_and_is_never_shortened() -> None:
    """By what another call is told meanwhile."""
    now = [0.0]
    tried = gate(now, failures=1)
    tried.ended(TransientFailure("x", "status", 1e9))
    tried.ended(TransientFailure("x", "status", 1.0))
    assert (tried.held_seconds, tried.is_shut, tried.is_open) == (60.0, True, True)
    now[0] = 60.0
    assert (tried.held_seconds, tried.is_shut) == (0.0, False)
    assert tried.down_seconds == 60.0, "who only ever asks for time is not there, either"
    tried.ended(None)
    assert tried.down_seconds == 0.0
    tried.ended(TransientFailure("x", "status", 0.0))
    now[0] = 61.0
    assert (tried.is_open, tried.down_seconds) == (False, 1.0)
