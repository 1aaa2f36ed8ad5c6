"""One storm over one kind of broker, and the verdict on it."""

import contextlib
import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from tests.chaos.herd import Herd
from tests.chaos.servers import RabbitMqServer, RedisServer, Server
from tests.chaos.storm import Storm
from tests.support.fleet import LEASE_SECONDS, SHORT_LEASE, Fleet
from tests.support.ledger import Ledger
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.stub_model import Answer, StubModel
from tests.support.waiting import until
from wire.names import Names

WORKERS, PRODUCERS = 3, 2
MOST_WAITING = 500
SETTLE_SECONDS = 60.0
EXPLAINED_ERRORS = {"model_unavailable", "model_timeout", "poison"}
EXPLAINED_LETTERS = {"undeliverable", "poison"}


class Flaky:
    """A model that answers, now and then late, with 500, or not at all."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def __call__(self, payload: Any) -> Answer:
        time.sleep(min(0.3, self._rng.expovariate(1 / 0.002)))
        luck = self._rng.random()
        if luck < 0.01:
            return None
        return (500, b'{"error":"flaky"}', {}) if luck < 0.04 else (200, json.dumps(payload).encode(), {})


class Chaos:
    """A whole system with a storm over it. `kind` is redis or rabbit; everything is made inside `stack`."""

    def __init__(self, place: Path, kind: str, seed: int, stack: ExitStack) -> None:
        self.kind, self.seed, self.names = kind, seed, Names("chaos")
        rng = random.Random(f"{seed} {kind}")
        self.server: Server = RedisServer(place) if kind == "redis" else RabbitMqServer(place / "rabbit")
        stack.callback(self.server.close)
        self.server.start()
        self.proxy = stack.enter_context(closing(Proxy(self.server.port)))
        url = self.server.url(self.proxy.port)
        cache = f"redis://127.0.0.1:{self.proxy.port}/1"
        if kind != "redis":
            other = ValkeyServer(place).start()
            stack.callback(other.stop)
            cache = f"redis://127.0.0.1:{other.port}/1"
        model = stack.enter_context(StubModel(Flaky(random.Random(rng.random()))))
        settings = {
            "BROKER_URL": url,
            "CACHE_URL": cache,
            "PREFIX": self.names.prefix,
            "IN_FLIGHT": "64",
            "MODELS__M__TARGET": model.url,
            "MODELS__M__ATTEMPTS": "8",
            "MODELS__M__WAIT_INITIAL_SECONDS": "0.02",
            "MODELS__M__WAIT_MAX_SECONDS": "0.5",
            **SHORT_LEASE,
        }
        self.fleet = stack.enter_context(Fleet(place / "fleet", WORKERS, settings)).start()
        self.ledger = stack.enter_context(closing(Ledger(url, self.names, lease_seconds=LEASE_SECONDS)))
        self.herd = stack.enter_context(
            closing(Herd(place / "herd", PRODUCERS, url, self.names.prefix, seed, LEASE_SECONDS))
        )
        self.storm = Storm(rng, self.fleet, self.herd, self.server, self.proxy, LEASE_SECONDS)
        self._begun = time.monotonic()

    def blow(self, seconds: float) -> None:
        """Ask while things break; nothing is broken afterwards."""
        rng = random.Random(self.seed)
        end = time.monotonic() + seconds
        self.storm.start()
        try:
            while time.monotonic() < end and self.storm.failure is None:
                if self.ledger.lost < MOST_WAITING:
                    self.ledger.send([rng.choice((1, 10, 20)) for _ in range(3)])
                self.ledger.listen(0.05)
        finally:
            self.storm.end()

    def verdict(self) -> list[str]:
        """Let everything settle, and say what should not be."""
        self.herd.stop()
        self.ledger.settle(SETTLE_SECONDS / 2)
        wrong = self.herd.wait(SETTLE_SECONDS)
        wrong += self._judge_replies()
        wrong += self._judge_letters()
        with contextlib.suppress(AssertionError):
            until(lambda: not self._remains(), SETTLE_SECONDS, "nothing that stays behind")
        wrong += self._remains()
        self.ledger.close()
        try:
            self.fleet.stop()
        except AssertionError as error:
            wrong.append(str(error))
        return wrong + self.server.remains_at_last(self.names)

    def _remains(self) -> list[str]:
        return self.server.remains(self.names, self.ledger.queue, len(self.herd.dead))

    def _judge_replies(self) -> Iterator[str]:
        ledger = self.ledger
        if ledger.lost:
            yield f"{ledger.lost} requests have no reply"
        if ledger.unexpected or ledger.wrong:
            yield f"replies to nothing: {ledger.unexpected[:3]}; wrong ones: {ledger.wrong[:3]}"
        if self.kind == "redis" and ledger.doubly_answered:
            yield f"answered twice, where a commit is one step: {sorted(ledger.doubly_answered)[:20]}"
        if unexplained := (ledger.kinds.keys() | self.herd.kinds()) - EXPLAINED_ERRORS:
            yield f"errors that nobody made: {sorted(unexplained)}"
        waiting = {queue: count for queue, count in ledger.depth().items() if count}
        waiting.pop(self.names.dead, None)
        if waiting:
            yield f"still waiting: {waiting}"

    def _judge_letters(self) -> Iterator[str]:
        """A reply to nobody is explained by the death of who asked, or by its leave: a copy came late."""
        left = self.herd.left()
        for letter in self.ledger.letters():
            headers = letter.headers
            reason, queue = str(headers["reason"]), str(headers["original"]["queue"])
            if reason not in EXPLAINED_LETTERS:
                yield f"a dead letter: {reason} of {queue}: {headers['detail']}"
            elif reason == "undeliverable" and headers["dead_at"] < left.get(queue, 0.0):
                yield f"undeliverable, and it was waited for: {queue}: {headers['detail']}"
            elif reason == "undeliverable" and not self.names.is_reply_queue(queue):
                yield f"undeliverable, and no reply: {queue}"

    def figures(self) -> str:
        """The run in a line."""
        ledger, counts = self.ledger, self.storm.counts
        return (
            f"chaos: broker={self.kind} seed={self.seed} seconds={time.monotonic() - self._begun:.0f} "
            f"requests={ledger.sent + self.herd.total('sent')} "
            f"replies={sum(ledger.replies.values()) + self.herd.total('answered')} "
            f"duplicates={ledger.duplicates} kills={counts['kills'] + counts['producer_kills']} "
            f"stops={counts['stops']} cuts={counts['cuts']} server_restarts={counts['server_restarts']} "
            f"lost={ledger.lost}"
        )


def chaos(place: Path, kind: str, seed: int, seconds: float) -> tuple[str, list[str]]:
    """The figures of a storm, and what should not be."""
    with ExitStack() as stack:
        run = Chaos(place, kind, seed, stack)
        run.blow(seconds)
        wrong = run.verdict()
        return run.figures(), wrong
