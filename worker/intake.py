"""How much to take: the bounds count requests and bytes, and messages differ in both."""

from collections.abc import Collection, Sequence

from worker.delivery import Delivery

_MOST_MESSAGES = 256
_FIRST = 8


class Intake:
    """Turns the bounds on what is held into a credit of messages."""

    def __init__(self, in_flight: int, in_flight_bytes: int) -> None:
        self._in_flight, self._in_flight_bytes = in_flight, in_flight_bytes
        # Nothing is known yet, and 256 of the largest would be gigabytes: begin with a few.
        self._typical_requests, self._typical_bytes = in_flight / _FIRST, in_flight_bytes / _FIRST

    def credit(self, held: Collection[Delivery] = ()) -> int:
        """How many messages to take while so many deliveries are held."""
        requests = sum([len(delivery.requests) for delivery in held])
        size = sum([len(delivery.message.body) for delivery in held])
        by_count = (self._in_flight - requests) / self._typical_requests
        by_bytes = (self._in_flight_bytes - size) / self._typical_bytes
        room = min(by_count, by_bytes, _MOST_MESSAGES)
        # Below one message there is still room for one when nothing is held: a large one must pass, too.
        return max(int(room), 1 if not held or 0 < room < 1 else 0)

    def messages(self, requests: int) -> int:
        """How many messages to take where there is room for so many more requests."""
        return 0 if requests <= 0 else min(self.credit(), max(1, int(requests / self._typical_requests)))

    def learn(self, deliveries: Sequence[Delivery]) -> None:
        """Expect the largest of late, forgetting slowly: a wrong guess costs memory only upwards."""
        if not deliveries:
            return
        requests = max([len(delivery.requests) for delivery in deliveries])
        size = max([len(delivery.message.body) for delivery in deliveries])
        self._typical_requests = max(1.0, requests, 0.9 * self._typical_requests)
        self._typical_bytes = max(1.0, size, 0.9 * self._typical_bytes)
