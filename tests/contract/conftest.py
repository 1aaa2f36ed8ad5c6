"""What several contracts stand on."""

from collections.abc import Iterator

import pytest
import redis

from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from wire.names import Names


@pytest.fixture
def names(prefix: str) -> Names:
    return Names(prefix)


@pytest.fixture
def client(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with valkey.client() as opened:
        yield opened


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[Proxy]:
    """Before Valkey."""
    opened = Proxy(valkey.port)
    yield opened
    opened.close()
