"""Our reading and writing of frames does what stock py-amqp does, however the bytes are cut.

The reference is py-amqp alone: its frame writer and serializer make the bytes that are read here, its frame
handler reads them beside us, and what we write is compared with what it would have written.
"""

import struct
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import amqp
import pytest
from amqp import spec
from amqp.method_framing import frame_handler as stock_handler
from amqp.method_framing import frame_writer
from amqp.serialization import dumps, loads
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.amqp.connection import Channel, Connection
from broker.amqp.content import frame_handler
from broker.amqp.frames import acknowledgements, publication, returns
from broker.amqp.message import plain, properties_of
from broker.amqp.properties import Unusual, write
from broker.amqp.reader import Reader
from broker.amqp.shortcut import Shortcut
from broker.base import JSON, Message

FRAME_MAX = 4096
OURS = ("x-delivery-count", "x-recollect-problem")


class Wire:
    """Bytes as py-amqp's own writer makes them."""

    def __init__(self) -> None:
        self.data = bytearray()
        transport = SimpleNamespace(write=self.data.extend)
        self._write = frame_writer(SimpleNamespace(frame_max=FRAME_MAX, bytes_sent=0), transport)

    def method(self, channel: int, method: Any, form: str, args: Sequence[Any], content: Any = None) -> None:
        self._write(1, channel, method, dumps(form, args), content)

    def heartbeat(self) -> None:
        self._write(8, 0, None, None, None)


class Seen(NamedTuple):
    """A method with what came in it; of a message, all that we promise to keep."""

    channel: int
    method: Any
    args: Any
    message: Any = None


# What arrives

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
short = texts.filter(lambda text: len(text.encode()) < 256)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from(
        [0, 1, *(sign * (1 << bits) + off for sign in (1, -1) for bits in (31, 62) for off in (-1, 0, 1))]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
values = st.recursive(
    st.one_of(
        scalars,
        st.none(),
        st.binary(max_size=8),
        st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0)),
        st.decimals(-1000, 1000, places=2),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(short, inner, max_size=3)),
    max_leaves=6,
)
headers = st.one_of(
    st.dictionaries(short, scalars, max_size=4),
    st.dictionaries(st.sampled_from([*OURS, "a"]), scalars, max_size=2),
    st.dictionaries(short, values, max_size=4),
)
ordinary = st.fixed_dictionaries(
    {"content_type": short, "content_encoding": st.just("utf-8"), "application_headers": headers},
    optional={"correlation_id": short, "reply_to": short, "message_id": short, "delivery_mode": st.just(2)},
)
every_kind = st.fixed_dictionaries(
    {},
    optional={
        name: {"s": short, "F": headers, "o": st.integers(0, 255), "L": st.integers(0, 1 << 32)}[kind]
        for name, kind in amqp.Message.PROPERTIES
    },
)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=600),
    st.sampled_from([FRAME_MAX - 9, FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX]).map(lambda n: b"\xce" * n),
)
messages = st.builds(lambda properties, body: (properties, body), ordinary | every_kind, bodies)
consumers = st.sampled_from(["queue-1", "queue-2", "é" * 100])
deliveries = st.tuples(
    st.just("deliver"),
    st.sampled_from([1, 1, 1, 2]),
    consumers,
    st.integers(1, 1 << 40),
    st.booleans(),
    messages,
)
confirms = st.tuples(st.just("ack"), st.sampled_from([1, 2]), st.integers(1, 1 << 40), st.booleans())
others = st.sampled_from([("heartbeat",), ("heartbeat",), ("nack",), ("return",)])
events = st.lists(st.one_of(deliveries, deliveries, confirms, others), max_size=12)


