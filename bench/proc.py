"""What /proc says of a session of processes: a worker with its children, a server with its helpers."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_MB = 1 << 20


def cpu_seconds(session: int) -> float:
    """User and system time of every living process of a session, with that of their dead children."""
    return sum(sum(int(fields[n]) for n in (11, 12, 13, 14)) for fields in _of(session)) / _TICKS


def rss_mb(session: int) -> float:
    """Resident memory of a session's processes, pages that they share counted for each."""
    return sum(int(fields[21]) for fields in _of(session)) * _PAGE / _MB


def _of(session: int) -> list[list[str]]:
    """The fields of /proc/PID/stat after the name, of each process of the session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[3]) == session:
            found.append(fields)
    return found
