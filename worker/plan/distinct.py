"""Counts distinct keys exactly, in memory that does not grow with them.

Digests are spread by their first byte over 256 places, which go to files as they grow; at the end one place
after the other is read. Each of ten million keys costs 17 bytes on disk, and none in memory.
"""

from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

_DIGEST_BYTES = 16  # of 32: two of 10^10 keys share that with a chance of 10^-19
_RECORD = _DIGEST_BYTES + 1
_HELD_BYTES = 1024 * _RECORD  # in each place


class Need(IntEnum):
    """What a row needs of the model for its key: nothing, a call, or one for which nobody waits (RENEWAL); a
    call that is its own in any case and is remembered (OWN), or one that is not remembered (UNSTORED)."""

    NOTHING, CALL, RENEWAL, OWN, UNSTORED = range(5)


_STORED = (Need.CALL, Need.OWN)


class Distinct:
    """`place` is a directory of its own, for files. Raises OSError where that is full."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._held = [bytearray() for _ in range(256)]

    def add(self, key: str, need: Need) -> None:
        """A row with this key."""
        digest = bytes.fromhex(key[: 2 * _DIGEST_BYTES])
        held = self._held[digest[0]]
        held += digest
        held.append(need)
        if len(held) >= _HELD_BYTES:
            with self._file(digest[0]).open("ab") as file:
                file.write(held)
            held.clear()

    def count(self) -> tuple[int, int, int]:
        """How many keys there are, how many calls they need where one comes after the other (but for OWN
        ones), and how many only a renewal."""
        keys = calls = renewals = 0
        for number in range(256):
            found: dict[bytes, int] = {}
            for digest, need in self._records(number):
                before = found.get(digest, Need.NOTHING)
                calls += need == Need.UNSTORED and before not in _STORED
                found[digest] = _after(before, need)
            keys += len(found)
            needs = list(found.values())
            calls += needs.count(Need.CALL)
            renewals += needs.count(Need.RENEWAL)
        return keys, calls, renewals

    def _records(self, number: int) -> Iterator[tuple[bytes, int]]:
        file = self._file(number)
        written = file.read_bytes() if file.exists() else b""
        for records in (written, bytes(self._held[number])):
            for at in range(0, len(records), _RECORD):
                yield records[at : at + _DIGEST_BYTES], records[at + _DIGEST_BYTES]

    def _file(self, number: int) -> Path:
        return self._place / f"{number:02x}"


def _after(before: int, need: int) -> int:
    """What a key has needed after one more row: what is remembered by then, nobody calls for again."""
    if before in _STORED or need in (Need.NOTHING, Need.UNSTORED):
        return before
    return before if before == Need.RENEWAL and need == Need.OWN else need
