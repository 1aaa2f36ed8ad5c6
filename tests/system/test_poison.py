"""A request that kills whoever works on it is found, answered and set aside; nobody else is."""

from pathlib import Path

import orjson
import pytest

from broker.base import JSON, NDJSON, Message, Settlement
from broker.urls import open_broker
from tests.support.fleet import SHORT_LEASE, Fleet
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

REQUESTS = 500
GUILTY = 250


def requests(packed: bool, replies: str) -> list[Message]:
    lines = [orjson.dumps({"payload": "die" if n == GUILTY else n, "id": str(n)}) for n in range(REQUESTS)]
    if packed:
        return [Message(b"\n".join(lines), NDJSON, "pack", replies)]
    return [Message(line, JSON, f"m{n}", replies) for n, line in enumerate(lines)]


def settings(broker_url: str, cache: ValkeyServer, prefix: str) -> dict[str, str]:
    return {
        "BROKER_URL": broker_url,
        "CACHE_URL": f"redis://127.0.0.1:{cache.port}/1",
        "PREFIX": prefix,
        "IN_FLIGHT": "500",
        "MODELS__M__TARGET": "python:tests.support.python_models:deadly",
        "MODELS__M__CONCURRENCY": "4",
        **SHORT_LEASE,
    }


@pytest.mark.parametrize("packed", [False, True], ids=["single", "packed"])
def test_exactly_the_guilty_one_is_condemned(
    tmp_path: Path, real_broker_url: str, valkey: ValkeyServer, prefix: str, packed: bool
) -> None:
    """1 of 500 in flight kills its process, three workers are started again and again: that one is answered
    with `poison` and is a dead letter, 499 are answered right."""
    names = Names(prefix)
    broker = open_broker(real_broker_url, names)
    broker.connect()
    replies = names.replies_for("poison")
    broker.declare(replies)
    found: dict[str, dict[str, object]] = {}

    def all_answered() -> bool:
        broker.keep_alive()
        messages = broker.receive({replies: 100}, 0.2)
        for message in messages:
            found.update({row["id"]: row for row in map(orjson.loads, message.body.splitlines())})
        broker.commit([Settlement(message, ()) for message in messages])
        return len(found) == REQUESTS

    with Fleet(tmp_path, 3, settings(real_broker_url, valkey, prefix)) as fleet:
        fleet.start()
        broker.send(names.requests, requests(packed, replies))
        until(all_answered, 120, f"{REQUESTS} replies")
        fleet.stop()
    guilty = found.pop(str(GUILTY))
    assert guilty["error"]["kind"] == "poison"  # type: ignore[index]
    assert all(row["status"] == "ok" and row["result"] == int(n) for n, row in found.items())
    (letter,) = broker.receive({names.dead: 10}, 5)
    assert letter.headers["reason"] == "poison"
    assert orjson.loads(letter.body) == {"payload": "die", "id": str(GUILTY)}
    assert broker.depth()[names.dead] == 0
    broker.close()
