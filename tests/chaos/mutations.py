"""Message bodies and properties that nobody means, made from those that somebody does."""

import random
from collections.abc import Callable

from broker.base import JSON, NDJSON, Message
from wire.names import Names

_WHOLE = (
    b'{"payload":{"a":1,"b":[1,2.5,"x",null,true]}}',
    b'{"payload":"text","id":"i","model":"m","ttl":5,"max_age":0,"stale_if_error":3}',
    b'{"payload":1,"bypass":true,"refresh":false,"no_store":true}',
    b'{"payload":null,"only_if_cached":true,"deadline":1767225600.5}',
    b'{"payload":"caf\\u00e9 \\ud83d\\ude02"}',
    b'{"payload":{}}\n{"payload":[]}\n{"payload":0}\n',
)
_TOKENS = (
    b'"payload":', b'"id":', b'"model":', b'"ttl":', b'"max_age":', b'"deadline":', b'"bypass":',
    b'"refresh":',
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf",
    b"NaN", b"-0", b"-0.0", b"1e400", b"1e-400", b"18446744073709551616", b"9" * 400, b"0x1", b"null",
    b"true",
    b'"\\ud800"', b"[" * 300, b"]" * 300, b'{"a":' * 200, b"\xc3\x28", b"  ", b"\xe2\x80\xa8", b'{"payload":',
)  # fmt: skip
_KINDS = (
    JSON, NDJSON, JSON, NDJSON, "", "application/json; charset=utf-8", "text/plain",
    "application/x-python-serialize",
    "APPLICATION/JSON", "application/x-ndjson ;a=b", "\u00e9" * 50, "x" * 200,
)  # fmt: skip
_VALUES: tuple[object, ...] = (
    "", "x", "\u20ac" * 100, 0, -1, 1.5, 1e300, True, None, 2**40, "2026-01-01", {"a": 1}, ["b"],
    "00-" + "a" * 32,
    1767225600.5, float("nan"), float("inf"), 10**400, 9e15,
)  # fmt: skip
_HEADERS = (
    "deadline", "waits_since", "enqueued_at", "traceparent", "compression", "part", "reason",
    "x-death", "deliveries",
    "\u00e9", "reply_to",
)  # fmt: skip
Mutation = Callable[[random.Random, bytes], bytes]


def _flip(rng: random.Random, body: bytes) -> bytes:
    at = rng.randrange(len(body) + 1)
    return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]


def _insert(rng: random.Random, body: bytes) -> bytes:
    at = rng.randrange(len(body) + 1)
    return body[:at] + rng.choice(_TOKENS) + body[at:]


def _cut(rng: random.Random, body: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:first] + body[last:]


def _repeat(rng: random.Random, body: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(body) + 1) for _ in range(2))
    return body[:last] + body[first:last] * rng.randrange(1, 20) + body[last:]


def _splice(rng: random.Random, body: bytes) -> bytes:
    other = rng.choice(_WHOLE)
    return body[: rng.randrange(len(body) + 1)] + other[rng.randrange(len(other) + 1) :]


_MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _insert, _insert, _cut, _repeat, _splice)


def body(rng: random.Random) -> bytes:
    """A body with a few things wrong with it, now and then with none."""
    made = rng.choice(_WHOLE)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        made = rng.choice(_MUTATIONS)(rng, made)
    return made


def message(rng: random.Random, names: Names) -> Message:
    """A whole message: its properties, too, are what somebody's client may have sent."""
    headers = {name: rng.choice(_VALUES) for name in rng.sample(_HEADERS, rng.choice((0, 0, 1, 2)))}
    reply_to = rng.choice(
        (None, None, None, names.replies, names.replies_for("nobody"), names.requests, "x" * 90)
    )
    correlation_id = rng.choice((None, "", "c", "\u20ac" * 80, '"\n'))
    return Message(body(rng), rng.choice(_KINDS), correlation_id, reply_to, headers)


def wants_no_reply(made: Message) -> bool:
    """Whether it may be that nobody is to be answered: then no reply is missed."""
    return b"reply" in made.body and b"false" in made.body
