"""Forgetting on servers in a bad state: full, or with a clock that has gone back."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.servers import ValkeyServer
from wire.names import Names
from worker.forgetting import ServerFull, forget

NAMES = Names()
ROOM = 1_000_000


class Stopped:
    """A client whose server's clock says what it is told to."""

    def __init__(self, client: "redis.Redis", seconds: int) -> None:
        self._client, self.seconds = client, seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def time(self) -> tuple[int, int]:
        return self.seconds, 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("forgetting"), appendonly="no") as started:
        yield started


@pytest.fixture
def client(server: ValkeyServer) -> Iterator["redis.Redis"]:
    with server.client() as opened:
        opened.config_set("maxmemory", 0)
        opened.flushall()
        yield opened


def fill(client: "redis.Redis", stem: str) -> None:
    """Until it is full: `noeviction` refuses the next write."""
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + ROOM)
    with client.pipeline(transaction=False) as pipe:
        for number in range(2 * ROOM // 4096):
            pipe.set(f"{stem}{{{number}}}", b"x" * 4096)
        answers = pipe.execute(raise_on_error=False)
    assert isinstance(answers[-1], redis.OutOfMemoryError)


def test_a_full_server_is_purged_all_the_same(client: "redis.Redis") -> None:
    """That is when somebody purges. Entries first, then the generation; it is said."""
    fill(client, NAMES.entries_of("m", "1"))
    held, told = client.dbsize(), list[bool]()
    assert held > 1
    assert forget(client, NAMES, "m", on_full=lambda: told.append(True)) == held
    assert told == [True]
    assert client.keys() == [NAMES.generation("m").encode()]
    assert forget(client, NAMES, "m", on_full=lambda: told.append(True)) == 0
    assert told == [True]


def test_where_dropping_is_not_enough_it_is_said(client: "redis.Redis") -> None:
    """Full of what is somebody else's: the entries are gone, and the generation has not moved."""
    client.set(f"{NAMES.entries_of('m', '1')}{{a}}", b"x")
    fill(client, "other:")
    client.config_set("maxmemory", 1)
    with pytest.raises(ServerFull, match=r"1 results were dropped, and the server is still full"):
        forget(client, NAMES, "m")
    assert client.exists(f"{NAMES.entries_of('m', '1')}{{a}}", NAMES.generation("m")) == 0


def test_a_clock_that_has_gone_back_does_not_keep_a_purge_from_counting(client: "redis.Redis") -> None:
    """Workers use the larger of a model's and its version's generation: each purge must be above both."""
    clock = Stopped(client, 2_000_000_000)
    model, version, other = (NAMES.generation("m", v) for v in (None, "1", "2"))

    def purged(of: str | None) -> int:
        forget(clock, NAMES, "m", of)  # type: ignore[arg-type]
        return int(client.get(NAMES.generation("m", of)) or 0)

    first = purged("1")
    assert first == 2_000_000_000_000_000
    clock.seconds = 1_000_000_000
    assert purged("2") == 1_000_000_000_000_000, "it has nothing to do with the other version"
    assert purged(None) == first + 1, "it counts for all versions"
    assert purged("2") == first + 2
    assert purged(None) == first + 3
    assert (client.get(version), client.get(other)) == (b"%d" % first, b"%d" % (first + 2))
    clock.seconds = 3_000_000_000
    assert purged(None) == 3_000_000_000_000_000
    assert client.exists(model, version, other) == 3
