"""Frames as we write them: byte for byte those of py-amqp's own writer, many of them to a write."""

import struct
from collections.abc import Collection
from functools import lru_cache

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE
_BASIC = 60
_PUBLISH, _ACK, _NACK = 40, 80, 120
_MULTIPLE, _REQUEUE = 1, 2
_MANDATORY = 1
_PUBLISH_START = struct.Struct(">BHIHHHBB")  # the frame's start, class, method, 0, no exchange, queue's size
_HEADER_START = struct.Struct(">BHIHHQ")  # the frame's start, class, 0, size of the body
_START = struct.Struct(">BHI")
_SETTLING = struct.Struct(">BHIHHQBB")  # a whole frame: start, class, method, tag, bits, end
_HEADER_BYTES, _SETTLING_BYTES = 12, 13
_END_BYTE = bytes((_END,))


def publication(channel: int, queue: str, properties: bytes, body: bytes, most: int) -> list[bytes]:
    """The frames, in pieces, of a message for `queue` that must find one; `most` bytes of body to a frame."""
    size = _HEADER_BYTES + len(properties)
    pieces = [
        _publish(channel, queue),
        _HEADER_START.pack(_HEADER, channel, size, _BASIC, 0, len(body)),
        properties,
        _END_BYTE,
    ]
    if 0 < len(body) <= most:
        pieces += (_START.pack(_BODY, channel, len(body)), body, _END_BYTE)
    else:
        for offset in range(0, len(body), most):
            piece = body[offset : offset + most]
            pieces += (_START.pack(_BODY, channel, len(piece)), piece, _END_BYTE)
    return pieces


@lru_cache(1024)
def _publish(channel: int, queue: str) -> bytes:
    name = queue.encode()
    start = _PUBLISH_START.pack(_METHOD, channel, 9 + len(name), _BASIC, _PUBLISH, 0, 0, len(name))
    return start + name + bytes((_MANDATORY, _END))


def acknowledgements(channel: int, up_to: int, others: Collection[int]) -> bytes:
    """All deliveries up to the tag `up_to` (0: none), and each of `others`, are settled."""
    return _settle(channel, _ACK, 0, up_to, others)


def returns(channel: int, up_to: int, others: Collection[int]) -> bytes:
    """All deliveries up to the tag `up_to` (0: none), and each of `others`, go back to their queues."""
    return _settle(channel, _NACK, _REQUEUE, up_to, others)


def _settle(channel: int, method: int, bits: int, up_to: int, others: Collection[int]) -> bytes:
    # Up to 0 would mean every delivery of the channel.
    tagged = [(up_to, bits | _MULTIPLE)] if up_to else []
    tagged += [(tag, bits) for tag in others]
    pack = _SETTLING.pack
    return b"".join(
        [pack(_METHOD, channel, _SETTLING_BYTES, _BASIC, method, tag, flags, _END) for tag, flags in tagged]
    )
