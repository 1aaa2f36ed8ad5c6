"""The servers of a run, on free ports, and what a contestant has to know of them."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import kombu
import redis

from bench import proc
from bench.plan import Plan
from bench.results import Results
from tests.support.servers import RabbitServer, ValkeyServer

NO_RABBIT = "RabbitMQ is not installed on this machine"


class Stage:
    """Both servers, a directory, and the results so far. A context manager.

    One Valkey serves cache (database 0) and queues (database 1) of all contestants alike: append-only file
    with `appendfsync everysec`, no snapshots, no rewriting in the middle of a round.
    """

    def __init__(
        self, place: Path, plan: Plan, results: Results, say: Callable[[str], None] | None = None
    ) -> None:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        self.place, self.plan, self.results = place, plan, results
        self._say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self._begun = time.monotonic()
        self.valkey = ValkeyServer(place / "valkey", auto_aof_rewrite_percentage="0")
        self.rabbit: RabbitServer | None = None

    def __enter__(self) -> "Stage":
        self.valkey.start()
        self.cache = self.valkey.client(0)
        self.queues = self.valkey.client(1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.valkey.stop()
        if self.rabbit is not None:
            self.rabbit.stop()
        shutil.rmtree(self.place / "valkey", ignore_errors=True)
        shutil.rmtree(self.place / "rabbit", ignore_errors=True)

    def start_rabbit(self) -> bool:
        """Have a RabbitMQ, with as many schedulers as cores; False where it is not installed."""
        if not RabbitServer.available():
            self.results.skipped["RabbitMQ"] = NO_RABBIT
            return False
        if self.rabbit is None:
            (self.place / "rabbit").mkdir()
            self.rabbit = RabbitServer(self.place / "rabbit", erlang="")
            self.rabbit.start()
        return True

    def say(self, line: str) -> None:
        """Progress, with the minutes since the beginning."""
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        self._say(f"[{minutes:02}:{seconds:02}] {line}")

    @property
    def cache_url(self) -> str:
        """Where results are remembered, and where peers reply."""
        return f"redis://127.0.0.1:{self.valkey.port}/0"

    def queue_url(self, kind: str, scheme: str = "pyamqp") -> str:
        """The broker, `redis` or `rabbit`; `scheme` is what the client calls AMQP."""
        if kind == "redis":
            return f"redis://127.0.0.1:{self.valkey.port}/1"
        assert self.rabbit is not None
        return f"{scheme}://guest:guest@127.0.0.1:{self.rabbit.port}/%2F"

    def server_cpu_seconds(self, kind: str) -> float:
        """What a contestant's servers have spent so far: Valkey, where all look up, and the broker."""
        info = self.cache.info("cpu")
        spent = float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
        if kind == "rabbit" and self.rabbit is not None:
            spent += proc.cpu_seconds(self.rabbit.session)
        return spent


class QueueLength:
    """How many messages wait in one queue: LLEN, or a passive declare, on a connection of its own."""

    def __init__(self, stage: Stage, kind: str, queue: str) -> None:
        self._queue = queue
        self._client: redis.Redis | None = stage.queues if kind == "redis" else None
        if self._client is None:
            self._connection = kombu.Connection(stage.queue_url(kind))
            self._channel = self._connection.default_channel

    def __call__(self) -> int:
        """The length now."""
        if self._client is not None:
            return int(self._client.llen(self._queue))
        return int(self._channel.queue_declare(self._queue, passive=True).message_count)

    def close(self) -> None:
        """Leave."""
        if self._client is None:
            self._connection.close()
