"""From settlements and messages to what a script takes at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from broker.base import Message, Outgoing, Settlement

T = TypeVar("T")
_MOST, _MOST_BYTES = 512, 4 << 20


def batches(things: Sequence[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """At most 512 things or 4 MiB at once, one that is larger alone: a script stops the whole server."""
    batch: list[T] = []
    weight = 0
    for thing in things:
        more = size(thing)
        if batch and (len(batch) == _MOST or weight + more > _MOST_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(thing)
        weight += more
    if batch:
        yield batch


def size_of(settlement: Settlement) -> int:
    """Bytes that a settlement sends."""
    return sum(len(out.message.body) for out in settlement.outgoing)


def by_queue(outgoing: Sequence[Outgoing]) -> dict[str, list[Message]]:
    """What goes to each queue, in order."""
    sorted_out: dict[str, list[Message]] = {}
    for queue, message in outgoing:
        sorted_out.setdefault(queue, []).append(message)
    return sorted_out
