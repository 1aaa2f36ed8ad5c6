"""Deliveries and confirms, straight from the buffer.

They are nearly all that arrives. py-amqp makes three frames, a content object, two argument lists and a
promise look-up of each delivery; here the bytes of its frames are looked at once. What is not whole in the
buffer, or in any way out of the ordinary, is left to py-amqp, as are all other methods. So this knows no
state: a delivery of which py-amqp has begun to read the frames continues with one that is no method.
"""

import struct
from typing import Any

from broker.amqp.properties import Unusual, read

_METHOD, _HEADER, _BODY, _END = 1, 2, 3, 0xCE
_BASIC, _DELIVER, _ACK = 60, 60 << 16 | 60, 60 << 16 | 80
_MULTIPLE = 1
_START = struct.Struct(">BHII")  # kind, channel, size, class and method as one number
_LONG, _CONFIRM = struct.Struct(">Q"), struct.Struct(">QB")
_CONTENT = struct.Struct(">BBHIHHQ")  # the method's end; kind, channel, size, class, 0, size of the body
_PIECE = struct.Struct(">BBHI")  # the end of a frame and the start of another
_CONSUMER_AT = _START.size
_ACK_BYTES = 13
_ODD = (Unusual, IndexError, UnicodeDecodeError, struct.error)


class Shortcut:
    """Takes what it knows for the channels of `connection` off the front of a buffer."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def take(self, buffer: bytes, offset: int) -> tuple[int, int]:
        """Where the first frame begins that is for py-amqp, and how many methods came before it."""
        taken, end = 0, len(buffer) - _START.size
        while offset < end:
            kind, number, size, method = _START.unpack_from(buffer, offset)
            if kind != _METHOD or method not in (_DELIVER, _ACK):
                break
            channel = self._connection.channels.get(number)
            if not number or channel is None or channel.is_closing:
                break
            step = self._deliver if method == _DELIVER else self._confirm
            try:
                offset = step(channel, number, buffer, offset, size)
            except _ODD:
                break
            taken += 1
        self._connection.bytes_recv += taken
        return offset, taken

    @staticmethod
    def _deliver(channel: Any, number: int, buffer: bytes, offset: int, size: int) -> int:
        consumer_at = offset + _CONSUMER_AT
        consumer_end = consumer_at + 1 + buffer[consumer_at]
        (tag,) = _LONG.unpack_from(buffer, consumer_end)
        at = offset + 7 + size
        ended, kind, channel_number, size, class_, _, left = _CONTENT.unpack_from(buffer, at)
        # Whether it was delivered before need not be looked at: then it has a count, which is unusual.
        if (ended, kind, channel_number, class_) != (_END, _HEADER, number, _BASIC):
            raise Unusual
        properties, at = at + _CONTENT.size, at + 8 + size
        properties_end, body = at, b""
        if left:
            start = at + _PIECE.size
            if _PIECE.unpack_from(buffer, at) != (_END, _BODY, number, left):
                raise Unusual  # several frames of body
            at = start + left
            body = buffer[start:at]
        if buffer[at] != _END:
            raise Unusual
        message = read(buffer, properties, properties_end, body)
        channel.deliveries.append((str(buffer[consumer_at + 1 : consumer_end], "utf-8"), tag, message))
        return at + 1

    @staticmethod
    def _confirm(channel: Any, _number: int, buffer: bytes, offset: int, size: int) -> int:
        after = offset + 8 + size
        if size != _ACK_BYTES or buffer[after - 1] != _END:
            raise Unusual
        tag, bits = _CONFIRM.unpack_from(buffer, offset + _START.size)
        channel._on_basic_ack(tag, bool(bits & _MULTIPLE))
        return after
