"""One visit to a contestant: start, first reply, one in flight, bursts of hits. All from the same process.

A burst: the worker is held (SIGSTOP) while the queue is filled, so that it is ready and the queue full when
the clock starts; the end is seen by the length of the reply queue.
"""

import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from bench import proc
from bench.contestants import OURS, Peer, peers
from bench.entrants import Entrant, OwnEntrant, PeerEntrant
from bench.payloads import KEYS
from bench.plan import Plan
from bench.process import Child, Failed
from bench.results import Results
from bench.stage import Stage
from bench.stats import percentile

START, LATENCY = "start", "one in flight"
PACK = 32  # Producer's default
_FIRST_SECONDS, _BURST_SECONDS = 30, 60
_MOST_BYTES = 64 << 20
_LEAST = 50


class Load(NamedTuple):
    """What a burst is made of."""

    size: int
    pack: int

    @property
    def workload(self) -> str:
        """Its name in the results."""
        packed = "packed" if self.pack > 1 else "single"
        return f"hits {self.size} B {packed}"


class Burst(NamedTuple):
    """What one burst gave."""

    rate: float
    enqueued: float
    worker_cpu: float
    server_cpu: float
    rss: float


def hits(size: int, packed: bool) -> str:
    """The name of a workload of hits in the results."""
    return Load(size, PACK if packed else 1).workload


def loads(entrant: Entrant, plan: Plan) -> list[Load]:
    """Single-request messages for all; packed ones are ours alone."""
    packs = (1, PACK) if isinstance(entrant, OwnEntrant) else (1,)
    return [Load(size, pack) for size in plan.sizes for pack in packs]


class Visits:
    """Every contestant in turn, again and again. The first visit warms up and sets how much a burst sends."""

    def __init__(self, stage: Stage, own_kinds: list[str], chosen: list[Peer]) -> None:
        self._stage, self._plan, self._results = stage, stage.plan, stage.results
        self._makers: dict[str, Callable[[int], Entrant]] = {
            name: lambda _, name=name, kind=kind: OwnEntrant(stage, name, kind)  # type: ignore[misc]
            for name, kind in zip(OURS, ("redis", "rabbit"), strict=True)
            if kind in own_kinds
        }
        for peer in chosen:
            self._makers[peer.name] = lambda number, peer=peer: PeerEntrant(stage, peer, number)  # type: ignore[misc]
        self._counts: dict[tuple[str, Load], int] = {}
        self._number = 0

    def warm_up(self) -> None:
        """Everybody once; who fails is tried again in the rounds."""
        for name in self._makers:
            self._visit(name, None)

    def round(self) -> None:
        """Everybody once, figures kept."""
        for name in self._makers:
            self._visit(name, self._results)

    def _visit(self, name: str, results: Results | None) -> None:
        self._number += 1
        try:
            entrant = self._makers[name](self._number)
            try:
                self._inside(entrant, results)
            finally:
                entrant.close()
        except Exception as error:
            self._results.fail("hits", name, f"{type(error).__name__}: {error}")
            self._stage.say(f"{name}: FAILED, {error}")

    def _inside(self, entrant: Entrant, results: Results | None) -> None:
        sent = int(entrant.fill(1, self._plan.sizes[0])["messages"])
        with entrant.start() as worker:
            first = worker.wait_until(lambda: entrant.replies() >= sent, _FIRST_SECONDS, "first reply")
            idle = proc.rss_mb(worker.session)
            entrant.clear()
            if results is None:
                for load in loads(entrant, self._plan):
                    self._counts[entrant.name, load] = calibrate(self._stage, entrant, worker, load)
                worker.kill()
                return
            results.add(START, entrant.name, "seconds", first - worker.begun)
            results.add(START, entrant.name, "idle MB", idle)
            self._bursts(entrant, worker, results)
            self._latency(entrant, results)
            if isinstance(entrant, PeerEntrant):
                worker.kill()  # some take ten seconds for a goodbye, and hold nothing that is wanted

    def _bursts(self, entrant: Entrant, worker: Child, results: Results) -> None:
        for load in loads(entrant, self._plan):
            count = self._counts.get((entrant.name, load), _LEAST)
            burst(self._stage, entrant, worker, load, min(count // 8 + 1, KEYS))
            figures = burst(self._stage, entrant, worker, load, count)
            for name, value in figures._asdict().items():
                results.add(load.workload, entrant.name, name, value)
            results.add(load.workload, entrant.name, "requests", count)
            self._stage.say(f"{entrant.name}: {load.workload} {figures.rate:,.0f}/s")

    def _latency(self, entrant: Entrant, results: Results) -> None:
        seconds = entrant.ask(self._plan.asks, self._plan.sizes[0])
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            results.add(LATENCY, entrant.name, name, 1000 * percentile(seconds, share))


def calibrate(stage: Stage, entrant: Entrant, worker: Child, load: Load) -> int:
    """How many requests make a burst of the wanted length. Before, all payloads are made to be remembered."""
    entrant.remember(load.size, worker)
    seen = burst(stage, entrant, worker, load, KEYS if load.pack > 1 else KEYS // 4)
    most = min(_MOST_BYTES / load.size, seen.enqueued * stage.plan.fill_seconds)
    # What has just started is slower than it will be.
    return max(_LEAST, int(min(most, 1.3 * seen.rate * stage.plan.seconds)))


def burst(
    stage: Stage, entrant: Entrant, worker: Child, load: Load, count: int, *, keys: int = KEYS
) -> Burst:
    """So many hits through a queue that is full when the clock starts. Raises Failed."""
    worker.send_signal(signal.SIGSTOP)
    try:
        filled = entrant.fill(count, load.size, load.pack, keys)
        worker_cpu, server_cpu = proc.cpu_seconds(worker.session), stage.server_cpu_seconds(entrant.kind)
    finally:
        begun = time.perf_counter()
        worker.send_signal(signal.SIGCONT)
    seconds = _all_answered(entrant, worker, int(filled["messages"])) - begun
    used = proc.cpu_seconds(worker.session) - worker_cpu, stage.server_cpu_seconds(entrant.kind) - server_cpu
    entrant.clear()
    return Burst(
        count / seconds,
        filled["count"] / filled["seconds"],
        *(1000 * spent / count for spent in used),
        proc.rss_mb(worker.session),
    )


def _all_answered(entrant: Entrant, worker: Child, messages: int) -> float:
    try:
        return worker.wait_until(lambda: entrant.replies() >= messages, _BURST_SECONDS, "last reply", 0.005)
    except Failed as error:
        raise Failed(f"{entrant.replies()} of {messages} replies; {error}") from None


def chosen_peers(plan: Plan, kinds: list[str]) -> list[Peer]:
    """Those that this plan runs, on the brokers that are there."""
    return [peer for peer in peers() if peer.kind in kinds and (plan.all_peers or peer.quick)]
