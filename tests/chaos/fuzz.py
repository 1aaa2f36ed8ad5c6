"""Bodies, properties and envelopes that nobody means, among requests that somebody does: no worker dies, no
neighbour goes unanswered, and of every message something is left: a reply, or a dead letter."""

import random
import time
from contextlib import ExitStack
from pathlib import Path

import orjson

from broker.base import JSON, Broker, Message, Settlement
from broker.redis.envelope import encode
from broker.urls import open_broker
from tests.chaos.mutations import body, message, wants_no_reply
from tests.chaos.servers import RabbitMqServer, RedisServer, Server
from tests.support.processes import WorkerProcess
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

_STRANGE, _PLAIN = 200, 20
_SECONDS = 60.0
_TARGET = "python:tests.support.python_models:gentle"


class Fuzz:
    """Rounds of strange messages and plain ones through one worker."""

    def __init__(self, server: Server, names: Names, rng: random.Random, worker: WorkerProcess) -> None:
        self._server, self._names, self._rng, self._worker = server, names, rng, worker
        self._broker: Broker = open_broker(server.url(server.port), names)
        self._broker.connect()
        self.sent = self.answers = self.letters = self.rounds = 0
        self.wrong: list[str] = []

    def round(self) -> None:
        """Send, and wait until something has come of everything."""
        strange = [message(self._rng, self._names) for _ in range(_STRANGE)]
        strange = [one for one in strange if not wants_no_reply(one)]
        plain = [self._plain(number) for number in range(_PLAIN)]
        mixed = [*strange, *plain]
        self._rng.shuffle(mixed)
        half = len(mixed) // 2
        self._broker.send(self._names.requests, mixed[:half])
        self._broker.send(self._names.misses, mixed[half:])
        raw = self._send_raw()
        expected = {one.correlation_id for one in plain}
        left = len(mixed) + raw

        def is_over() -> bool:
            nonlocal left
            for found in self._take():
                left -= 1
                expected.discard(found.correlation_id)
            return left <= 0 and not expected

        try:
            until(is_over, _SECONDS, "an end of the round")
        except AssertionError:
            self.wrong.append(
                f"round {self.rounds}: {left} of {len(mixed) + raw} left, unanswered: {expected}"
            )
        if self._worker.child.poll() is not None:
            self.wrong.append(f"round {self.rounds}: the worker ended: {self._worker.said[-2000:]}")
        self.sent += len(mixed) + raw
        self.rounds += 1

    def close(self) -> None:
        """Leave; what the worker says of faults of its own is a finding."""
        faults = self._worker.events("fault")
        if faults:
            self.wrong.append(f"{len(faults)} faults, such as {str(faults[0])[:1500]}")
        waiting = self._broker.depth()
        left = {queue: count for queue, count in waiting.items() if count}
        if left:
            self.wrong.append(f"left in queues: {left}")
        self._broker.close()

    def _plain(self, number: int) -> Message:
        name = f"plain-{self.rounds}-{number}"
        return Message(orjson.dumps({"payload": name}), JSON, name, self._names.replies)

    def _send_raw(self) -> int:
        """On Redis a stranger may push anything at all into the list."""
        if not isinstance(self._server, RedisServer):
            return 0
        items = [self._item() for _ in range(_PLAIN)]
        with self._server.client() as client:
            client.lpush(self._names.requests, *items)
        return len(items)

    def _item(self) -> bytes:
        inner = Message(body(self._rng).replace(b"reply", b"repl"), JSON, "raw")
        made = encode(inner, self._names.requests, "tag")
        at = self._rng.randrange(len(made))
        cut = self._rng.choice((made[:at], made[:at] + b"\xff" + made[at:], body(self._rng), made))
        return cut.replace(b"reply", b"repl") or b"x"

    def _take(self) -> list[Message]:
        found = self._broker.receive({self._names.replies: 200, self._names.dead: 200}, 0.2)
        self._broker.commit([Settlement(one, ()) for one in found])
        self.letters += sum(one.queue == self._names.dead for one in found)
        self.answers += sum(one.queue != self._names.dead for one in found)
        return found


def fuzz(place: Path, kind: str, seed: int, seconds: float) -> tuple[str, list[str]]:
    """A line of figures, and what was not as it must be."""
    names = Names(f"fuzz{seed}")
    with ExitStack() as stack:
        cache = ValkeyServer(place / "cache").start()
        stack.callback(cache.stop)
        made = {"redis": RedisServer, "rabbit": RabbitMqServer}
        server: Server = made[kind](place / "broker")
        server.start()
        stack.callback(server.close)
        worker = WorkerProcess(
            place / "worker",
            BROKER_URL=server.url(server.port),
            CACHE_URL=cache.url,
            PREFIX=names.prefix,
            MODELS__M__TARGET=_TARGET,
            LOG_LEVEL="info",
        )
        stack.callback(worker.stop)
        fuzzing = Fuzz(server, names, random.Random(seed), worker)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not fuzzing.wrong:
            fuzzing.round()
        fuzzing.close()
        line = (
            f"{kind}: fuzz seed={seed} rounds={fuzzing.rounds} sent={fuzzing.sent} "
            f"answers={fuzzing.answers} dead_letters={fuzzing.letters}"
        )
        return line, fuzzing.wrong
