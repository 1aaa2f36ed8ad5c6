"""What a server that carries the queue must be, as a table of cases."""

from typing import Any

import pytest

from worker.queue_audit import Server, audit_queue, judge
from worker.settings import Settings

INFO = {
    "redis_version": "7.2.99",
    "role": "master",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
}
CONFIG = {"appendfsync": "everysec", "save": ""}
FULL = {"maxmemory": "100", "maxmemory_policy": "allkeys-lru"}


def build(**settings: Any) -> Settings:
    return Settings(**{"broker_url": "redis://h/0", "cache_url": "redis://h/1", **settings})


@pytest.mark.parametrize(
    ("info", "config", "settings", "expected"),
    [
        ({}, {}, {}, {"ok": "costs at most 1 s"}),
        ({}, {"appendfsync": "always"}, {}, {"ok": "confirmed means on disk"}),
        ({}, {"appendfsync": "no"}, {}, {"warn": "about 30 s"}),
        ({}, None, {}, {"ok": "appendfsync cannot be read"}),
        ({"aof_enabled": "0"}, {}, {}, {"warn": "a restart of the server loses what waits"}),
        ({"aof_enabled": "0"}, {"save": "3600 1"}, {}, {"warn": "snapshots only"}),
        ({"aof_enabled": "0"}, None, {}, {"warn": "whether it takes snapshots cannot be read"}),
        (FULL, {}, {}, {"fail": "the server evicts queues", "ok": "1 s"}),
        (FULL, {}, {"allow_queue_eviction": True}, {"warn": "allow_queue_eviction lets it", "ok": "1 s"}),
        ({"maxmemory_policy": "allkeys-lfu"}, {}, {}, {"warn": "with a maxmemory", "ok": "1 s"}),
        ({"maxmemory": "100", "maxmemory_policy": "volatile-lfu"}, {}, {}, {"ok": "1 s"}),
        ({"role": "slave"}, {}, {}, {"fail": "is a replica", "ok": "1 s"}),
        (
            {"redis_version": "6.0.16"},
            {},
            {},
            {"fail": "Redis 6.0.16 is too old", "warn": "gets no fixes", "ok": "1 s"},
        ),
        ({"redis_version": "6.2.0"}, {}, {}, {"warn": "holes", "ok": "Redis 6.2.0"}),
        ({"redis_version": "6.2.99"}, {}, {}, {"ok": "Redis 6.2.99"}),
        ({"redis_version": "unstable"}, {}, {}, {"ok": "Redis unstable"}),
        ({"valkey_version": "9.1.2"}, {}, {}, {"ok": "Valkey 9.1.2"}),
        ({}, {}, {"durability": "strict"}, {"ok": "confirmed means on disk"}),
        ({"redis_version": "6.2.99"}, {}, {"durability": "strict"}, {"fail": "is everysec", "ok": "1 s"}),
        ({"redis_version": "6.2.99"}, None, {"durability": "strict"}, {"fail": "cannot be read", "ok": ""}),
        (
            {"redis_version": "6.2.99"},
            {"appendfsync": "always"},
            {"durability": "strict"},
            {"ok": "confirmed means on disk"},
        ),
        (
            {"aof_enabled": "0"},
            {},
            {"durability": "strict"},
            {"fail": "no append-only file", "warn": "loses"},
        ),
    ],
)
def test_verdicts(
    info: dict[str, str], config: dict[str, str] | None, settings: dict[str, Any], expected: dict[str, str]
) -> None:
    """What must lose messages fails, what may is warned of, each with a hint."""
    server = Server.of({**INFO, **info}, {} if config is None else {**CONFIG, **config})
    lines = judge(server, build(**settings))
    assert [verdict for verdict, _, _, _ in lines] == list(expected)
    for verdict, what, said, hint in lines:
        assert what == "queue"
        assert expected[verdict] in said
        assert bool(hint) == (verdict != "ok"), said


@pytest.mark.parametrize("url", ["memory://", "kombu+redis://127.0.0.1:1/0"])
def test_strict_is_refused_where_nobody_can_wait(url: str) -> None:
    """Without asking anybody."""
    ((verdict, _, said, hint),) = audit_queue(build(broker_url=url, durability="strict"))
    assert verdict == "fail"
    assert "cannot wait for a disk" in said
    assert "durability normal" in hint


@pytest.mark.parametrize("url", ["memory://", "pyamqp://h//"])
def test_a_server_of_another_kind_is_not_asked(url: str) -> None:
    """AMQP has no INFO."""
    assert audit_queue(build(broker_url=url)) == []
