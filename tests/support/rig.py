"""A running system for one test: a real broker, a real cache, a stub model, a worker process, a producer."""

import contextlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import redis

from broker.base import Broker, Message, Settlement
from broker.urls import open_broker
from producer.client import Producer
from tests.support.processes import WorkerProcess
from tests.support.servers import ValkeyServer
from tests.support.stub_model import StubModel
from tests.support.waiting import until
from wire.names import Names
from wire.reply import Reply


class Rig:
    """`settings` are the worker's, without RECOLLECT_; the model is called `m`."""

    def __init__(
        self,
        place: Path,
        broker_url: str,
        cache: ValkeyServer,
        model: StubModel,
        prefix: str,
        **settings: str,
    ) -> None:
        self.names, self.model, self.cache_server = Names(prefix), model, cache
        self._place, self._broker_url = place, broker_url
        self.settings = {
            "BROKER_URL": broker_url,
            "CACHE_URL": f"redis://127.0.0.1:{cache.port}/1",
            "PREFIX": prefix,
            "MODELS__M__TARGET": model.url,
            "MODELS__M__WAIT_INITIAL_SECONDS": "0.01",
            "MODELS__M__WAIT_MAX_SECONDS": "0.02",
            **settings,
        }
        self.workers: list[WorkerProcess] = []
        self.producer = Producer(broker_url, prefix=prefix)
        self.cache = cache.client(1)

    def work(
        self,
        count: int = 1,
        *,
        module: Sequence[str] = ("worker", "run"),
        python: str = sys.executable,
        **settings: str,
    ) -> WorkerProcess:
        """Start workers; the last one."""
        for _ in range(count):
            home = self._place / f"w{len(self.workers)}"
            known = {**self.settings, **settings}
            self.workers.append(WorkerProcess(home, module=module, python=python, **known))
        return self.workers[-1]

    def call(self, payload: Any, **directives: Any) -> Reply:
        return self.producer.call(payload, timeout=30, **directives)

    def broker(self) -> Broker:
        """A connection for raw messages; the caller closes it."""
        opened = open_broker(self._broker_url, self.names)
        opened.connect()
        return opened

    def ask(self, *messages: Message, replies: int | None = None) -> list[Message]:
        """Send raw messages; the reply messages that come to the shared reply queue."""
        broker = self.broker()
        try:
            broker.send(self.names.requests, messages)
            return collect(broker, self.names.replies, len(messages) if replies is None else replies)
        finally:
            broker.close()

    def entries(self) -> dict[bytes, bytes]:
        """What the cache holds under this prefix."""
        names: Iterable[bytes] = self.cache.scan_iter(f"{self.names.prefix}:k1:*")
        return {name: value for name in names if (value := self.cache.get(name)) is not None}

    def close(self) -> None:
        self.model.released.set()  # a worker that drains would wait for a call that hangs
        self.producer.close()
        for worker in self.workers:
            worker.stop()
        with contextlib.suppress(redis.RedisError):
            self.cache.close()


def collect(broker: Broker, queue: str, count: int) -> list[Message]:
    """So many messages from `queue`, acknowledged."""
    found: list[Message] = []

    def enough() -> bool:
        messages = broker.receive({queue: count - len(found)}, 0.5)
        broker.commit([Settlement(message, ()) for message in messages])
        found.extend(messages)
        return len(found) >= count

    until(enough, 30, f"{count} messages in {queue}; got {len(found)}")
    return found
