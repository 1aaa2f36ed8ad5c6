"""A model that is down in the middle of a run: `python -m bench.outage`. Prints JSON.

Requests come at a steady rate, most of them hits, and more misses than the model can take. Then the model is
killed, and after the outage started again. What the hits' latency was before and during it, how often the
model was tried, how long a message was held at most, and whether every request was answered.
"""

import argparse
import json
import re
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bench.entrants import OwnEntrant
from bench.misses import start_model
from bench.plan import quick
from bench.process import Child
from bench.results import Results
from bench.stage import Stage
from bench.stats import percentile
from broker.base import JSON, Message, Settlement
from broker.urls import open_broker
from wire.names import Names
from worker.cache_link import redis_client

_KNOWN, _TICK_SECONDS, _LOOK_SECONDS = 1000, 0.01, 0.2
_BREAKER_SECONDS = 5.0
_SETTLED_SECONDS = 2.0  # after which the breaker is open, and what had begun has ended
_ATTEMPTS = re.compile(r'recollect_model_attempts_total\{model="m",result="(?:transient|timeout)"\} ([\d.]+)')


class Traffic:
    """Sends at a rate on one connection and receives on another; remembers when each went and came."""

    def __init__(self, url: str, names: Names, rate: float, misses: float) -> None:
        self._url, self._names, self._rate, self._misses = url, names, rate, misses
        self.sent: list[tuple[float, bool]] = []  # when, and whether it is a hit
        self.came: dict[int, tuple[float, str]] = {}
        self._is_over = threading.Event()
        self._queue = names.replies_for("outage")
        self._threads = [threading.Thread(target=act) for act in (self._send, self._receive)]

    def __enter__(self) -> "Traffic":
        with_queue = open_broker(self._url, self._names)
        with_queue.connect()
        with_queue.declare(self._queue)
        with_queue.close()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def stop_sending(self) -> None:
        """And see to what is under way."""
        self._is_over.set()
        self._threads[0].join()

    def latencies(self, begin: float, end: float) -> list[float]:
        """Seconds of the hits that were sent in between and came."""
        hits = [(n, at) for n, (at, is_hit) in enumerate(self.sent) if is_hit and begin <= at < end]
        return [self.came[n][0] - at for n, at in hits if n in self.came]

    def _send(self) -> None:
        broker = open_broker(self._url, self._names)
        broker.connect()
        begun, fresh = time.perf_counter(), 0
        while not self._is_over.wait(_TICK_SECONDS):
            now = time.perf_counter()
            messages = []
            while len(self.sent) < (now - begun) * self._rate:
                number = len(self.sent)
                is_hit = (number * self._misses) % 1 >= self._misses
                fresh += not is_hit
                payload = {"known": number % _KNOWN} if is_hit else {"new": fresh}
                self.sent.append((now, is_hit))
                messages.append(Message(orjson.dumps({"payload": payload}), JSON, str(number), self._queue))
            broker.send(self._names.requests, messages)
        broker.close()

    def _receive(self) -> None:
        broker = open_broker(self._url, self._names)
        broker.connect()
        while not self._is_over.is_set() or len(self.came) < len(self.sent):
            messages = broker.receive({self._queue: 500}, 0.5)
            now = time.perf_counter()
            for message in messages:
                outcome = orjson.loads(message.body)["outcome"]
                self.came.setdefault(int(message.correlation_id or 0), (now, outcome))
            broker.commit([Settlement(message, ()) for message in messages])
        broker.close()


class Holds:
    """How long any message was in flight, seen by looking now and then."""

    def __init__(self, url: str, names: Names) -> None:
        self._client, self._names = redis_client(url, 5.0), names
        self._since: dict[bytes, float] = {}
        self.longest = 0.0

    def look(self) -> None:
        """Once."""
        now, there = time.perf_counter(), set[bytes]()
        for key in self._client.scan_iter(self._names.in_flight("*"), count=1000):
            there.update(self._client.hkeys(key))
        self._since = {field: self._since.get(field, now) for field in there}
        self.longest = max([self.longest, *(now - since for since in self._since.values())])


