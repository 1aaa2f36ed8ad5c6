"""What the loop tells of its work: metrics and logs hang here."""

from collections.abc import Sequence
from typing import Protocol

from broker.base import BrokerError, Settlement
from worker.delivery import Delivery
from worker.entry import Entry
from worker.job import Job


class OnMiss(Protocol):
    """Told of a job whose look-up at Unix seconds `now` found nothing of use, and of the entry that was
    there, where one was."""

    def __call__(self, job: Job, entry: Entry | None, now: float, *, is_unreadable: bool) -> None: ...


class LoopObserver(Protocol):
    """Told by the loop, on its thread."""

    def turned(self) -> None:
        """The loop has turned."""

    def received(self, deliveries: list[Delivery]) -> None:
        """Messages came in."""

    def settled(self, settled: Sequence[tuple[Delivery, Settlement]]) -> None:
        """Everything for these messages is confirmed, and they are acknowledged."""

    def forgotten(self, delivery: Delivery) -> None:
        """It is no longer ours to settle: a lost connection gave it to somebody else."""

    def undeliverable(self, count: int) -> None:
        """So many replies became dead letters."""

    def connected(self) -> None:
        """The broker is there."""

    def lost(self, error: BrokerError, retry_seconds: float) -> None:
        """The broker is not; the next try comes after so many seconds."""

    def model_lost(self, model: str) -> None:
        """Half of a model's threads hang: the process is better replaced."""

    def draining(self, open_requests: int) -> None:
        """Nothing more is received."""

    def drained(self, released: int) -> None:
        """The end; so many messages went back to their queue."""
