"""Looks at the queues now and then, on a thread and a connection of its own, so that neither the loop nor a
scrape ever waits for it.

Paused is what a queue says, not a key of some server: every broker has queues, and all workers see them.
"""

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

from broker.base import Broker, BrokerError
from worker.queues import Queues

_EVERY_SECONDS, _FIRST_SECONDS = 1.0, 3.0
_CLOSE_SECONDS = 5.0


class LookoutObserver(Protocol):
    """What is told of the queues, on the lookout's thread."""

    def queues_seen(self, queues: Queues) -> None:
        """They have been looked at."""

    def paused(self, is_paused: bool) -> None:
        """Work has been paused, or goes on: once per change."""


class Lookout:
    """Begins with `start`. `make_broker` may raise BrokerError, and is asked again then; meanwhile what was
    seen last holds."""

    def __init__(
        self,
        make_broker: Callable[[], Broker],
        queues: Queues,
        observer: LookoutObserver | None = None,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._make_broker, self._queues, self._observer = make_broker, queues, observer
        self._every_seconds = every_seconds
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        self._was_paused, self._has_tried = False, threading.Event()

    def start(self) -> None:
        """Look from now on. Returns after the first look, or the first failure, or a few seconds: a worker
        that starts while work is paused takes nothing."""
        self._thread.start()
        self._has_tried.wait(_FIRST_SECONDS)

    def close(self) -> None:
        """Look no more."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._watch(self._make_broker())
            except BrokerError as error:
                self._queues.lost(str(error))
            self._has_tried.set()
            self._is_over.wait(self._every_seconds)

    def _watch(self, broker: Broker) -> None:
        with contextlib.closing(broker):
            broker.connect()
            while not self._is_over.is_set():
                broker.keep_alive()
                self._queues.seen(broker.depth(), broker.oldest())
                self._tell()
                self._has_tried.set()
                self._is_over.wait(self._every_seconds)

    def _tell(self) -> None:
        if self._observer is None:
            return
        self._observer.queues_seen(self._queues)
        if self._queues.is_paused != self._was_paused:
            self._was_paused = self._queues.is_paused
            self._observer.paused(self._was_paused)
