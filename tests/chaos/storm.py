"""A seeded sequence of faults. The seed decides what happens in which order, the machine how much."""

import heapq
import itertools
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.chaos.herd import Herd
from tests.chaos.servers import Server
from tests.support.fleet import Fleet
from tests.support.proxy import Mode, Proxy

_GAP_SECONDS = (0.2, 1.0)
_FIRST_RESTART, _RESTART_EVERY = 5.0, 20.0
_TICK_SECONDS = 0.02
# What happens, how often against the others, and as which figure it is counted.
_FAULTS = {
    "kill_worker": (6, "kills"),
    "stop_worker_shortly": (2, "stops"),
    "stop_worker_for_long": (2, "stops"),
    "cut": (2, "cuts"),
    "reset": (2, "cuts"),
    "lose_answers": (2, "cuts"),
    "hold_everything": (2, "cuts"),
    "throw_out": (2, "cuts"),
    "kill_producer": (1, "producer_kills"),
    "restart_server": (0, "server_restarts"),  # by the clock, not by chance: a run must have its share
}


class Storm:
    """Breaks things on a thread of its own, from `start` until `end`, which mends all of them."""

    def __init__(
        self, rng: random.Random, fleet: Fleet, herd: Herd, server: Server, proxy: Proxy, lease_seconds: float
    ) -> None:
        self._rng, self._fleet, self._herd = rng, fleet, herd
        self._server, self._proxy, self._lease_seconds = server, proxy, lease_seconds
        self.counts: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storm", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Nothing breaks any more, and nothing is broken. Raises what went wrong with the storm itself."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(180)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        names = list(_FAULTS)
        weights = [weight for weight, _ in _FAULTS.values()]
        next_restart = time.monotonic() + _FIRST_RESTART
        try:
            while not self._ending.is_set():
                self._wait(self._rng.uniform(*_GAP_SECONDS))
                (name,) = self._rng.choices(names, weights)
                if time.monotonic() >= next_restart:
                    name, next_restart = "restart_server", time.monotonic() + _RESTART_EVERY
                self.counts[_FAULTS[name][1]] += 1
                getattr(self, f"_{name}")()
            self._mend()
        except BaseException as failure:
            self.failure = failure

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and not self._ending.wait(_TICK_SECONDS):
            while self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()

    def _mend(self) -> None:
        while self._later:
            heapq.heappop(self._later)[2]()

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), action))

    def _kill_worker(self) -> None:
        self._fleet.kill(self._rng.randrange(len(self._fleet.workers)))

    def _stop_worker_shortly(self) -> None:
        self._stop_worker(self._rng.uniform(0.1, 0.4) * self._lease_seconds)

    def _stop_worker_for_long(self) -> None:
        """Presumed dead by the others, and back with what it held."""
        self._stop_worker(self._rng.uniform(1.5, 2.5) * self._lease_seconds)

    def _stop_worker(self, seconds: float) -> None:
        number = self._rng.randrange(len(self._fleet.workers))
        self._fleet.kill(number, signal.SIGSTOP)
        # Should another have taken its place meanwhile, that one does not mind.
        self._after(seconds, lambda: self._fleet.kill(number, signal.SIGCONT))

    def _cut(self) -> None:
        self._proxy.cut()

    def _reset(self) -> None:
        self._proxy.reset()

    def _lose_answers(self) -> None:
        """Executed, and nobody is told."""
        self._misbehave("down-drop")

    def _hold_everything(self) -> None:
        """A half-open link: what was asked before may run after it was given up."""
        self._misbehave("blackhole")

    def _misbehave(self, mode: Mode) -> None:
        self._proxy.mode = mode

        def lift() -> None:
            # What was dropped leaves a gap in the stream: no link of that time can go on.
            if mode == "down-drop":
                self._proxy.reset()
            self._proxy.mode = "pass"

        self._after(self._rng.uniform(0.3, 1.5), lift)

    def _throw_out(self) -> None:
        self._server.throw_out()

    def _kill_producer(self) -> None:
        self._herd.kill_random(self._rng)

    def _restart_server(self) -> None:
        away = self._rng.uniform(0.2, 1.0)
        self._server.kill()
        self._wait(away)
        self._server.start()
