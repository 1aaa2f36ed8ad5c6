"""The two kinds of server as a storm sees them: killed, started again, its clients thrown out, searched."""

import contextlib
import subprocess
from pathlib import Path
from typing import Protocol

import redis

from tests.support.cluster import RabbitNode
from tests.support.servers import RabbitServer, ValkeyServer
from wire.names import Names

# Keys under the prefix that are neither a queue nor bound to expire, and why each may stay.
LASTING = {
    "leases": "who is alive: empty when nobody is",
    "owners": "whose each private reply queue is: empty when there is none",
    "reply-queues": "the reply queues that stay, by their names",
    "deliveries": "how often the messages of the dead were delivered",
}


class Server(Protocol):
    """What a storm does to a server, and what must be true of it afterwards."""

    port: int

    def url(self, port: int) -> str:
        """Its URL behind a proxy at `port`."""

    def kill(self) -> None:
        """kill -9; a start brings back what it had confirmed."""

    def start(self) -> object:
        """Ready when this returns."""

    def throw_out(self) -> None:
        """End every connection from its side."""

    def remains(self, names: Names, own_queue: str, dead_producers: int) -> list[str]:
        """What should not be there when all work is done and producers have left, though workers live."""

    def remains_at_last(self, names: Names) -> list[str]:
        """The same when workers have left, too."""

    def close(self) -> None:
        """Gone, whatever state it is in."""


class RedisServer(ValkeyServer):
    """A Valkey that has on disk what it has confirmed."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, appendfsync="always")

    def url(self, port: int) -> str:  # type: ignore[override]
        return f"redis://127.0.0.1:{port}/0"

    def kill(self) -> None:
        self.stop(9)

    def throw_out(self) -> None:
        with self.client() as client, contextlib.suppress(redis.RedisError):
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def remains(self, names: Names, own_queue: str, dead_producers: int) -> list[str]:
        with self.client() as client:
            wrong = [f"in flight: {key!r}" for key in client.scan_iter(f"{names.in_flight('')}*")]
            wrong += [f"owned: {queue!r}" for queue in client.hkeys(names.owners)]
            for key in client.scan_iter(f"{names.replies}.*"):
                if key.decode() != own_queue:
                    wrong.append(f"private reply queue: {key!r}")
            return wrong

    def remains_at_last(self, names: Names) -> list[str]:
        with self.client() as client:
            wrong = [f"lease: {holder!r}" for holder in client.zrange(names.leases, 0, -1)]
            for key in client.scan_iter(f"{names.prefix}*"):
                is_queue = key.decode().startswith(f"{names.prefix}.") and client.type(key) == b"list"
                lasts = key.decode().removeprefix(f"{names.prefix}:") in LASTING
                if not is_queue and not lasts and client.ttl(key) < 0:
                    wrong.append(f"neither a queue nor bound to expire: {key!r}")
            return wrong

    def close(self) -> None:
        self.stop(9)


class RabbitMqServer(RabbitNode):
    """A RabbitMQ node of its own."""

    def __init__(self, place: Path) -> None:
        super().__init__(place, "chaos@localhost")

    @staticmethod
    def installed() -> bool:
        return RabbitServer.available()

    def url(self, port: int) -> str:  # type: ignore[override]
        return f"pyamqp://guest:guest@127.0.0.1:{port}//"

    def throw_out(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.ctl("close_all_connections", "chaos")

    def remains(self, names: Names, own_queue: str, dead_producers: int) -> list[str]:
        """A private queue of the killed stays for as long as `x-expires` says: that one may hold replies."""
        wrong: list[str] = []
        private = 0
        columns = ("name", "messages", "messages_ready", "consumers")
        for line in self.ctl("list_queues", *columns, "--silent").splitlines():
            queue, count, ready, consumers = line.split("\t")
            is_private = queue.startswith(f"{names.replies}.") and queue != own_queue
            private += is_private
            if queue != names.dead and not is_private and count not in ("0", "messages"):
                wrong.append(f"{count} messages in {queue}, {ready} of them ready for {consumers} consumers")
        if private > dead_producers:
            wrong.append(f"{private} private reply queues, and {dead_producers} producers were killed")
        return wrong

    def remains_at_last(self, names: Names) -> list[str]:
        listed = self.ctl("list_connections", "name", "--silent").splitlines()
        return [f"a connection: {line}" for line in listed if "->" in line]