def recorded(happened: Sequence[tuple[Any, ...]]) -> bytes:
    """The bytes of all this; a heartbeat after every third frame where one may stand anywhere."""
    wire = Wire()
    for kind, *rest in happened:
        if kind == "deliver":
            channel, consumer, tag, redelivered, (properties, body) = rest
            args = (consumer, tag, redelivered, "", "a.queue")
            wire.method(channel, spec.Basic.Deliver, "sLbss", args, amqp.Message(body, **properties))
        elif kind == "ack":
            wire.method(rest[0], spec.Basic.Ack, "Lb", rest[1:])
        elif kind == "nack":
            wire.method(1, spec.Basic.Nack, "Lbb", (7, True, False))
        elif kind == "return":
            args = (312, "NO_ROUTE", "", "gone")
            wire.method(1, spec.Basic.Return, "Bsss", args, amqp.Message(b"back", message_id="m-1"))
        else:
            wire.heartbeat()
    return bytes(wire.data)


def frames_in(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, offset)
        yield kind, channel, data[offset + 7 : offset + 7 + size]
        offset += 8 + size


def with_heartbeats(data: bytes) -> bytes:
    """The same, a heartbeat after each frame."""
    beat = bytes((8, 0, 0, 0, 0, 0, 0, 0xCE))
    rebuilt = (struct.pack(">BHI", k, c, len(p)) + p + b"\xce" + beat for k, c, p in frames_in(data))
    return b"".join(rebuilt)


# Read by stock, and by us

FORMS = {spec.Basic.Deliver: "sLbss", spec.Basic.Ack: "Lb", spec.Basic.Nack: "Lbb", spec.Basic.Return: "Bsss"}


def read_by_stock(data: bytes) -> list[Seen]:
    seen: list[Seen] = []

    def on_method(channel: int, method: Any, payload: bytes, content: Any) -> None:
        args, _ = loads(FORMS[method], payload, 4)
        if method == spec.Basic.Deliver:
            consumer, tag, redelivered, *_ = args
            seen.append(Seen(channel, method, [consumer, tag], promised(content, redelivered)))
        else:
            seen.append(Seen(channel, method, args, content and (content.properties, content.body)))

    on_frame = stock_handler(SimpleNamespace(bytes_recv=0), on_method)
    for frame in frames_in(data):
        on_frame(frame)
    return seen


def promised(content: Any, redelivered: bool) -> Message:
    """What broker.base promises of a message with these properties."""
    properties = content.properties
    kept = plain(properties.get("application_headers") or {})
    count = kept.get("x-delivery-count")
    return Message(
        content.body or b"",
        properties.get("content_type", JSON),
        properties.get("correlation_id"),
        properties.get("reply_to"),
        {name: value for name, value in kept.items() if name not in OURS},
        deliveries=1 + count if redelivered and isinstance(count, int) and count > 0 else 1,
    )


class Line:
    """A channel that tells `seen` of what arrives on it, in the order of arrival."""

    is_closing = False

    def __init__(self, number: int, seen: list[Seen]) -> None:
        self._number, self._seen = number, seen
        self.deliveries = SimpleNamespace(append=self._on_delivery)

    def _on_delivery(self, delivery: tuple[str, int, Message]) -> None:
        consumer, tag, message = delivery
        self._seen.append(Seen(self._number, spec.Basic.Deliver, [consumer, tag], message))

    def _on_basic_ack(self, tag: int, multiple: bool) -> None:
        self._seen.append(Seen(self._number, spec.Basic.Ack, [tag, multiple]))


class Peer:
    """The reading half of a connection of ours, over a socket that gives these chunks."""

    def __init__(self, chunks: Sequence[bytes], *, by_shortcut: bool = True) -> None:
        self.seen: list[Seen] = []
        self.by_stock = 0
        self.bytes_recv = 0
        self.channels = {number: Line(number, self.seen) for number in (1, 2)}
        self._chunks = list(chunks)
        transport = SimpleNamespace(sock=self, _read_buffer=b"")
        shortcut: Any = Shortcut(self) if by_shortcut else SimpleNamespace(take=lambda _, offset: (offset, 0))
        self.reader = Reader(transport, frame_handler(self, self._on_method), shortcut)
        while self._chunks:
            received = self.bytes_recv
            methods = len(self.seen)
            self.reader.read()
            assert len(self.seen) == methods or self.bytes_recv > received, "it is a sign of life"
        assert self.reader.methods == len(self.seen)
        assert transport._read_buffer == b""

    def recv_into(self, space: memoryview) -> int:
        if not self._chunks:
            raise BlockingIOError
        chunk = self._chunks.pop(0)
        space[: len(chunk)] = chunk
        return len(chunk)

    def _on_method(self, channel: int, method: Any, payload: bytes, content: Any) -> None:
        self.by_stock += 1
        args, _ = loads(FORMS[method], payload, 4)
        line: Any = self.channels[channel]
        if method == spec.Basic.Deliver:
            Channel._on_basic_deliver(line, *args, content)
        elif method == spec.Basic.Ack:
            line._on_basic_ack(*args)
        else:
            self.seen.append(Seen(channel, method, args, content and (content.properties, content.body)))


