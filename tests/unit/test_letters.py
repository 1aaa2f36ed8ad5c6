"""Dead letters as they are read: of known types, whatever a stranger wrote."""

import datetime
import decimal
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base import JSON, Message, Outgoing
from broker.dead import FAILED, UNKNOWN, Letter, dead_letter, plain
from broker.urls import open_broker
from wire.names import Names
from worker.delivery import WAITING_HEADERS
from worker.letter_text import Listing, age, as_page, as_table, as_text, with_body
from worker.letters import Letters, Wanted, replay_refusal, replayed, survey

NAMES = Names("t")
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.datetimes()
    | st.decimals(allow_nan=True)
    | st.just("\ud800\x1b[2J")
)
keys = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)
ours = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "reason",
            "detail",
            "deliveries",
            "dead_at",
            "original",
            "x-death",
            "x-first-death-reason",
            "x-first-death-queue",
        ),
        junk,
    ),
)


def letter(**properties: Any) -> Message:
    return dead_letter(Message(b"{}", queue=NAMES.requests, **properties), FAILED, 100.5, "why")


@given(ours | st.dictionaries(st.text(max_size=8), junk, max_size=4) | junk, st.binary(max_size=30))
def test_no_headers_can_make_reading_fail(headers: Any, body: bytes) -> None:
    """Every field has its type; every form it is shown in can be written."""
    read = Letter.read(Message(body, headers=headers))
    assert read == Letter.read(Message(body, headers=headers)) or headers != headers
    assert (len(read.id), int(read.id, 16) >= 0) == (16, True)
    assert all(isinstance(text, str) for text in (read.reason, read.detail, read.original.queue))
    assert read.reason.encode()
    assert read.deliveries >= 1
    assert read.dead_at is None or read.dead_at >= 0
    assert read.original.body == body
    assert all(isinstance(name, str) for name in read.original.headers)
    json.dumps(with_body(read)).encode()
    as_page(read).encode()
    listing = Listing(None, 0, 0)
    listing.add(read)
    table = as_table(listing, 1e9).replace("\n", "")
    assert table.isprintable()
    replay_refusal(read, NAMES)


@given(
    st.dictionaries(st.text(max_size=8), junk, max_size=3),
    st.none() | st.text(max_size=20, alphabet="abcé"),
    st.binary(max_size=30),
)
def test_a_letter_gives_back_what_was_put_in(headers: dict[str, Any], cid: str | None, body: bytes) -> None:
    """As it was, but for notes on how it waited for its model; an absent property is absent."""
    cid = cid or None
    sent = Message(body, "a/b", cid, NAMES.replies_for("x"), headers, NAMES.misses)
    written = dead_letter(sent, FAILED, 5.0)
    assert None not in written.headers["original"].values()
    read = Letter.read(written)
    out = replayed(read, NAMES, None)
    assert out.queue == NAMES.misses
    assert (out.message.body, out.message.content_type, out.message.correlation_id) == (body, "a/b", cid)
    assert out.message.reply_to == sent.reply_to
    kept = {name: value for name, value in headers.items() if name not in WAITING_HEADERS}
    assert out.message.headers.keys() == kept.keys()
    assert all(out.message.headers[name] is value for name, value in kept.items())


def test_ids_tell_letters_apart_and_copies_together() -> None:
    """Body, correlation id, time of death and original count; what a broker adds does not."""
    base = letter()
    variants = [
        base,
        Message(b"{ }", headers=base.headers),
        letter(correlation_id="c"),
        letter(headers={"a": 1}),
        letter(reply_to="t.replies.x"),
        dead_letter(Message(b"{}", queue=NAMES.requests), FAILED, 100.6),
    ]
    assert len({Letter.read(m).id for m in variants}) == len(variants)
    again = Message(base.body, headers={**base.headers, "x-delivery-count": 3, "redelivered": True})
    assert Letter.read(again).id == Letter.read(base).id
    strange = Message(b"x", headers={"a": 1})
    recounted = Message(b"x", headers={"a": 1, "x-delivery-count": 3, "redelivered": True})
    assert Letter.read(strange).id == Letter.read(recounted).id
    assert Letter.read(strange).reason == UNKNOWN


