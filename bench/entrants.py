"""A contestant at work: its worker as a process, its queue filled, its replies counted. One shape for all."""

import contextlib
from typing import Any, Protocol

from bench.contestants import Peer, peers_python
from bench.payloads import KEYS
from bench.process import Child, ours, run_json
from bench.stage import QueueLength, Stage
from broker.urls import open_broker
from wire.names import Names


class Entrant(Protocol):
    """One contestant in one visit."""

    name: str
    kind: str

    def start(self) -> Child:
        """Start its worker."""

    def fill(self, count: int, size: int, pack: int = 1, keys: int = KEYS) -> dict[str, Any]:
        """Enqueue so many requests of so many payloads: `seconds`, `count` and `messages`. Raises Failed."""

    def remember(self, size: int, worker: Child) -> None:
        """Have all payloads of this size in the cache. Raises Failed."""

    def ask(self, count: int, size: int) -> list[float]:
        """Seconds of each of so many requests, one in flight at a time. Raises Failed."""

    def replies(self) -> int:
        """How many reply messages wait."""

    def clear(self) -> None:
        """Drop what waits, replies too."""

    def close(self) -> None:
        """Leave."""


class PeerEntrant:
    """A peer, on a queue of its own for this visit. Its replies are a list in the cache's database."""

    def __init__(self, stage: Stage, peer: Peer, visit: int) -> None:
        self.name, self.kind = peer.name, peer.kind
        self._stage, self._peer = stage, peer
        self._queue = f"bench{visit}"
        self._settings = {
            "BENCH_QUEUE": self._queue,
            "BENCH_CACHE_URL": stage.cache_url,
            "BENCH_QUEUE_URL": stage.queue_url(peer.kind, "amqp"),
            **peer.environ,
        }
        stage.queues.flushdb()

    def start(self) -> Child:
        """See Entrant."""
        command = self._peer.command_line(self._settings["BENCH_QUEUE_URL"], self._queue)
        return Child(self.name, command, self._stage.place / "logs", self._settings)

    def fill(self, count: int, size: int, pack: int = 1, keys: int = KEYS) -> dict[str, Any]:
        """See Entrant. The first request connects and is not timed. Peers do not pack."""
        assert (pack, keys) == (1, KEYS)
        said = self._drive("fill", count + 1, size)
        return {**said, "messages": count + 1}

    def remember(self, size: int, worker: Child) -> None:  # noqa: ARG002 - it has no part in it
        """See Entrant. Written by the sender: some peers take seconds for a thousand."""
        self._drive("remember", KEYS, size)

    def ask(self, count: int, size: int) -> list[float]:
        """See Entrant. The first connects and does not count."""
        return list(self._drive("ask", count + 1, size)["seconds"][1:])

    def replies(self) -> int:
        """See Entrant."""
        return int(self._stage.cache.llen(f"{self._queue}.replies"))

    def clear(self) -> None:
        """See Entrant."""
        self._stage.cache.delete(f"{self._queue}.replies")

    def close(self) -> None:
        """See Entrant."""
        self.clear()

    def _drive(self, action: str, count: int, size: int) -> Any:
        arguments = [str(peers_python()), "-m", "bench.peers.drive", self._peer.module, action]
        return run_json([*arguments, f"--count={count}", f"--size={size}"], self._settings, 120)


class OwnEntrant:
    """Our worker, with default settings but for its log level. Its prefix, and so its cache, stays."""

    def __init__(self, stage: Stage, name: str, kind: str, **settings: str) -> None:
        self.name, self.kind, self._stage = name, kind, stage
        self.prefix = f"bench-{kind}"
        self.names = Names(self.prefix)
        self._url = stage.queue_url(kind)
        self._settings = {
            "RECOLLECT_BROKER_URL": self._url,
            "RECOLLECT_CACHE_URL": stage.cache_url,
            "RECOLLECT_PREFIX": self.prefix,
            "RECOLLECT_MODELS__M__TARGET": "python:bench.models:analyse",
            "RECOLLECT_LOG_LEVEL": "warning",
            **{f"RECOLLECT_{setting}": value for setting, value in settings.items()},
        }
        self.clear()
        self._length = QueueLength(stage, kind, self.names.replies)

    def start(self) -> Child:
        """See Entrant."""
        return Child(self.name, ours("-m", "worker", "run"), self._stage.place / "logs", self._settings)

    def fill(
        self, count: int, size: int, pack: int = 1, keys: int = KEYS, *, first: int = 0
    ) -> dict[str, Any]:
        """See Entrant. `first` is the number of the first payload."""
        more = (f"--pack={pack}", f"--keys={keys}", f"--first={first}")
        said: dict[str, Any] = self._send("fill", count, size, *more)
        return said

    def remember(self, size: int, worker: Child) -> None:
        """See Entrant. By misses."""
        messages = self.fill(KEYS, size, 10)["messages"]
        worker.wait_until(lambda: self.replies() >= messages, 60, "last reply")
        self.clear()

    def ask(self, count: int, size: int) -> list[float]:
        """See Entrant."""
        return list(self._send("ask", count, size)["seconds"])

    def replies(self) -> int:
        """See Entrant."""
        return self._length()

    def clear(self) -> None:
        """See Entrant."""
        broker = open_broker(self._url, self.names)
        broker.connect()
        try:
            for queue in (*self.names.worked, self.names.replies):
                broker.purge(queue)
        finally:
            broker.close()

    def close(self) -> None:
        """See Entrant."""
        with contextlib.suppress(Exception):
            self.clear()
        self._length.close()

    def _send(self, action: str, count: int, size: int, *more: str) -> Any:
        known = (f"--url={self._url}", f"--prefix={self.prefix}", f"--count={count}", f"--size={size}")
        return run_json(ours("-m", "bench.send", action, *known, *more), {}, 300)
