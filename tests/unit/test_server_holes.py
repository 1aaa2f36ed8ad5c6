"""Which versions of a server are warned of, as a table of cases."""

import pytest

from worker.audit import audit
from worker.server_holes import known_hole


@pytest.mark.parametrize(
    ("info", "hint"),
    [
        ({"redis_version": "6.2.19"}, "Redis 6.2.24 or newer"),
        ({"redis_version": "7.2.10"}, "Redis 7.2.16 or newer"),
        ({"redis_version": "7.4.5"}, "Redis 7.4.11 or newer"),
        ({"redis_version": "8.2.1"}, "Redis 8.2.9 or newer"),
        ({"redis_version": "8.6.2"}, "Redis 8.6.6 or newer"),
        ({"redis_version": "7.0.15"}, "Redis 8.10.1 or newer"),
        ({"redis_version": "8.0.6"}, "Redis 8.10.1 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.12"}, "Valkey 7.2.13 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "8.0.5"}, "Valkey 8.0.8 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, "Valkey 8.1.7 or newer"),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.3"}, "Valkey 9.0.4 or newer"),
    ],
)
def test_versions_with_holes_are_said(info: dict[str, str], hint: str) -> None:
    """With the release that mends it, and the distribution's, which keeps the number."""
    hole = known_hole(info)
    assert hole is not None
    assert (info.get("valkey_version") or info["redis_version"]) in hole.said
    assert hint in hole.hint
    assert "distribution" in hole.hint


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "6.2.24"},
        {"redis_version": "7.4.12"},
        {"redis_version": "8.10.1"},
        {"redis_version": "8.12.0"},
        {"redis_version": "9.0.0"},
        # Valkey goes on telling the version of Redis that it is compatible with: that one is not judged.
        {"redis_version": "7.2.4", "valkey_version": "8.1.7"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
        {"redis_version": "unstable"},
        {"redis_version": "255.255"},
        {},
    ],
)
def test_other_versions_are_not(info: dict[str, str]) -> None:
    """Mended, newer than what we know, or unreadable."""
    assert known_hole(info) is None


class Told:
    """A server that says this of itself."""

    def info(self, section: str) -> dict[str, object]:
        memory: dict[str, object] = {"maxmemory": 1, "maxmemory_policy": "allkeys-lfu"}
        return memory if section == "memory" else {"redis_version": "7.2.4"}


def test_the_cache_server_is_judged_too() -> None:
    """Once: where it carries the queue, the queue's own line has said it."""
    client = Told()
    (said,) = audit(client, carries_queue=False)  # type: ignore[arg-type]
    assert "Redis 7.2.4 has holes" in said
    assert "Redis 7.2.16" in said
    assert not [line for line in audit(client, carries_queue=True) if "holes" in line]  # type: ignore[arg-type]
