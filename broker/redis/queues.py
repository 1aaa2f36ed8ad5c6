"""Looking at queues as a whole: how much waits, since when; dropping it; making one."""

from collections.abc import Sequence

from broker.redis.caller import Caller
from broker.redis.claims import PRIORITIES, lists_of
from wire.names import Names


class Queues:
    """The queues of one prefix. Everything raises BrokerLost."""

    def __init__(self, names: Names, caller: Caller) -> None:
        self._names, self._caller = names, caller

    def declare(self, queue: str) -> None:
        """See Broker."""
        with self._caller.asking() as link:
            link.ask("SADD", self._names.declared, queue)

    def depth(self, replies: Sequence[str]) -> dict[str, int]:
        """See Broker."""
        queues = (*self._names.queues, *replies)
        with self._caller.asking() as link:
            sizes = link.ask_all([("LLEN", name) for queue in queues for name in lists_of(queue)])
        width = len(PRIORITIES)
        return {queue: sum(sizes[n * width : (n + 1) * width]) for n, queue in enumerate(queues)}

    def oldest(self) -> dict[str, float]:
        """See Broker."""
        queues = self._names.worked
        with self._caller.asking() as link:
            said = link.run("oldest", [name for queue in queues for name in lists_of(queue)], [])
        width, found = len(PRIORITIES), dict[str, float]()
        for n, queue in enumerate(queues):
            times = [float(time) for time in said[n * width : (n + 1) * width] if time]
            if times:
                found[queue] = min(times)
        return found

    def purge(self, queue: str) -> int:
        """See Broker."""
        with self._caller.asking() as link:
            return int(link.run("purge", lists_of(queue), []))
