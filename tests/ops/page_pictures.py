"""The pictures of the page in docs/, made by a real browser: `python -m tests.ops.page_pictures`.

Their figures are those of tests.support.page_states: a fleet that falls behind is not had for the asking.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support import page_states as states
from tests.support.browser import Browser
from tests.support.page_stub import PageStub

DOCS = Path(__file__).parents[2] / "docs"
_WIDE, _NARROW = 1280, 390
_PICTURES = {
    "working": (states.working, _WIDE, "light"),
    "falling-behind": (states.falling_behind, _WIDE, "light"),
    "broker-down": (states.broker_down, _WIDE, "light"),
    "dark": (states.working, _WIDE, "dark"),
    "narrow": (states.working, _NARROW, "light"),
}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256


def main() -> None:
    """All of them, into docs/."""
    with Browser() as browser, TemporaryDirectory() as place:
        for name, (state, width, scheme) in _PICTURES.items():
            stub = PageStub(state())
            browser.open(stub.url, width=width, height=800 if width == _WIDE else 1500, scheme=scheme)
            browser.until_text("#fresh", "updated")
            shot = Path(place) / "shot.png"
            browser.picture(shot, full_page=width == _WIDE)
            stub.stop()
            small = with_palette(shot.read_bytes())
            (DOCS / f"page-{name}.png").write_bytes(small)
            print(f"page-{name}.png {len(small) // 1024} KiB")


def with_palette(png: bytes) -> bytes:
    """The same picture (8 bits a channel, not interlaced) in at most 256 of its colours: half the bytes."""
    parts = list(_chunks(png))
    width, height, _, kind = struct.unpack(">IIBB", parts[0][1][:10])
    size = {2: 3, 6: 4}[kind]
    raw = zlib.decompress(b"".join(data for name, data in parts if name == b"IDAT"))
    rows = list(_unfiltered(raw, width * size, height, size))
    pixels = [[row[at : at + 3] for at in range(0, len(row), size)] for row in rows]
    counts = Counter(pixel for row in pixels for pixel in row)
    palette = _palette(counts)
    place = {colour: min(range(len(palette)), key=lambda n: _apart(palette[n], colour)) for colour in counts}
    lines = b"".join(b"\0" + bytes(place[pixel] for pixel in row) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return _SIGNATURE + b"".join(
        _chunk(name, data)
        for name, data in (
            (b"IHDR", header),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(lines, 9)),
            (b"IEND", b""),
        )
    )


def _palette(counts: Counter[bytes]) -> list[bytes]:
    """The most common, then each time the one that would be missed most."""
    palette = [colour for colour, _ in counts.most_common(_COLOURS // 2)]
    missed = {colour: min(_apart(colour, other) for other in palette) for colour in counts}
    while len(palette) < min(_COLOURS, len(counts)):
        worst = max(missed, key=lambda colour: missed[colour] * counts[colour])
        palette.append(worst)
        for colour, distance in missed.items():
            missed[colour] = min(distance, _apart(colour, worst))
    return palette


def _apart(one: bytes, other: bytes) -> int:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _unfiltered(raw: bytes, length: int, height: int, size: int) -> Iterator[bytes]:
    """Each row's bytes; a PNG stores their differences to the byte at the left and those above."""
    above = bytearray(length)
    for number in range(height):
        begin = number * (length + 1)
        kind, row = raw[begin], bytearray(raw[begin + 1 : begin + 1 + length])
        for at in range(length) if kind else ():
            left, corner = (row[at - size], above[at - size]) if at >= size else (0, 0)
            row[at] = (row[at] + _predicted(kind, left, above[at], corner)) & 255
        above = row
        yield bytes(row)


def _predicted(kind: int, left: int, up: int, corner: int) -> int:
    if kind < 3:
        return left if kind == 1 else up
    if kind == 3:
        return (left + up) // 2
    guess = left + up - corner
    return min((left, up, corner), key=lambda near: abs(guess - near))


if __name__ == "__main__":
    main()
