"""What Redis holds under a key: a readable header line, then the result's JSON bytes.

The header is a JSON array: recipe, digest, creation (start of the model call), soft expiry, compute
milliseconds, length and crc32 of the body. It is bound to its key: an entry that was copied under another
key, cut short or written by somebody else is not believed. JSON, because orjson reads seven fields faster
than anything else tells two floats from each other.
"""

from typing import NamedTuple
from zlib import crc32

import orjson

from wire.key import RECIPE

_LATEST = 1e12  # Unix seconds


class BadEntry(ValueError):
    """Stored bytes that are no entry of this key."""


class Entry(NamedTuple):
    """A remembered result. `created` and `expires` are Unix seconds, `body` is JSON text without newlines."""

    digest: str
    created: float
    expires: float
    compute_ms: int
    body: bytes

    def encode(self) -> bytes:
        """The stored bytes."""
        times = round(self.created, 3), round(self.expires, 3)
        header = [RECIPE, self.digest, *times, self.compute_ms, len(self.body), crc32(self.body)]
        return orjson.dumps(header) + b"\n" + self.body

    @classmethod
    def decode(cls, stored: bytes, digest: str) -> "Entry":
        """The entry in `stored`, which must belong to the key `digest`. Raises BadEntry."""
        head, _, body = stored.partition(b"\n")
        try:
            recipe, key, created, expires, compute_ms, length, crc = orjson.loads(head)
            is_sound = 0 <= created <= expires < _LATEST and 0 <= compute_ms < _LATEST
        except (ValueError, TypeError):
            raise BadEntry("no header") from None
        if key != digest or recipe != RECIPE or length != len(body) or crc != crc32(body) or not is_sound:
            raise BadEntry("the entry of another key, cut short, or with times that make no sense")
        return tuple.__new__(cls, (digest, created, expires, compute_ms, body))  # twice as fast as its own

    @classmethod
    def found(cls, stored: bytes, digest: str) -> "Entry | None":
        """The same; None where it is no entry of that key."""
        try:
            return cls.decode(stored, digest)
        except BadEntry:
            return None


def jittered(ttl_seconds: float, digest: str) -> float:
    """`ttl_seconds` within ±10 %, derived from the key.

    A bulk load then does not expire all at once, and every worker agrees without asking.
    """
    share = int(digest[:8], 16) / 0xFFFFFFFF
    return ttl_seconds * (0.9 + 0.2 * share)
