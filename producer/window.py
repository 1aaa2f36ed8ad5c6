"""What is in flight: packs of requests sent as messages, and the replies that come back to them.

Pure bookkeeping. A reply message is joined to its pack by correlation id and to its requests by position;
duplicates (at least once is the promise) and strangers are dropped.
"""

import math
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.base import JSON, NDJSON, Message
from wire.reply import PART_HEADER, BadReply, Reply
from wire.trace import TRACEPARENT

_PART = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
PACK_MAX_BYTES = 1 << 20


@dataclass(slots=True)
class Pack:
    """Requests that travel in one message, and where in the input they stand.

    `id` is the message's: nobody else's anywhere. `connection` is the one it was last sent on, -1 before;
    `sent_at` is when, on a monotonic clock.
    """

    id: str
    lines: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)
    size: int = 0
    parts: dict[int, bytes] = field(default_factory=dict)
    connection: int = -1
    sent_at: float = math.inf
    traceparent: str | None = None
    queue: str = ""

    def fits(self, line: bytes) -> bool:
        """Whether one more may travel along. A large one goes alone: it would have its neighbours refused."""
        return not self.lines or self.size + len(line) < PACK_MAX_BYTES

    def add(self, line: bytes, index: int, request_id: str | None = None) -> None:
        """One more request. `request_id` is the one it names itself."""
        self.lines.append(line)
        self.indexes.append(index)
        self.ids.append(request_id)
        self.size += len(line) + 1

    def message(self, reply_to: str | None, enqueued_at: float) -> Message:
        """The message that carries them. `enqueued_at` is Unix seconds."""
        single = len(self.lines) == 1
        headers: dict[str, Any] = {"enqueued_at": enqueued_at}
        if self.traceparent is not None:
            headers[TRACEPARENT] = self.traceparent
        return Message(
            self.lines[0] if single else b"\n".join(self.lines) + b"\n",
            JSON if single else NDJSON,
            self.id,
            reply_to,
            headers,
        )

    def is_reply_at(self, position: int, reply: Reply) -> bool:
        """Whether the id of `reply` is that of the request at `position`, or of the message."""
        own = self.ids[position] or (self.id if len(self.lines) == 1 else f"{self.id}.{position}")
        return reply.id in (None, own, self.id)


class Window:
    """The packs that are sent and not yet answered, and the replies that landed and were not taken yet.

    `queue` is where they are sent. `taken` counts the replies that were; with `ordered` they are taken by
    index, without a gap.
    """

    def __init__(self, queue: str = "", *, ordered: bool = False) -> None:
        self.queue = queue
        self._packs: dict[str, Pack] = {}
        self._landed: deque[Reply] = deque()
        self._early: dict[int, Reply] = {}
        self._ordered = ordered
        self.requests = self.taken = 0

    def sent(self, pack: Pack) -> None:
        """`pack` is on its way."""
        self._packs[pack.id] = pack
        self.requests += len(pack.lines)

    def unanswered(self) -> list[Pack]:
        """What would have to be sent again."""
        return list(self._packs.values())

    def sent_before(self, moment: float) -> list[Pack]:
        """What was last sent before it and is not answered."""
        return [pack for pack in self._packs.values() if pack.sent_at < moment]

    def land(self, *replies: Reply) -> None:
        """Replies that may be taken."""
        self._landed.extend(replies)

    @property
    def has_landed(self) -> bool:
        """Whether something came since the last `take`."""
        return bool(self._landed)

    def take(self) -> Iterator[Reply]:
        """What has landed, as far as the order allows."""
        while self._landed:
            reply = self._landed.popleft()
            if not self._ordered:
                self.taken += 1
                yield reply
                continue
            self._early[reply.index] = reply
            while (following := self._early.pop(self.taken, None)) is not None:
                self.taken += 1
                yield following

    def answered(self, message: Message) -> None:
        """Land the replies that `message` completes: none for a duplicate, a stranger's, one part of many.

        Raises BadReply where it breaks the contract; its requests are then still unanswered.
        """
        pack = self._packs.get(message.correlation_id or "")
        if pack is None:
            return
        body = _assembled(pack, message)
        if body is None:
            return
        lines = body.removesuffix(b"\n").split(b"\n")
        self.land(*(_whole(pack, lines) if len(lines) != len(pack.lines) else _joined(pack, lines)))
        del self._packs[pack.id]
        self.requests -= len(pack.lines)


def _joined(pack: Pack, lines: Sequence[bytes]) -> list[Reply]:
    replies = [Reply.decode(line, index) for line, index in zip(lines, pack.indexes, strict=True)]
    for position, reply in enumerate(replies):
        # Parts of two answers to one message (it was sent again) may be cut at different places and still
        # have the right number of lines between them. Nothing but the ids would show it.
        if not pack.is_reply_at(position, reply):
            raise BadReply(f"the reply to request {position} of {pack.id} has the id {reply.id!r}")
    return replies


def _whole(pack: Pack, lines: Sequence[bytes]) -> list[Reply]:
    """A message that was refused as a whole is answered once: that answer is every request's."""
    if len(lines) == 1 and not Reply.decode(lines[0]).ok:
        return [Reply.decode(lines[0], index) for index in pack.indexes]
    raise BadReply(f"{len(lines)} replies to {len(pack.lines)} requests")


def _assembled(pack: Pack, message: Message) -> bytes | None:
    header = message.headers.get(PART_HEADER)
    if header is None:
        return message.body
    match = _PART.fullmatch(header) if isinstance(header, str) else None
    number, count = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    if not 1 <= number <= count:
        raise BadReply(f"part header {header!r} is not i/n")
    pack.parts[number] = message.body
    if any(n not in pack.parts for n in range(1, count + 1)):
        return None
    return b"".join(pack.parts[n] for n in range(1, count + 1))
