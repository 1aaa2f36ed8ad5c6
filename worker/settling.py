"""What is answered and not yet known to be settled."""

from collections.abc import Callable, Sequence

from broker.base import Broker, Settlement
from worker.delivery import Delivery
from worker.observer import LoopObserver


class Settling:
    """Commits what is answered, and tells the observer once it is known what came of it; true while anything
    is not.

    The broker may report in a later call than the one that began it. What a lost connection leaves
    unreported is begun again: the broker knows what of it was done. `settlement` says what becomes of a
    delivery.
    """

    def __init__(
        self, broker: Broker, observer: LoopObserver, settlement: Callable[[Delivery], Settlement]
    ) -> None:
        self._broker, self._observer, self._settlement = broker, observer, settlement
        self._unreported: dict[int, tuple[Delivery, Settlement]] = {}  # by the identity of their message
        self._to_begin: list[Settlement] = []

    def __bool__(self) -> bool:
        return bool(self._unreported)

    def commit(self, answered: Sequence[Delivery], *, wait: bool) -> None:
        """Begin to settle these; with `wait`, until nothing is unreported. Raises BrokerLost."""
        for delivery in answered:
            settlement = self._settlement(delivery)
            self._unreported[id(settlement.message)] = (delivery, settlement)
            self._to_begin.append(settlement)
        if not self._unreported:
            return
        committed = self._broker.commit(self._to_begin, wait=wait)
        self._to_begin = []
        if committed.settled:
            self._observer.settled([self._reported(settlement) for settlement in committed.settled])
        for settlement in committed.gone:
            delivery, _ = self._reported(settlement)
            self._observer.forgotten(delivery)
        if committed.undeliverable:
            self._observer.undeliverable(len(committed.undeliverable))

    def begin_again(self) -> None:
        """The connection is another: whatever has not been reported is committed with the next."""
        self._to_begin = [settlement for _, settlement in self._unreported.values()]

    def _reported(self, settlement: Settlement) -> tuple[Delivery, Settlement]:
        return self._unreported.pop(id(settlement.message))
