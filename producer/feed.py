"""The input, read as far as it may be and cut into packs."""

import itertools
from collections.abc import Iterable
from typing import Any

from producer.lines import Fields, Line, payload_line, refusal, whole_line
from producer.window import Pack
from wire.errors import InvalidRequest
from wire.reply import Reply

NOT_YET = object()  # what an iterator of payloads gives where the next is not there yet


class Feed:
    """Reads `payloads` only when a pack is asked for.

    `fields` go into every request; with `whole` each payload is a request already; `waits` says that a
    request which wants no reply is refused. `taken` counts the payloads that were read; `begun` is the pack
    that was being filled when reading raised; `is_waiting` says that the next payload was not there yet.
    `stem`, nobody else's and without a dash, begins the ids of all packs; a dash follows. Raises ValueError
    for a `pack` below 1.
    """

    def __init__(
        self, payloads: Iterable[Any], fields: Fields, stem: str, *, pack: int, whole: bool, waits: bool
    ) -> None:
        if pack < 1:
            raise ValueError(f"pack must be at least 1; got {pack}")
        self._payloads, self._fields, self._whole, self._waits = iter(payloads), fields, whole, waits
        self._held: tuple[Line, int] | None = None
        self._at_end = self.is_waiting = False
        self.pack, self.taken = pack, 0
        self.stem, self._packs = stem, itertools.count()
        self.begun = self._pack()

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to send."""
        return self._at_end and self._held is None

    def fill(self, most: int) -> tuple[Pack, Reply | None]:
        """The next pack, of at most `most` payloads read, and the refusal of the payload that ended it.

        Nothing that stands behind a refused payload is read.
        """
        pack, end = self._pack(), self.taken + most
        self.begun = pack
        while len(pack.lines) < self.pack:
            if self._held is None and self.taken < end:
                refused = self._read()
                if refused is not None:
                    return pack, refused
            if self._held is None or not pack.fits(self._held[0].text):
                break
            line, index = self._held
            pack.add(line.text, index, line.id)
            self._held = None
        return pack, None

    def _pack(self) -> Pack:
        return Pack(f"{self.stem}-{next(self._packs)}", traceparent=self._fields.traceparent)

    def _read(self) -> Reply | None:
        """Take one payload into `_held`, where there is one more; or its refusal."""
        try:
            payload = next(self._payloads)
        except StopIteration:
            self._at_end, self.is_waiting = True, False
            return None
        self.is_waiting = payload is NOT_YET
        if self.is_waiting:
            return None
        index, self.taken = self.taken, self.taken + 1
        try:
            if self._whole:
                line = whole_line(payload, self._fields, waits=self._waits)
            else:
                line = payload_line(payload, self._fields)
        except InvalidRequest as error:
            return refusal(str(error), index)
        self._held = (line, index)
        return None
