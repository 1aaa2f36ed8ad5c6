"""What is known of queues that cannot always be looked at."""

import pytest

from wire.names import Names
from worker.queues import Queues

NAMES = Names()
REQUESTS, MISSES = NAMES.requests, NAMES.misses


class Scene:
    """Queues with a clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.queues = Queues(NAMES, lambda: self.now)

    def see(self, at: float, waiting: int, told: float | None = None) -> float:
        """Look at the requests; how old the oldest is then."""
        self.now = at
        depth = {**dict.fromkeys(NAMES.queues, 0), REQUESTS: waiting}
        self.queues.seen(depth, {} if told is None else {REQUESTS: told})
        return self.queues.oldest_seconds(REQUESTS)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_known_before_the_first_look(scene: Scene) -> None:
    """No length, no age, not paused, and a reason."""
    assert not scene.queues.waiting
    assert scene.queues.oldest_seconds(REQUESTS) == 0
    assert not scene.queues.is_paused
    assert scene.queues.error


def test_what_the_broker_says_counts(scene: Scene) -> None:
    """Whatever else is known."""
    scene.queues.taken(REQUESTS, 999.0)
    assert scene.see(1010, 5, told=990.0) == 20
    scene.now = 1015
    assert scene.queues.oldest_seconds(REQUESTS) == 25, "it grows between two looks"


def test_an_empty_queue_has_no_oldest(scene: Scene) -> None:
    """Also after a while in which something waited."""
    scene.see(1000, 5, told=990.0)
    assert scene.see(1010, 0) == 0


def test_what_waits_came_after_the_queue_was_empty(scene: Scene) -> None:
    """The oldest is then at most so old."""
    scene.see(1000, 0)
    assert scene.see(1010, 3) == 10
    assert scene.see(1060, 3) == 60


def test_what_waits_came_after_what_was_taken(scene: Scene) -> None:
    """Queues are first in, first out."""
    scene.see(1000, 0)
    scene.now = 1035
    scene.queues.taken(REQUESTS, 1030.0)
    assert scene.see(1040, 3) == 10
    scene.queues.taken(REQUESTS, 1020.0)
    assert scene.see(1040, 3) == 10, "one that was delivered again is older than what waits"
    scene.queues.taken(MISSES, 1039.0)
    assert scene.see(1040, 3) == 10, "another queue says nothing of this one"


def test_a_backlog_that_was_there_before_us_is_as_old_as_the_first_look(scene: Scene) -> None:
    """Or older: nobody can say."""
    assert scene.see(1000, 5) == 0
    assert scene.see(1030, 9) == 30


def test_a_producer_whose_clock_is_ahead_makes_nothing_young_for_ever(scene: Scene) -> None:
    """Its word is taken for now at most, and no age is negative."""
    scene.see(1000, 0)
    scene.queues.taken(REQUESTS, 9e9)
    assert scene.see(1020, 3) == 20
    assert scene.see(1020, 3, told=5000.0) == 0


def test_a_lost_broker_leaves_what_was_seen_last(scene: Scene) -> None:
    """With the reason, until it is seen again."""
    scene.see(1000, 5, told=990.0)
    scene.queues.lost("no broker at redis://x")
    assert scene.queues.error == "no broker at redis://x"
    assert scene.queues.waiting[REQUESTS].messages == 5
    scene.see(1001, 0)
    assert scene.queues.error is None