@pytest.mark.parametrize(
    "headers",
    [{"a": "x" * 70_000}, {"a": b"x" * 70_000}, {str(n): n for n in range(5000)}, {"a": ["é" * 35_000]}],
)
def test_headers_that_no_frame_holds_are_left_out(headers: dict[str, Any]) -> None:
    """A letter must be sendable, or the worker could never get rid of the message."""
    read = Letter.read(letter(headers=headers))
    assert read.original.headers == {}
    assert read.detail == "why (its headers are left out: too large)"


def test_headers_that_nest_without_end_are_left_out() -> None:
    """JSON writers give up at some depth, each at its own."""
    nested: Any = 1
    for _ in range(5000):
        nested = [nested]
    written = letter(headers={"a": nested})
    assert Letter.read(written).original.headers == {}
    raw = Letter.read(Message(b"", headers={"reason": "failed", "original": {"headers": {"a": nested}}}))
    assert with_body(raw)["headers"]["a"]


def test_values_of_every_type_can_be_shown() -> None:
    """What JSON has no word for is described."""
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5)
    shown = plain([moment, b"\xff", decimal.Decimal("1.5"), float("nan"), 2**70, object(), "\ud800", {1: 2}])
    described = ["2020-01-02T03:04:05", {"base64": "/w=="}, "Decimal 1.5", "nan", hex(2**70), "object"]
    assert shown == [*described, "\\ud800", {"1": 2}]


@pytest.mark.parametrize(
    ("headers", "reason", "queue"),
    [
        (
            {"x-death": [{"reason": "rejected", "queue": "b"}, {"reason": "expired", "queue": "a"}]},
            "expired",
            "a",
        ),
        ({"x-first-death-reason": "maxlen", "x-first-death-queue": "q"}, "maxlen", "q"),
        ({"x-death": [7, {"reason": "expired"}]}, "expired", ""),
    ],
)
def test_what_the_broker_set_aside_says_where_it_died_first(
    headers: dict[str, Any], reason: str, queue: str
) -> None:
    """The last entry of x-death is the first death; its headers are not sent again."""
    read = Letter.read(Message(b"x", JSON, "c", "t.replies", {**headers, "mine": 1}))
    assert (read.reason, read.original.queue, read.is_by_broker) == (f"broker:{reason}", queue, True)
    assert read.original.headers == {"mine": 1}


@pytest.mark.parametrize("junk_deaths", [7, "x", [], [7], [{"reason": 7}], {"reason": "expired"}])
def test_a_death_that_makes_no_sense_is_unknown(junk_deaths: Any) -> None:
    """And cannot be replayed."""
    read = Letter.read(Message(b"x", headers={"x-death": junk_deaths}))
    assert read.reason == UNKNOWN
    assert replay_refusal(read, NAMES) == "it does not say which queue it came from"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59, "59 s"), (60, "1 m"), (7_300, "2 h"), (172_800, "2 d"), (-5, "0 s"), (None, "-")],
)
def test_ages(seconds: float | None, said: str) -> None:
    """In the largest unit; a clock that is behind is no error."""
    assert age(None if seconds is None else 1e9 - seconds, 1e9) == said


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"a\tb\r\n\xc3\xa9", "a\tb\r\né"),
        (b"\x1b[2J", None),
        (b"\xff", None),
        ("\u202e".encode(), None),
        (b"", ""),
    ],
)
def test_a_body_is_text_where_a_terminal_can_bear_it(body: bytes, text: str | None) -> None:
    """Otherwise base64."""
    assert as_text(body) == text


