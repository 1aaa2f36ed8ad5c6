"""kombu's envelope on Redis, read from strangers and written for them."""

import json
from typing import Any

import pytest

from broker.dead import Letter
from broker.redis.envelope import decode, encode
from wire.errors import Outcome
from wire.message import Limits
from wire.names import Names
from worker.delivery import NO_MODEL, open_delivery


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


@pytest.mark.parametrize("strange", [{"content-type": "\ud800"}, {"headers": {"\ud800": "\udfff"}}])
def test_what_is_no_unicode_can_be_set_aside(strange: dict[str, Any]) -> None:
    """kombu reads and writes lone surrogates; orjson raises, which ended every worker in turn."""
    message = decode(envelope(**strange), "recollect.requests")
    delivery = open_delivery(message, Names(), Limits(), 0.0)
    for position, request in enumerate(delivery.requests):
        message.blamed |= {position}
        delivery.answer(position, b"{}", (NO_MODEL, Outcome.FAILED))
        assert request is not None
    letter = delivery.settlement(Names(), Limits(), 1.0).outgoing[-1]
    read = Letter.read(decode(encode(letter.message, letter.queue, "t"), letter.queue))
    assert (read.reason, read.original.headers) == ("poison", message.headers)
