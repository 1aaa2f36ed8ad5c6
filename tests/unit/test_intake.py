"""How much a worker takes, by what it has seen."""

from broker.base import Message
from worker.delivery import Delivery
from worker.intake import Intake


def delivery(size: int, requests: int = 1) -> Delivery:
    return Delivery(Message(b"x" * size), [None] * requests, 0.0)  # type: ignore[list-item]


def test_it_begins_with_a_few() -> None:
    """Nobody knows yet how large messages are: 256 of 16 MB would be 4 GB."""
    assert Intake(256, 64 << 20).credit([]) == 8


def test_small_messages_open_it_and_large_ones_close_it() -> None:
    """Within a few batches, by the largest of late; and never below one when nothing is held."""
    intake = Intake(256, 64 << 20)
    for _ in range(60):
        intake.learn([delivery(100)])
    assert intake.credit([]) == 256
    intake.learn([delivery(16 << 20)])
    assert intake.credit([]) == 4
    intake.learn([delivery(100 << 20)])
    assert intake.credit([]) == 1


def test_what_is_held_counts_by_requests_and_by_bytes() -> None:
    """A packed message is many requests."""
    intake = Intake(256, 64 << 20)
    for _ in range(60):
        intake.learn([delivery(100)])
    assert intake.credit([delivery(10, 250)]) == 6
    assert intake.credit([delivery(10, 256)]) == 0
    assert intake.credit([delivery((64 << 20) - 1000)]) < 256