class WornQueue:
    """A queue that, like RabbitMQ's, would drop a letter at its 21st delivery; broker.base.Broker in part."""

    def __init__(self, *deliveries: int) -> None:
        self.queue = [letter(correlation_id=f"c{n}") for n, _ in enumerate(deliveries)]
        for message, count in zip(self.queue, deliveries, strict=True):
            message.deliveries = count
        self.held: list[Message] = []
        self.dropped = 0

    def __getattr__(self, name: str) -> Any:
        return {
            "depth": lambda: {NAMES.dead: len(self.queue)},
            "keep_alive": lambda: None,
            "receive": self._receive,
            "commit": self._commit,
            "release": self._release,
        }[name]

    def _receive(self, credit: dict[str, int], timeout: float) -> list[Message]:
        most = credit.get(NAMES.dead, 0)
        taken, self.queue = self.queue[:most], self.queue[most:]
        self.held += taken
        return taken

    def _commit(self, settlements: Any) -> Any:
        from broker.base import Committed

        for message, outgoing in settlements:
            self.held.remove(message)
            self.queue += [out.message for out in outgoing if out.queue == NAMES.dead]
        return Committed(settlements, [])

    def _release(self, messages: list[Message]) -> None:
        for message in messages:
            message.deliveries += 1
            self.dropped += message.deliveries > 20
        self.queue = [*messages, *self.queue]
        self.held = [message for message in self.held if not any(message is one for one in messages)]


def test_a_letter_that_was_looked_at_often_is_renewed() -> None:
    """Brokers count what comes back, and drop what came back too often; each is read once a walk."""
    queue = WornQueue(1, 15, 9, 10, 1)
    letters = Letters(queue, NAMES)  # type: ignore[arg-type]
    for _ in range(50):
        seen: list[Letter] = []
        bodies = {message.correlation_id for message in queue.queue}
        walked = letters.walk(seen.append)
        assert (walked.read, len(seen)) == (5, 5)
        assert {read.original.correlation_id for read in seen} <= bodies
    assert queue.dropped == 0
    assert not queue.held


def test_a_walk_holds_no_bodies() -> None:
    """What stays is known to the broker by its token."""
    broker = open_broker("memory://", NAMES)
    broker.connect()
    broker.send(NAMES.dead, [letter(correlation_id=str(n)) for n in range(30)])
    held: list[Message] = []
    release = broker.release

    def spy(messages: Any) -> None:
        held.extend(messages)
        release(messages)

    broker.release = spy  # type: ignore[method-assign]
    assert Letters(broker, NAMES).walk(lambda _: None, most=20).read == 20
    assert len(held) == 20
    assert all(not message.body and not message.headers for message in held)
    found = survey(Letters(broker, NAMES), Wanted(), lambda _: None)
    assert found.counts.total() == 30
    assert broker.purge(NAMES.dead) == 30
    broker.close()


def test_copies_of_one_letter_share_an_id_and_their_fate() -> None:
    """They are counted, and settled, each."""
    broker = open_broker("memory://", NAMES)
    broker.connect()
    broker.send(NAMES.dead, [letter(), letter()])
    found = survey(Letters(broker, NAMES), Wanted(ids=[Letter.read(letter()).id]), lambda _: None)
    assert list(found.counts.values()) == [2]
    assert survey(Letters(broker, NAMES), Wanted(ids=()), lambda _: None).counts == {}
    broker.purge(NAMES.dead)
    broker.close()


def test_replies_can_be_redirected() -> None:
    """For a request it is where its reply goes; a reply itself goes there."""
    asked = Letter.read(letter(reply_to="t.replies.gone"))
    assert replayed(asked, NAMES, "t.replies").message.reply_to == "t.replies"
    answered = Letter.read(dead_letter(Message(b"r", queue="t.replies.gone"), "undeliverable", 1.0))
    assert replayed(answered, NAMES, None).queue == "t.replies.gone"
    out: Outgoing = replayed(answered, NAMES, "t.replies.late")
    assert (out.queue, out.message.reply_to) == ("t.replies.late", None)
