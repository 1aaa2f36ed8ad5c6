"""What Redis holds under a key: a readable header line, then the result's JSON bytes.

The header names recipe, digest, creation (start of the model call), soft expiry, compute milliseconds,
length and crc32 of the body. It is bound to its key: an entry that was copied under another key, cut short
or written by somebody else is not believed.
"""

from typing import NamedTuple
from zlib import crc32

from wire.key import RECIPE

_MAGIC = RECIPE.encode()
_LATEST = 1e12  # Unix seconds: no NaN and no infinity gets past a comparison with it


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
        return b"%b %b %.3f %.3f %d %d %08x\n%b" % (
            _MAGIC,
            self.digest.encode(),
            self.created,
            self.expires,
            self.compute_ms,
            len(self.body),
            crc32(self.body),
            self.body,
        )

    @classmethod
    def decode(cls, stored: bytes, digest: str) -> "Entry":
        """The entry in `stored`, which must belong to the key `digest`. Raises BadEntry."""
        head, _, body = stored.partition(b"\n")
        try:
            recipe, key, created, expires, compute, length, crc = head.split(b" ")
            if recipe != _MAGIC or key.decode() != digest:
                raise BadEntry("the entry of another key")
            if int(length) != len(body) or int(crc, 16) != crc32(body):
                raise BadEntry("length or checksum does not fit")
            entry = cls(digest, float(created), float(expires), int(compute), body)
        except BadEntry:
            raise
        except ValueError:
            raise BadEntry("no header") from None
        if not 0 <= entry.created <= entry.expires < _LATEST:
            raise BadEntry("times make no sense")
        return entry


def jittered(ttl_seconds: float, digest: str) -> float:
    """`ttl_seconds` within ±10 %, derived from the key.

    A bulk load then does not expire all at once, and every worker agrees without asking.
    """
    share = int(digest[:8], 16) / 0xFFFFFFFF
    return ttl_seconds * (0.9 + 0.2 * share)