class Moments(NamedTuple):
    """When what happened, by perf_counter, and how often the model was tried while it was down."""

    begun: float
    down: float
    up: float
    ended: float
    probes: int


def outage(stage: Stage, before: float, seconds: float, rate: float, misses: float) -> dict[str, Any]:
    """The run: so long before the outage, the outage, and until all is answered."""
    model, url = start_model(stage)
    settings = {"MODELS__M__TARGET": url, "MODELS__M__BREAKER_SECONDS": str(_BREAKER_SECONDS)}
    entrant = OwnEntrant(stage, "outage", "redis", LOG_LEVEL="info", **settings)
    broker_url, names = stage.queue_url("redis"), entrant.names
    with entrant.start() as worker:
        _warm(stage, entrant, worker)
        holds = Holds(broker_url, names)
        with Traffic(broker_url, names, rate, misses) as traffic:
            begun = time.perf_counter()
            _for(before, holds)
            down = time.perf_counter()
            model.kill()
            _for(_SETTLED_SECONDS, holds)
            tries = _failed_attempts(worker)
            _for(seconds - _SETTLED_SECONDS, holds)
            up, tries = time.perf_counter(), _failed_attempts(worker) - tries
            with start_model(stage, int(url.rpartition(":")[2].partition("/")[0]))[0]:
                _for(_SETTLED_SECONDS, holds)
                traffic.stop_sending()
                worker.wait_until(lambda: len(traffic.came) == len(traffic.sent), 600, "last reply", 0.05)
            moments = Moments(begun, down, up, time.perf_counter(), tries)
    entrant.close()
    return _figures(traffic, holds, moments)


def _figures(traffic: Traffic, holds: Holds, moments: Moments) -> dict[str, Any]:
    # The first moments are of connections that are new.
    before = traffic.latencies(moments.begun + 1, moments.down)
    during = traffic.latencies(moments.down, moments.up)
    return {
        "sent": len(traffic.sent),
        "answered": len(traffic.came),
        "outcomes": dict(Counter(outcome for _, outcome in traffic.came.values())),
        "hits_p99_ms_before": round(1000 * percentile(before, 0.99), 2),
        "hits_p99_ms_during": round(1000 * percentile(during, 0.99), 2),
        "p99_ratio": round(percentile(during, 0.99) / percentile(before, 0.99), 2),
        "hits_p50_ms": [round(1000 * percentile(some, 0.5), 2) for some in (before, during)],
        "probes": moments.probes,
        "intervals": (moments.up - moments.down) / _BREAKER_SECONDS,
        "longest_hold_seconds": round(holds.longest, 1),
        "seconds_to_complete": round(moments.ended - moments.up, 1),
    }


def _warm(stage: Stage, entrant: OwnEntrant, worker: Child) -> None:
    broker = open_broker(stage.queue_url("redis"), entrant.names)
    broker.connect()
    known = [Message(orjson.dumps({"payload": {"known": n}}), JSON, str(n)) for n in range(_KNOWN)]
    broker.send(entrant.names.requests, known)
    broker.close()
    worker.wait_until(lambda: entrant.replies() >= _KNOWN, 120, "warm cache")
    entrant.clear()


def _failed_attempts(worker: Child) -> int:
    """How often the model was tried in vain so far."""
    found = re.search(r"http://[\d.:]+/metrics", worker.said)
    assert found is not None
    with urllib.request.urlopen(found[0], timeout=5) as answer:
        return sum(int(float(count)) for count in _ATTEMPTS.findall(answer.read().decode()))


def _for(seconds: float, holds: Holds) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        holds.look()
        time.sleep(_LOOK_SECONDS)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.outage", description=__doc__)
    parser.add_argument("--before", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the outage")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests per second")
    parser.add_argument("--misses", type=float, default=0.1, help="share that nobody has seen")
    options = parser.parse_args()
    with Stage(Path(".bench") / "outage", quick(), Results()) as stage:
        print(json.dumps(outage(stage, **vars(options)), indent=2))


if __name__ == "__main__":
    main()
