"""The input, read as far as it may be and cut into packs."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from producer.lines import Fields, Line, payload_line, refusal, whole_line
from producer.pace import NOT_YET, Pace
from producer.traffic import POLL_SECONDS
from producer.window import Pack, Window
from wire.errors import InvalidRequest
from wire.reply import Reply


class Feed:
    """Reads `payloads` only when a pack is asked for.

    `fields` go into every request; with `whole` each payload is a request already; `waits` says that a
    request which wants no reply is refused. `taken` counts the payloads that were read; `begun` is the pack
    that was being filled when reading raised; `is_waiting` says that the next payload was not there yet, and
    `patience` for how many seconds it may be left alone then.
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
        self.patience = payloads.patience if isinstance(payloads, Pace) else POLL_SECONDS
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

    def again(self, packs: list[Pack]) -> list[Pack]:
        """Those of `packs` that may be sent again now: where too much waits for the workers, so may they."""
        return packs[: self._payloads.messages(len(packs))] if isinstance(self._payloads, Pace) else packs

    def packs(self, window: Window, in_flight: int) -> Iterator[Pack]:
        """Packs for `window`, as far as `in_flight` allows, whole ones if possible; refusals land in it."""
        while not self.ended:
            room = in_flight - (self.taken - window.taken)
            if room < self.pack and window.requests:
                return
            pack, refused = self.fill(max(0, room))
            if refused is not None:
                window.land(refused)
            if pack.lines:
                pack.queue = window.queue
                yield pack
            elif refused is None:
                return

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
