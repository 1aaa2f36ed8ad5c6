"""kombu's envelope on Redis, read from strangers and written for them."""

import json
from typing import Any

import pytest

from broker.redis.envelope import decode
from wire.message import Limits
from wire.names import Names
from worker.delivery import open_delivery


def envelope(**changes: Any) -> bytes:
    """A request as a stranger may put it on the queue."""
    properties = {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "utf-8"}
    message = {"body": '{"payload":1}', "content-type": "application/json", "properties": properties}
    return json.dumps({**message, **changes}).encode()


@pytest.mark.parametrize("claim", [5, {"a": 1}, False, "a word", "\ud800"])
def test_a_problem_is_not_a_strangers_to_claim(claim: Any) -> None:
    """A header that only we write made every worker crash in turn, for ever, where it was no text."""
    message = decode(envelope(headers={"x-recollect-problem": claim, "b": 2}), "recollect.requests")
    assert message.problem is None
    assert message.headers == {"b": 2}
    delivery = open_delivery(message, Names(), Limits(), 0.0)
    assert len(delivery.requests) == 1
