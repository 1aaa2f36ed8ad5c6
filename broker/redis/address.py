"""Where the server is: a URL, or sentinels that know."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionInterface, ConnectionPool
from redis.retry import Retry
from redis.sentinel import Sentinel

from broker.redis.url import check_url
from broker.tls import REDIS, explained

_SENTINEL_PORT = 26379
_READ_BYTES = 1 << 18  # a batch in one recv, or nearly
_FORM = "redis+sentinel://[user:password@]host:26379,host2:26379/MASTER[/DATABASE]"


class Address:
    """Makes connections to one server; to the present master where sentinels are asked.

    `url` is `redis://`, `rediss://`, `unix://` (or `redis+socket://`) or `redis+sentinel://`.
    Raises ValueError.
    """

    def __init__(self, url: str) -> None:
        self._is_secure = url.startswith("rediss:")
        self._make = _by_sentinel(url) if url.startswith("redis+sentinel:") else _by_url(url)

    def connection(self, timeout: float) -> ConnectionInterface:
        """A connection, not yet made, that asks once: nothing it sends is sent again by itself."""
        return self._make(timeout)

    def explained(self, error: BaseException) -> str:
        """Why there was no connection, in words that name what to change."""
        return explained(error, REDIS, secure=self._is_secure)


def _options(timeout: float) -> dict[str, Any]:
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, 3.0),
        "socket_read_size": _READ_BYTES,
    }


def _by_url(url: str) -> Callable[[float], ConnectionInterface]:
    url = url.replace("redis+socket://", "unix://", 1)

    def make(timeout: float) -> ConnectionInterface:
        keep = {} if url.startswith("unix:") else {"socket_keepalive": True}
        return ConnectionPool.from_url(url, **_options(timeout), **keep).make_connection()

    check_url(url)  # a bad URL is said now
    return make


def _by_sentinel(url: str) -> Callable[[float], ConnectionInterface]:
    parts = urlsplit(url)
    where = parts.netloc.rpartition("@")
    path = [unquote(part) for part in parts.path.split("/") if part]
    if not where[2] or not 1 <= len(path) <= 2 or (len(path) == 2 and not path[1].isdigit()):
        raise ValueError(f"expected {_FORM}")
    hosts = [_host(item) for item in where[2].split(",")]
    user, _, password = where[0].partition(":")
    login = {"username": unquote(user) or None, "password": unquote(password) or None} if where[0] else {}
    sentinel_login = _sentinel_login({name: values[0] for name, values in parse_qs(parts.query).items()})

    def make(timeout: float) -> ConnectionInterface:
        sentinel = Sentinel(
            hosts,
            sentinel_kwargs={**_options(timeout), **sentinel_login},
            db=int(path[1]) if len(path) == 2 else 0,
            **_options(timeout),
            **login,
        )
        master: redis.Redis = sentinel.master_for(path[0])
        return master.connection_pool.make_connection()

    return make


def _sentinel_login(asked: dict[str, str]) -> dict[str, str]:
    names = {"sentinel_username": "username", "sentinel_password": "password"}
    unknown = asked.keys() - names.keys()
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not known; expected {_FORM}?sentinel_password=…")
    return {names[name]: value for name, value in asked.items()}


def _host(item: str) -> tuple[str, int]:
    name, _, port = item.rpartition(":") if ":" in item else (item, "", str(_SENTINEL_PORT))
    if not name or not port.isdigit():
        raise ValueError(f"{item!r} is no host; expected {_FORM}")
    return name, int(port)
