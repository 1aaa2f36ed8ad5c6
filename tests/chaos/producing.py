"""A pipeline of its own process: maps numbers until SIGTERM, and writes down how far it has come.

python -m tests.chaos.producing URL PREFIX STATUS SEED LEASE_SECONDS
"""

import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from broker.base import BrokerOptions
from broker.urls import open_broker
from producer.client import Producer
from wire.names import Names
from wire.reply import Reply

_DIFFERENT = 5000  # payloads: some are new, some are hits
_PACE_SECONDS = 0.002
_REPLY_TIMEOUT_SECONDS = 10.0
_STATUS_SECONDS = 0.5


class Pipeline:
    """What it has asked, what was answered, and what of that was wrong."""

    def __init__(self, status: Path, seed: int) -> None:
        self._status, self._rng = status, random.Random(seed)
        self._asked: dict[int, Any] = {}
        self._written = 0.0
        self.stopping = False
        self.sent = self.answered = self.wrong = 0
        self.kinds: Counter[str] = Counter()
        self.inbox: str | None = None

    def payloads(self) -> Iterator[Any]:
        """One after the other, at a bounded pace, until it is told to stop."""
        while not self.stopping:
            self._asked[self.sent] = payload = {"n": self._rng.randrange(_DIFFERENT)}
            self.sent += 1
            yield payload
            time.sleep(_PACE_SECONDS)

    def take(self, reply: Reply) -> None:
        """A reply that nobody waits for any more, or to something else, is wrong."""
        payload = self._asked.pop(reply.index if reply.index is not None else -1, None)
        self.answered += 1
        if reply.error is not None:
            self.kinds[str(reply.error["kind"])] += 1
        elif payload is None or reply.result != payload:
            self.wrong += 1

    def write(self, *, done: float = 0.0) -> None:
        """The status, for whoever started this; twice a second, and when it was `done` (Unix seconds)."""
        if not done and time.monotonic() - self._written < _STATUS_SECONDS:
            return
        self._written = time.monotonic()
        shown = {name: getattr(self, name) for name in ("sent", "answered", "wrong", "kinds", "inbox")}
        new = self._status.with_suffix(".new")
        new.write_text(json.dumps({**shown, "done": done}))
        new.replace(self._status)


def main(argv: Sequence[str]) -> int:
    """Map until SIGTERM, then until all is answered."""
    url, prefix, status, seed, lease_seconds = argv
    pipeline = Pipeline(Path(status), int(seed))
    signal.signal(signal.SIGTERM, lambda *_: setattr(pipeline, "stopping", True))
    broker = open_broker(url, Names(prefix), BrokerOptions(lease_seconds=float(lease_seconds)))
    with Producer(broker=broker, prefix=prefix, reconnect_seconds=120) as producer:
        replies = producer.map(
            pipeline.payloads(), in_flight=200, pack=10, reply_timeout=_REPLY_TIMEOUT_SECONDS
        )
        for reply in replies:
            pipeline.inbox = producer._traffic._inbox
            pipeline.take(reply)
            pipeline.write()
        pipeline.write(done=time.time())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