@st.composite
def chopped(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in chunks: single bytes, a few large ones, or all at once."""
    most = draw(st.sampled_from([1, 7, 100, 3000, 1 << 20]))
    chunks, offset = [], 0
    while offset < len(data):
        size = draw(st.integers(1, most)) if 1 < most < 1 << 20 else most
        chunks.append(data[offset : offset + size])
        offset += size
    return chunks


@settings(max_examples=300)
@given(events, st.booleans(), st.data())
def test_whatever_the_chunks_the_same_arrives(
    happened: Sequence[tuple[Any, ...]], with_beats: bool, data: st.DataObject
) -> None:
    """Deliveries, confirms, returns, refusals and heartbeats, as stock py-amqp reads them, in order."""
    wire = recorded(happened)
    expected = read_by_stock(wire)
    if with_beats:
        wire = with_heartbeats(wire)
    assert Peer(data.draw(chopped(wire))).seen == expected


@given(st.binary(min_size=2, max_size=60), st.integers(0, 59), st.integers(0, 255), ordinary, st.booleans())
def test_properties_of_any_bytes_read_the_same_by_the_shortcut(
    noise: bytes, at: int, byte: int, properties: dict[str, Any], is_noise: bool
) -> None:
    """Noise, or good ones with one byte changed: the shortcut leaves them alone or agrees."""
    spoilt = bytearray(amqp.Message(**properties)._serialize_properties())
    spoilt[at % len(spoilt)] = byte

    agree(noise if is_noise else bytes(spoilt))


def agree(properties: bytes) -> None:
    """A reader with the shortcut makes the same of these bytes as one without."""

    class Raw(amqp.Message):  # type: ignore[misc]
        def _serialize_properties(self) -> bytes:
            return properties

    wire = Wire()
    wire.method(1, spec.Basic.Deliver, "sLbss", ("queue-1", 1, True, "", "q"), Raw(b"body"))
    both = [Peer([bytes(wire.data)], by_shortcut=way).seen for way in (True, False)]
    assert repr(both[0]) == repr(both[1])  # not ==: a NaN is not equal to itself


def table(entries: bytes, size: int | None = None, after: bytes = b"", flags: int = 0x2000) -> bytes:
    return struct.pack(">HI", flags, len(entries) if size is None else size) + entries + after


@pytest.mark.parametrize(
    "properties",
    [
        table(b"\x01tt\x02"),
        table(b"\x01iI\x00\x00\x00\x01", after=b"\x00"),
        table(b"\x01iI\x00\x00\x00\x01", size=6, after=b"\x01\x01c", flags=0x2400),
        table(b"\x01sS\x00\x00\x00\x05abc", after=b"\x02id", flags=0x2400),
        table(b"\x01sS\xff\xff\xff\xffabc"),
        table(b"\x01tt\x01", size=0xFFFFFFFF),
        table(b"\x01sS\x00\x00\x00\x01\xff"),
        table(b"\x01\xfft\x01"),
        table(b"\x01at\x01\x01at\x00"),
        table(b"\x10x-delivery-countI\x00\x00\x00\x07"),
        table(b"\x13x-recollect-problemS\x00\x00\x00\x01p"),
        table(b"", flags=0x2001),
        b"\x04\x00\x05ab",
        b"\x04\x80\x02ab\x02\xffb",
        b"\x80\x00\x00",
        b"\x00\x00\x00",
        b"\x18\x00\x02",
    ],
    ids=repr,
)
def test_edges_read_the_same_by_the_shortcut(properties: bytes) -> None:
    """A size that lies, what follows the end, no text where one should be, names that mean something."""
    agree(properties)


@given(st.lists(st.tuples(ordinary, bodies.filter(lambda b: len(b) < FRAME_MAX - 100)), max_size=4))
def test_ordinary_messages_and_confirms_take_the_shortcut(sent: Sequence[tuple[Any, bytes]]) -> None:
    """A reader that always left them to py-amqp would be right, and slow."""
    happened: list[tuple[Any, ...]] = [
        ("deliver", 1, "queue-1", tag, False, message)
        for tag, message in enumerate(sent, 1)
        if set(OURS).isdisjoint(message[0]["application_headers"])
        and all(type(v) in (str, float, int, bool) for v in message[0]["application_headers"].values())
    ]
    happened.append(("ack", 2, 1000, True))
    peer = Peer([recorded(happened)])
    assert len(peer.seen) == len(happened)
    assert peer.by_stock == 0


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
@pytest.mark.parametrize("off", range(-9, 10))
def test_bodies_of_several_frames_are_whole(frames: int, off: int) -> None:
    """Of bytes that look like the end of a frame, wherever one ends, and a delivery right behind."""
    message = ({"content_type": JSON}, b"\xce" * (frames * FRAME_MAX + off))
    data = recorded([("deliver", 1, "queue-1", tag, False, message) for tag in (1, 2)])
    assert Peer([data]).seen == read_by_stock(data)


@pytest.mark.parametrize("body", [b"", b"body"])
def test_deliveries_of_two_channels_may_interleave(body: bytes) -> None:
    """Frame by frame: each goes to its own."""
    message = ({"content_type": JSON}, body)
    apart = [list(frames_in(recorded([("deliver", n, "queue-1", n, False, message)]))) for n in (1, 2)]
    mixed = [frame for pair in zip(*apart, strict=True) for frame in pair]
    data = b"".join(struct.pack(">BHI", kind, n, len(p)) + p + b"\xce" for kind, n, p in mixed)
    assert Peer([data]).seen == read_by_stock(data)
    assert len(read_by_stock(data)) == 2


def test_what_is_for_no_open_channel_is_left_to_stock() -> None:
    """Neither a closing channel nor an unknown one, nor the connection itself, takes deliveries."""
    for number in (0, 3):
        with pytest.raises(KeyError):
            Peer([recorded([("ack", number, 1, False)])])
    for is_closing in (False, True):
        peer = Peer([])
        peer.channels[1].is_closing = is_closing
        shortcut: Any = Shortcut(peer)
        data = recorded([("ack", 1, 1, False)])
        assert shortcut.take(data, 0) == ((0, 0) if is_closing else (len(data), 1))


# What we write

headers_of_ours = st.dictionaries(short, scalars | values, max_size=4)
sendable = st.builds(
    Message, bodies, st.one_of(short, st.just(JSON)), st.none() | short, st.none() | short, headers_of_ours
)
ids = st.integers(1, 1 << 40).map(lambda number: f"{'0' * 32}-{number}")


def written_by_stock(message: Message, queue: str, message_id: str) -> bytes:
    texts = {"correlation_id": message.correlation_id, "reply_to": message.reply_to, "message_id": message_id}
    content = amqp.Message(
        message.body,
        content_type=message.content_type,
        content_encoding="utf-8",
        application_headers=plain(message.headers),
        delivery_mode=2,
        **{name: text for name, text in texts.items() if text is not None},
    )
    wire = Wire()
    wire.method(5, spec.Basic.Publish, "Bssbb", (0, "", queue, True, False), content)
    return bytes(wire.data)


@given(sendable, short, ids)
def test_a_message_is_written_as_stock_writes_it(message: Message, queue: str, message_id: str) -> None:
    """Byte for byte: method, properties, headers of every type, bodies of one frame, several and none."""
    properties = properties_of(message, message_id.encode())
    pieces = publication(5, queue, properties, message.body, FRAME_MAX - 8)
    assert b"".join(pieces) == written_by_stock(message, queue, message_id)


@given(sendable, short, ids)
def test_stock_reads_what_we_write(message: Message, queue: str, message_id: str) -> None:
    """The very message, to the queue named, persistent and mandatory."""
    read: list[Any] = []
    on_frame = stock_handler(SimpleNamespace(bytes_recv=0), lambda *seen: read.append(seen))
    properties = properties_of(message, message_id.encode())
    data = b"".join(publication(5, queue, properties, message.body, FRAME_MAX - 8))
    kinds = []
    for kind, channel, payload in frames_in(data):
        kinds.append((kind, channel))
        if kinds == [(1, 5)]:  # stock reads contents of Deliver only: the method is looked at here
            assert struct.unpack_from(">HH", payload) == spec.Basic.Publish
            assert loads("Bssbb", payload, 4)[0] == [0, "", queue, True, False]
            payload = struct.pack(">HH", *spec.Basic.Deliver)
        on_frame((kind, channel, payload))
        assert len(payload) <= FRAME_MAX - 8
    ((_, _, _, content),) = read
    found = content.properties
    assert (content.body or b"", found["message_id"], found["delivery_mode"]) == (message.body, message_id, 2)
    assert found["content_type"] == message.content_type
    assert found.get("correlation_id") == message.correlation_id
    assert found.get("reply_to") == message.reply_to
    assert plain(found["application_headers"]) == plain(message.headers)


@given(st.dictionaries(short, scalars, max_size=4))
def test_flat_headers_need_no_stock(headers: dict[str, Any]) -> None:
    """What our own producers and workers send is written by ourselves."""
    assert write(Message(b"", JSON, "c", "r", headers), b"1-1")


@pytest.mark.parametrize(
    "message",
    [
        Message(b"", "t" * 256),
        Message(b"", JSON, "c" * 256, "r" * 256),
        Message(b"", JSON, "lone \ud800"),
        Message(b"", headers={"h": "lone \ud800"}),
        Message(b"", headers={"big": 1 << 63}),
        Message(b"", headers={"n" * 256: 1}),
        Message(b"", headers={"large": "x" * 200_000}),
        Message(b"", headers={1: 2}),  # type: ignore[dict-item]
        Message(b"", None, headers={"h": None}),  # type: ignore[arg-type]
    ],
    ids=lambda message: repr(message)[:60],
)
def test_what_is_odd_is_written_by_stock(message: Message) -> None:
    """And is no larger than a frame."""
    with pytest.raises(Unusual):
        write(message, b"1-1")
    properties = properties_of(message, b"1-1")
    assert len(properties) < 110_000
    content = amqp.Message()
    content._load_properties(spec.Basic.CLASS_ID, properties, 0)
    assert content.properties["message_id"] == "1-1"


@given(st.integers(0, 1 << 63), st.lists(st.integers(1, 1 << 63), max_size=5))
def test_settlements_are_written_as_stock_writes_them(up_to: int, others: list[int]) -> None:
    """Many at once where there are many; up to 0 would be all, and is never said."""
    acks, nacks = Wire(), Wire()
    for tag, multiple in [(up_to, True)] * bool(up_to) + [(tag, False) for tag in others]:
        acks.method(9, spec.Basic.Ack, "Lb", (tag, multiple))
        nacks.method(9, spec.Basic.Nack, "Lbb", (tag, multiple, True))
    assert acknowledgements(9, up_to, others) == acks.data
    assert returns(9, up_to, others) == nacks.data


def test_what_is_sent_counts_as_a_sign_of_life_and_nothing_does_not() -> None:
    """Whoever waits for confirms puts nothing, time and again: its heartbeats must go on."""
    connection = Connection("nowhere")
    connection.put(b"")
    assert (connection.bytes_sent, connection.unsent_bytes) == (0, 0)
    connection.put(b"frames")
    assert (connection.bytes_sent, connection.unsent_bytes) == (1, 6)
