"""A worker that kills itself at a step of its work: python -m tests.support.mortal LABEL PASSING DEATHS run

It is the ordinary worker in every other respect. The seams that worker.app joins (broker, cache, model) are
wrapped at the start of this process, so production code holds no trace of it. The process dies by SIGKILL at
the so-manyth passing of the label, if the directory DEATHS has room for one more death: it holds one file per
death, and as many numbered places as there may be.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import worker.__main__
from broker.amqp.connection import Channel
from broker.base import Broker, Committed, Message, Settlement
from worker import app, models

LABELS = (
    "after_claim",  # messages were received, nothing is done about them yet
    "after_lookup",  # the cache has been asked
    "after_model",  # a result exists, and is nowhere but in this process
    "after_cache_write",  # remembered, not answered
    "before_commit",  # answered, not sent
    "under_commit",  # sent, and nobody knows yet what came of it
    "between_confirm_and_acknowledge",  # sent, not acknowledged; on Redis: both, not reported
)


class Reaper:
    """Kills this process at the `passing`-th time that somebody passes `label`."""

    def __init__(self, label: str, passing: int, deaths: Path) -> None:
        self._label, self._left, self._deaths = label, passing, deaths

    def pass_by(self, label: str) -> None:
        """Perhaps the last thing this process does."""
        if label != self._label:
            return
        self._left -= 1
        if self._left <= 0 and self._takes_a_place():
            os.kill(os.getpid(), signal.SIGKILL)

    def _takes_a_place(self) -> bool:
        for place in sorted(self._deaths.glob("free-*")):
            try:
                place.rename(place.with_name(f"taken-{place.name[5:]}-{os.getpid()}"))
            except FileNotFoundError:
                continue  # somebody else's death
            return True
        return False


def make_room(deaths: Path, most: int) -> None:
    """Let at most so many processes die."""
    deaths.mkdir(parents=True)
    for number in range(most):
        (deaths / f"free-{number:04}").touch()


def died(deaths: Path) -> int:
    """How many did."""
    return len(list(deaths.glob("taken-*")))


class MortalBroker:
    """A broker that is passed by the reaper on its way in and out."""

    def __init__(self, broker: Broker, reaper: Reaper, *, acknowledges_apart: bool) -> None:
        self._broker, self._reaper, self._apart = broker, reaper, acknowledges_apart

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def receive(self, *arguments: Any) -> list[Message]:
        messages = self._broker.receive(*arguments)
        if messages:
            self._reaper.pass_by("after_claim")
        return messages

    def commit(self, settlements: Sequence[Settlement], *, wait: bool = True) -> Committed:
        if settlements:
            self._reaper.pass_by("before_commit")
        committed = self._broker.commit(settlements, wait=wait)
        if settlements and not wait:
            self._reaper.pass_by("under_commit")
        if committed.settled and not self._apart:
            self._reaper.pass_by("between_confirm_and_acknowledge")
        return committed


def wrap(reaper: Reaper) -> None:
    """Put the reaper at every seam of worker.app and worker.models."""
    app.open_broker = _mortal_brokers(app.open_broker, reaper)  # type: ignore[attr-defined]
    for name in ("HttpTarget", "PythonTarget"):
        setattr(models, name, _mortal_target(getattr(models, name), reaper))
    app.RedisCache = _mortal_cache(app.RedisCache, reaper)  # type: ignore[attr-defined]
    _watch_acknowledgements(reaper)


def _mortal_brokers(open_broker: Callable[..., Broker], reaper: Reaper) -> Callable[..., Any]:
    def opened(url: str, *arguments: Any, **options: Any) -> MortalBroker:
        broker = open_broker(url, *arguments, **options)
        return MortalBroker(broker, reaper, acknowledges_apart=url.startswith(("pyamqp", "amqp")))

    return opened


def _mortal_target(kind: Any, reaper: Reaper) -> Any:
    class MortalTarget(kind):  # type: ignore[misc]
        def call(self, payload: bytes, traceparent: str | None = None) -> bytes:
            result: bytes = super().call(payload, traceparent)
            reaper.pass_by("after_model")
            return result

    return MortalTarget


def _mortal_cache(kind: Any, reaper: Reaper) -> Any:
    class MortalCache(kind):  # type: ignore[misc]
        def read(self, names: Sequence[str]) -> Any:
            values = super().read(names)
            reaper.pass_by("after_lookup")
            return values

        def write(self, writes: Sequence[Any]) -> Any:
            refused = super().write(writes)
            if writes:
                reaper.pass_by("after_cache_write")
            return refused

    return MortalCache


def _watch_acknowledgements(reaper: Reaper) -> None:
    """Every acknowledgement goes through here, those of a commit at once."""
    acknowledge = Channel.acknowledge

    def passed(self: Channel, *arguments: Any) -> None:
        reaper.pass_by("between_confirm_and_acknowledge")
        acknowledge(self, *arguments)

    Channel.acknowledge = passed  # type: ignore[method-assign]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the worker's own command line, mortal."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.mortal", description=__doc__)
    parser.add_argument("label", choices=LABELS)
    parser.add_argument("passing", type=int, help="die at this passing of the label")
    parser.add_argument("deaths", type=Path, help="as make_room left it")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the worker's: run")
    options = parser.parse_args(argv)
    wrap(Reaper(options.label, options.passing, options.deaths))
    return worker.__main__.main(options.command)


if __name__ == "__main__":
    sys.exit(main())
