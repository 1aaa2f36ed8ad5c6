"""How fast payloads are read, by a clock that is told the time."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from producer.pace import NOT_YET, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def nothing() -> int:
    return 0


def given(pace: Pace) -> int:
    """How many come before it is too early for the next."""
    count = 0
    while next(pace) is not NOT_YET:
        count += 1
    return count


@pytest.mark.parametrize("rate", [0.5, 1, 30, 1000])
def test_no_more_than_the_rate(rate: float) -> None:
    """Over ten seconds, looked at every 50 ms: the rate, and one burst of a tenth of a second."""
    clock = Clock()
    pace = Pace(iter(int, 1), rate, None, nothing, clock, pack=1)
    total = 0
    for _ in range(200):
        total += given(pace)
        clock.now += 0.05
    assert rate * 9.9 - 1 <= total <= rate * 10 + max(1, rate / 10)


def test_a_pause_is_not_made_up_for() -> None:
    """An hour without a reader gives no hour's worth at once."""
    clock = Clock()
    pace = Pace(iter(int, 1), 100, None, nothing, clock, pack=1)
    clock.now += 3600
    assert given(pace) == 10


def test_no_more_is_read_than_there_is_room_for() -> None:
    """Asked again when it is used up, and not at every payload; full messages make the most of it."""
    clock, asked, waiting = Clock(), 0, 5

    def ask() -> int:
        nonlocal asked
        asked += 1
        return waiting

    pace = Pace(iter(int, 1), None, 7, ask, clock, pack=10)
    assert (given(pace), asked) == (20, 1)
    clock.now += 1
    waiting = 7
    assert (given(pace), asked) == (0, 2)
    assert (given(pace), asked) == (0, 2)
    clock.now += 1
    waiting = 0
    assert (given(pace), asked) == (70, 3)


@pytest.mark.parametrize("rate", [None, 20, 200])
@pytest.mark.parametrize("gap", [2, 7, 1000])
def test_the_queue_never_grows_past_its_most(rate: float | None, gap: int) -> None:
    """Nor do messages count as full where the rate or a slow input cuts them short."""

    def slowly() -> Iterator[object]:
        for n in itertools.count():
            yield n if n % gap else NOT_YET

    clock, waiting = Clock(), 0
    pace = Pace(slowly(), rate, 5, lambda: waiting, clock, pack=32)
    for _ in range(300):
        waiting += -(-given(pace) // 32)
        assert waiting <= 5
        clock.now += 0.04
    assert waiting == 5


def test_others_that_fill_the_queue_are_seen_before_the_room_is_used_up() -> None:
    clock, waiting = Clock(), 0
    pace = Pace(iter(int, 1), 10, 5, lambda: waiting, clock, pack=32)
    assert given(pace) == 1
    waiting, clock.now = 5, clock.now + 1
    assert given(pace) == 0


def test_what_is_sent_again_takes_room() -> None:
    """As messages do."""
    pace = Pace(iter(int, 1), None, 5, lambda: 1, Clock(), pack=32)
    assert [next(pace) for _ in range(33)] == [0] * 33
    assert [pace.messages(9), pace.messages(9), given(pace)] == [2, 0, 31]
    assert Pace([], 1, None, nothing, Clock(), pack=1).messages(9) == 9


def test_the_end_is_seen_when_it_comes() -> None:
    """And not when there is room for one more."""
    pace = Pace([1], 0.01, 1, nothing, Clock(), pack=1)
    assert list(itertools.islice(pace, 3)) == [1]


@pytest.mark.parametrize("rate", ["5", True, float("inf"), [1]])
@pytest.mark.parametrize("most", ["5", True, 1.5, float("inf")])
def test_what_is_no_number(rate: Any, most: Any) -> None:
    """A ValueError that says what was expected."""
    with pytest.raises(ValueError, match=r"rate must be above 0 a second, a finite number; got"):
        Pace([], rate, None, nothing, Clock(), pack=1)
    with pytest.raises(ValueError, match=r"queue_max must be at least 1 message, a whole number; got"):
        Pace([], None, most, nothing, Clock(), pack=1)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_numbers_that_bound_nothing(rate: float) -> None:
    """Said at once."""
    with pytest.raises(ValueError, match="queue_max must be at least 1"):
        Pace([], None, 0, nothing, Clock(), pack=1)
    with pytest.raises(ValueError, match="rate must be above 0"):
        Pace([], rate, None, nothing, Clock(), pack=1)
