"""Replies are joined to requests exactly, in whatever order and however often they come."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base import Message
from producer.window import PACK_MAX_BYTES, Pack, Window
from wire.errors import ErrorKind, Failure, Outcome
from wire.reply import BadReply, Provenance, Reply, encode_failure, encode_result, pack_replies


def packs_of(sizes: list[int]) -> list[Pack]:
    packs, index = [], 0
    for size in sizes:
        pack = Pack(f"pack-{len(packs)}")
        for _ in range(size):
            pack.add(orjson.dumps({"payload": index}), index)
            index += 1
        packs.append(pack)
    return packs


def reply_to(pack: Pack, position: int, result: str) -> bytes:
    own = pack.id if len(pack.lines) == 1 else f"{pack.id}.{position}"
    return encode_result(own, orjson.dumps(result), Provenance(Outcome.MISS))


def answer(pack: Pack, max_bytes: int = 1 << 20, padding: str = "") -> list[Message]:
    replies = [reply_to(pack, n, f"{index}{padding}") for n, index in enumerate(pack.indexes)]
    bodies = list(pack_replies(replies, max_bytes))
    parts = {} if len(bodies) == 1 else {"n": len(bodies)}
    return [
        Message(body, correlation_id=pack.id, headers={"part": f"{n}/{parts['n']}"} if parts else {})
        for n, body in enumerate(bodies, 1)
    ]


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    max_bytes=st.integers(1, 900),
    copies=st.integers(1, 3),
    ordered=st.booleans(),
    data=st.data(),
)
def test_every_request_gets_its_own_reply_once(
    sizes: list[int], max_bytes: int, copies: int, ordered: bool, data: st.DataObject
) -> None:
    """Shuffled, duplicated, cut into parts: index and result still belong together, each once."""
    window = Window(ordered=ordered)
    packs = packs_of(sizes)
    for pack in packs:
        window.sent(pack)
    messages = [message for pack in packs for message in answer(pack, max_bytes)] * copies
    found: list[Reply] = []
    for message in data.draw(st.permutations(messages)):
        window.answered(message)
        found += window.take()
    assert sorted(reply.index for reply in found) == list(range(sum(sizes)))
    assert all(reply.result == str(reply.index) for reply in found)
    assert not ordered or [reply.index for reply in found] == list(range(sum(sizes)))
    assert window.requests == 0
    assert window.taken == sum(sizes)


@given(first=st.integers(200, 900), second=st.integers(200, 900), data=st.data())
def test_parts_of_two_answers_never_mix_into_a_wrong_one(
    first: int, second: int, data: st.DataObject
) -> None:
    """A message sent again may be answered twice, cut at other places: no row gets another row's result."""
    window = Window()
    (pack,) = packs_of([6])
    window.sent(pack)
    for message in data.draw(st.permutations(answer(pack, first) + answer(pack, second, padding=" again"))):
        try:
            window.answered(message)
        except BadReply:
            assert window.requests == 6
    assert all(reply.result.split()[0] == str(reply.index) for reply in window.take())


def test_mixed_parts_with_the_right_number_of_lines_are_noticed() -> None:
    """The case that only the ids show: six lines from six requests, and not one of each."""
    window = Window()
    (pack,) = packs_of([6])
    window.sent(pack)
    lines = [reply_to(pack, n, str(n)) + b"\n" for n in range(6)]

    def part(number: int, begin: int, end: int) -> Message:
        return Message(b"".join(lines[begin:end]), "", pack.id, headers={"part": f"{number}/3"})

    window.answered(part(1, 0, 1))
    window.answered(part(2, 2, 4))
    with pytest.raises(BadReply, match="request 1"):
        window.answered(part(3, 3, 6))
    with pytest.raises(BadReply, match="7 replies"):
        window.answered(part(1, 0, 2))
    window.answered(part(3, 4, 6))
    assert [(reply.index, reply.result) for reply in window.take()] == [(n, str(n)) for n in range(6)]


@pytest.mark.parametrize("header", ["0/2", "3/2", "1", "1/2/3", "-1/2", "", "one/two", 1, True, None])
def test_a_part_header_that_is_none_changes_nothing(header: object) -> None:
    """BadReply, except where there is no header; the request stays unanswered, and the right answer lands."""
    window = Window()
    (pack,) = packs_of([2])
    window.sent(pack)
    with pytest.raises(BadReply):
        window.answered(Message(reply_to(pack, 0, "0"), "", pack.id, headers={"part": header}))
    assert window.requests == 2
    window.answered(answer(pack)[0])
    assert len(list(window.take())) == 2


def test_a_message_refused_as_a_whole_refuses_each_of_its_requests() -> None:
    """One error for many requests is everybody's; one result for many is nobody's."""
    window = Window()
    (pack,) = packs_of([3])
    window.sent(pack)
    with pytest.raises(BadReply):
        window.answered(Message(reply_to(pack, 0, "0"), "", pack.id))
    failure = Failure(ErrorKind.INVALID_REQUEST, "too large")
    body = encode_failure(pack.id, failure, Provenance(Outcome.INVALID))
    window.answered(Message(body, "", pack.id))
    assert [(reply.index, reply.ok) for reply in window.take()] == [(0, False), (1, False), (2, False)]


def test_a_request_is_known_by_the_id_it_names_itself() -> None:
    """A reply under the name of a neighbour is refused."""
    window, pack = Window(), Pack("pack")
    for name in ("a", "b"):
        pack.add(b"{}", len(pack.lines), name)
    window.sent(pack)

    def replies(*ids: str) -> Message:
        origin = Provenance(Outcome.MISS)
        return Message(b"\n".join(encode_result(name, b"1", origin) for name in ids), "", pack.id)

    with pytest.raises(BadReply):
        window.answered(replies("b", "a"))
    window.answered(replies("a", "b"))
    assert [reply.id for reply in window.take()] == ["a", "b"]


def test_a_stranger_is_dropped() -> None:
    """No correlation id, or that of nobody here."""
    window = Window()
    for correlation_id in (None, "", "another"):
        window.answered(Message(b"anything", "", correlation_id))
    assert not window.has_landed


def test_a_large_request_goes_alone() -> None:
    """With neighbours it could have all of them refused for the size of the message."""
    pack = Pack("pack")
    assert pack.fits(b"x" * (2 * PACK_MAX_BYTES))
    pack.add(b"{}", 0)
    assert pack.fits(b"x" * 1000)
    assert not pack.fits(b"x" * PACK_MAX_BYTES)
