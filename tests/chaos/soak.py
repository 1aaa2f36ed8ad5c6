"""Very many requests, one restart of the server in the middle, and whether anything grows for ever."""

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import redis

from broker.base import BrokerOptions
from broker.urls import open_broker
from producer.client import Producer
from tests.chaos.servers import RabbitMqServer, RedisServer, Server
from tests.support.fleet import LEASE_SECONDS, SHORT_LEASE, Fleet
from tests.support.servers import ValkeyServer
from wire.names import Names

WORKERS = 2
SAMPLES = 80
DIFFERENT = 5000
# What may be more in the last quarter than in the second: noise, in units and as a share.
SLACK: Mapping[str, tuple[float, float]] = {
    "rss_kb": (2048, 0.05),
    "fds": (3, 0.0),
    "threads": (2, 0.0),
    "keys": (20, 0.02),
}
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


class Soak:
    """Takes a sample of every worker and of the server after each part of the requests."""

    def __init__(self, fleet: Fleet, keys: "redis.Redis", server: Server, requests: int) -> None:
        self._fleet, self._keys, self._server, self._requests = fleet, keys, server, requests
        self._restart: threading.Thread | None = None
        self.samples: dict[str, list[float]] = {name: [] for name in SLACK}

    def payloads(self) -> Iterator[dict[str, int]]:
        """All of them; on the way, look, and in the middle restart the server."""
        part = max(1, self._requests // SAMPLES)
        for number in range(self._requests):
            if number % part == part - 1:
                self._look()
            if number == self._requests // 2:
                self._restart = threading.Thread(target=self._kill_and_start)
                self._restart.start()
            yield {"n": number % DIFFERENT}

    def _kill_and_start(self) -> None:
        self._server.kill()
        self._server.start()

    def _look(self) -> None:
        pids = [worker.child.pid for worker in self._fleet.workers]
        self.samples["rss_kb"].append(max(_rss_kb(pid) for pid in pids))
        self.samples["fds"].append(max(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids))  # noqa: PTH208
        self.samples["threads"].append(max(len(os.listdir(f"/proc/{pid}/task")) for pid in pids))  # noqa: PTH208
        with contextlib.suppress(redis.RedisError, OSError):  # it is just being restarted
            databases = self._keys.info("keyspace").values()
            self.samples["keys"].append(float(sum(database["keys"] for database in databases)))

    def growth(self) -> Iterator[str]:
        """What was more in the last quarter than in the second, by more than noise."""
        if self._restart is not None:
            self._restart.join()
        for name, (units, share) in SLACK.items():
            second, last = self.quarters(name)
            if last > second * (1 + share) + units:
                yield f"{name} grew from {second:g} in the second quarter to {last:g} in the last"

    def quarters(self, name: str) -> tuple[float, float]:
        """The medians of the second and the last quarter."""
        values = self.samples[name]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[quarter : 2 * quarter] or values), statistics.median(
            values[-quarter:]
        )


def _rss_kb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB


def soak(place: Path, kind: str, seed: int, requests: int) -> tuple[str, list[str]]:
    """The figures of a soak, and what should not be."""
    with ExitStack() as stack:
        server: Server = RedisServer(place) if kind == "redis" else RabbitMqServer(place / "rabbit")
        stack.callback(server.close)
        server.start()
        valkey = server if isinstance(server, RedisServer) else ValkeyServer(place).start()
        stack.callback(valkey.stop)
        settings = {
            "BROKER_URL": server.url(server.port),
            "CACHE_URL": f"redis://127.0.0.1:{valkey.port}/1",
            "PREFIX": "soak",
            "MODELS__M__TARGET": "python:tests.support.python_models:tallied",
            **SHORT_LEASE,
        }
        fleet = stack.enter_context(Fleet(place / "fleet", WORKERS, settings)).start()
        keys = stack.enter_context(valkey.client())
        run = Soak(fleet, keys, server, requests)
        begun = time.monotonic()
        answered, failed = _ask(run, settings["BROKER_URL"])
        seconds = time.monotonic() - begun
        wrong = list(run.growth())
        if answered != requests or failed:
            wrong.append(f"{answered} replies, {failed} of them errors, to {requests} requests")
        try:
            fleet.stop()
        except AssertionError as error:
            wrong.append(str(error))
        grown = " ".join(f"{name}={a:g}->{b:g}" for name in SLACK for a, b in [run.quarters(name)])
        return (
            f"soak: broker={kind} seed={seed} requests={requests} replies={answered} "
            f"seconds={seconds:.0f} rate={answered / seconds:.0f}/s {grown} lost={requests - answered}",
            wrong,
        )


def _ask(run: Soak, url: str) -> tuple[int, int]:
    """How many were answered, and how many of them with an error."""
    answered = failed = 0
    broker = open_broker(url, Names("soak"), BrokerOptions(lease_seconds=LEASE_SECONDS))
    with Producer(broker=broker, prefix="soak") as producer:
        for reply in producer.map(run.payloads(), in_flight=4000, pack=64, reply_timeout=15):
            answered += 1
            failed += not reply.ok
    return answered, failed
