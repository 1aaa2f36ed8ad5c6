"""What Redis holds under a key: a readable header line, then the result's JSON bytes.

The header names recipe, digest, creation (start of the model call), soft expiry, compute milliseconds,
length and crc32 of the body. It is bound to its key: an entry that was copied under another key, cut short
or written by somebody else is not believed.
"""

import re
from dataclasses import dataclass
from zlib import crc32

from wire.key import RECIPE

_HEADER = re.compile(
    rb"(?P<recipe>k1) (?P<digest>[0-9a-f]{64}) (?P<created>\d{1,12}\.\d{3}) (?P<expires>\d{1,12}\.\d{3}) "
    rb"(?P<compute>\d{1,12}) (?P<length>\d{1,12}) (?P<crc>[0-9a-f]{8})\n"
)


class BadEntry(ValueError):
    """Stored bytes that are no entry of this key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A remembered result. `created` and `expires` are Unix seconds, `body` is JSON text without newlines."""

    digest: str
    created: float
    expires: float
    compute_ms: int
    body: bytes

    def encode(self) -> bytes:
        """The stored bytes."""
        return b"%s %s %.3f %.3f %d %d %08x\n%b" % (
            RECIPE.encode(),
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
        match = _HEADER.match(stored)
        if match is None:
            raise BadEntry("no header")
        body = stored[match.end() :]
        if match["digest"].decode() != digest:
            raise BadEntry("the entry of another key")
        if int(match["length"]) != len(body) or int(match["crc"], 16) != crc32(body):
            raise BadEntry("length or checksum does not fit")
        return cls(digest, float(match["created"]), float(match["expires"]), int(match["compute"]), body)


def jittered(ttl_seconds: float, digest: str) -> float:
    """`ttl_seconds` within ±10 %, derived from the key.

    A bulk load then does not expire all at once, and every worker agrees without asking.
    """
    share = int(digest[:8], 16) / 0xFFFFFFFF
    return ttl_seconds * (0.9 + 0.2 * share)
