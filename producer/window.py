"""What is in flight: packs of requests sent as messages, and the replies that come back to them.

Pure bookkeeping. A reply message is joined to its pack by correlation id and to its requests by position;
duplicates (at least once is the promise) and strangers are dropped.
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.base import JSON, NDJSON, Message
from wire.reply import PART_HEADER, BadReply, Reply

_PART = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
PACK_MAX_BYTES = 1 << 20


@dataclass(slots=True)
class Pack:
    """Requests that travel in one message, and where in the input they stand."""

    lines: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    size: int = 0
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    parts: dict[int, bytes] = field(default_factory=dict)

    def add(self, line: bytes, index: int) -> None:
        """One more request."""
        self.lines.append(line)
        self.indexes.append(index)
        self.size += len(line) + 1

    def message(self, reply_to: str | None, enqueued_at: float) -> Message:
        """The message that carries them. `enqueued_at` is Unix seconds."""
        single = len(self.lines) == 1
        return Message(
            self.lines[0] if single else b"\n".join(self.lines) + b"\n",
            JSON if single else NDJSON,
            self.id,
            reply_to,
            {"enqueued_at": enqueued_at},
        )


class Window:
    """The packs that are sent and not yet answered."""

    def __init__(self) -> None:
        self._packs: dict[str, Pack] = {}
        self.requests = 0

    def sent(self, pack: Pack) -> None:
        """`pack` is on its way."""
        self._packs[pack.id] = pack
        self.requests += len(pack.lines)

    @property
    def reach(self) -> int:
        """How many places of the input lie from the oldest unanswered request to the newest."""
        if not self._packs:
            return 0
        return (
            next(reversed(self._packs.values())).indexes[-1] - next(iter(self._packs.values())).indexes[0] + 1
        )

    def unanswered(self) -> list[Pack]:
        """What would have to be sent again."""
        return list(self._packs.values())

    def answered(self, message: Message) -> list[Reply]:
        """The replies that `message` completes: none for a duplicate, a stranger's, one part of many.

        Raises BadReply where it breaks the contract.
        """
        pack = self._packs.get(message.correlation_id or "")
        if pack is None:
            return []
        body = _assembled(pack, message)
        if body is None:
            return []
        lines = body.removesuffix(b"\n").split(b"\n")
        if len(lines) != len(pack.lines):
            return self._refused(pack, lines)
        replies = [Reply.decode(line, index) for line, index in zip(lines, pack.indexes, strict=True)]
        self._done(pack)
        return replies

    def _refused(self, pack: Pack, lines: Sequence[bytes]) -> list[Reply]:
        """A message that was refused as a whole is answered once: that answer is every request's."""
        if len(lines) != 1:
            raise BadReply(f"{len(lines)} replies to {len(pack.lines)} requests")
        replies = [Reply.decode(lines[0], index) for index in pack.indexes]
        self._done(pack)
        return replies

    def _done(self, pack: Pack) -> None:
        del self._packs[pack.id]
        self.requests -= len(pack.lines)


def _assembled(pack: Pack, message: Message) -> bytes | None:
    header = message.headers.get(PART_HEADER)
    if header is None:
        return message.body
    match = _PART.fullmatch(header) if isinstance(header, str) else None
    if match is None:
        raise BadReply(f"part header {header!r} is not i/n")
    number, count = int(match[1]), int(match[2])
    pack.parts[number] = message.body
    if any(n not in pack.parts for n in range(1, count + 1)):
        return None
    return b"".join(pack.parts[n] for n in range(1, count + 1))
