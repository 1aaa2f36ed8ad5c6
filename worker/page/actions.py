"""What may be done from the page, where that is allowed."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

import redis

from broker.base import Broker
from wire.names import Names
from worker.explain import Unanswerable
from worker.forgetting import forget
from worker.letters import Letters, Wanted, replay_refusal, replayed, settle, survey
from worker.queues import set_paused

_EXPECTED = "expected replay, purge_dead, purge_cache, pause or resume"


class Actions:
    """`open_broker` gives a broker that is not connected yet, `connect` a client of the cache."""

    def __init__(
        self, open_broker: Callable[[], Broker], connect: Callable[[], "redis.Redis"], names: Names
    ) -> None:
        self._open_broker, self._connect, self._names = open_broker, connect, names

    def do(self, asked: Any) -> dict[str, Any]:
        """Carry out `{"action": …}`. Raises Unanswerable, BrokerError, redis.RedisError, OSError."""
        action = asked.get("action") if isinstance(asked, dict) else None
        if action in ("replay", "purge_dead"):
            return self._settle(_text(asked, "reason", optional=True), is_replay=action == "replay")
        if action == "purge_cache":
            return self._purge_cache(str(_text(asked, "model")))
        if action in ("pause", "resume"):
            return self._pause(is_paused=action == "pause")
        raise Unanswerable(f"unknown action {str(action)[:40]!r}; {_EXPECTED}")

    def _settle(self, reason: str | None, *, is_replay: bool) -> dict[str, Any]:
        names = self._names
        with closing(self._open_broker()) as broker:
            broker.connect()
            letters = Letters(broker, names)
            found = survey(letters, Wanted(reason=reason), lambda letter: _refusal(letter, names, is_replay))
            refused = len(found.counts) - len(found.acceptable())
            walked = settle(
                letters,
                found.acceptable(),
                lambda letter: [replayed(letter, names, None)] if is_replay else [],
            )
        said = f"{walked.settled:,} {'sent back' if is_replay else 'dropped'}"
        return {"done": walked.settled, "refused": refused, "said": said}

    def _purge_cache(self, model: str) -> dict[str, Any]:
        with self._connect() as client:
            count = forget(client, self._names, model)
        said = f"{count:,} results of {model} forgotten" if count else f"nothing of {model} was remembered"
        return {"done": count, "refused": 0, "said": said}

    def _pause(self, *, is_paused: bool) -> dict[str, Any]:
        with closing(self._open_broker()) as broker:
            broker.connect()
            set_paused(broker, self._names, is_paused=is_paused)
        return {"done": 1, "refused": 0, "said": "paused" if is_paused else "resumed"}


def _refusal(letter: Any, names: Names, is_replay: bool) -> str | None:
    return replay_refusal(letter, names) if is_replay else None


def _text(asked: dict[str, Any], name: str, *, optional: bool = False) -> str | None:
    value = asked.get(name)
    if (isinstance(value, str) and value) or (optional and value is None):
        return value
    raise Unanswerable(f"`{name}` must be a text" + (" or null" if optional else ""))
