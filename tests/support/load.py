"""Requests that never stop coming, whatever happens to the broker."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson

from broker.base import NDJSON, Broker, BrokerError, Message
from broker.urls import open_broker
from wire.names import Names

_EVERY_SECONDS = 0.05
_PACK = 5
Make = Callable[[int], dict[str, Any]]


def familiar(number: int) -> dict[str, Any]:
    """Of ten requests nine have been asked before."""
    return {"payload": {"n": number if number % 10 == 0 else number % 10}}


def known(number: int) -> dict[str, Any]:
    """Every request has been asked before, where `familiar` ones have."""
    return {"payload": {"n": 1 + number % 9}}


def unknown(number: int) -> dict[str, Any]:
    """Every request is new."""
    return {"payload": {"new": number}}


class Load:
    """Sends five requests, as `make` says, twenty times a second, from `start` to `close`. Nobody waits for
    replies."""

    def __init__(self, url: str, names: Names) -> None:
        self.make: Make = familiar
        self._url, self._names = url, names
        self._numbers = itertools.count()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> "Load":
        self._thread.start()
        return self

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(30)

    @contextlib.contextmanager
    def broker(self) -> Any:
        """A connection of one's own."""
        with contextlib.closing(open_broker(self._url, self._names)) as broker:
            broker.connect()
            yield broker

    def messages(self, count: int, pack: int, make: Make, reply_to: str | None = None) -> list[Message]:
        """So many messages of `pack` requests each."""
        return [self._message(pack, make, reply_to) for _ in range(count)]

    def _message(self, pack: int, make: Make, reply_to: str | None) -> Message:
        rows = [{"reply": reply_to is not None, **make(next(self._numbers))} for _ in range(pack)]
        body = b"\n".join(orjson.dumps(row) for row in rows)
        return Message(body, NDJSON, "load", reply_to, {"enqueued_at": time.time()})

    def _run(self) -> None:
        while not self._is_over.is_set():
            with contextlib.suppress(BrokerError), self.broker() as broker:
                self._send_on(broker)
            self._is_over.wait(_EVERY_SECONDS)

    def _send_on(self, broker: Broker) -> None:
        while not self._is_over.wait(_EVERY_SECONDS):
            broker.keep_alive()
            broker.send(self._names.requests, self.messages(1, _PACK, self.make))
