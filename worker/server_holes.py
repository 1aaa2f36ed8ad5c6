"""Whether a server's version is known to run an attacker's code. Our scripts need Lua, so Lua stays on: a
server whose Lua, or whose way of waking those who wait, can be broken out of is said at the start."""

import re
from collections.abc import Mapping
from typing import NamedTuple

# The first release of each line that has all fixes we know of: CVE-2024-31449, CVE-2024-46981,
# CVE-2025-21605, CVE-2025-49844 and its three sisters, CVE-2026-23479, CVE-2026-23631, and (Redis)
# CVE-2026-81934. A line that is not here, and not newer than all that are, gets no fixes any more.
_MENDED = {
    "Redis": {
        (6, 2): 24, (7, 2): 16, (7, 4): 11, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1,
    },
    "Valkey": {(7, 2): 13, (8, 0): 8, (8, 1): 7, (9, 0): 4},
}  # fmt: skip


class Hole(NamedTuple):
    """What is wrong with a server, and what an operator can do."""

    said: str
    hint: str


def known_hole(info: Mapping[str, object]) -> Hole | None:
    """By INFO; None where nothing is known, also of a version that cannot be read."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    shown = str(info.get(f"{name.lower()}_version", ""))
    numbers = [int(number) for number in re.findall(r"\d+", shown)[:3]]
    if len(numbers) < 3:
        return None
    line, patch, mended = (numbers[0], numbers[1]), numbers[2], _MENDED[name]
    if line > max(mended) or patch >= mended.get(line, 1_000):
        return None
    said = f"{name} {shown} has holes through which who may run scripts, or wait, can run code on it"
    if line not in mended:
        said, line = f"{said}; this line gets no fixes", max(mended)
    newer = ".".join(map(str, (*line, mended[line])))
    return Hole(said, f"{name} {newer} or newer, or your distribution's fix")
