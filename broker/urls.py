"""From a URL to a broker."""

import re
from urllib.parse import urlsplit, urlunsplit

from broker.base import Broker, BrokerError, BrokerOptions
from broker.embedded import join
from broker.kombu import KombuBroker
from broker.redis.broker import RedisBroker
from wire.names import Names

_REDIS = ("redis", "rediss", "redis+socket", "unix", "redis+sentinel")
_KOMBU = {
    # librabbitmq takes over `amqp` wherever it happens to be installed: we name the client we test with.
    "amqp": "pyamqp",
    "pyamqp": "pyamqp",
    "amqps": "pyamqp+ssl",
    "memory": "memory",
    # kombu's own Redis transport, as safe as kombu makes it: to compare with, and for its stock consumers.
    "kombu+redis": "redis",
}
SCHEMES = ("embedded", *_REDIS, *_KOMBU)


def open_broker(url: str, names: Names, options: BrokerOptions | None = None) -> Broker:
    """The broker that `url` names, not connected yet.

    `embedded:` joins the shared server of this machine. Raises BrokerError for a URL that names none.
    """
    scheme, colon, rest = url.partition(":")
    options = options or BrokerOptions()
    if scheme == "embedded" and colon:
        return _on_embedded(url, names, options)
    if scheme in _REDIS and rest.startswith("//"):
        try:
            return RedisBroker(url, names, options, shown=mask(url))
        except ValueError as error:
            raise BrokerError(f"broker URL {mask(url)!r}: {error}") from None
    if scheme in _KOMBU and rest.startswith("//"):
        return KombuBroker(f"{_KOMBU[scheme]}:{rest}", names, shown=mask(url))
    raise BrokerError(
        f"broker URL {mask(url)!r} is not known; expected embedded:, redis://host:6379/0, "
        "redis+socket:///path, redis+sentinel://host:26379/master, pyamqp://user:password@host:5672// "
        "or memory://"
    )


def _on_embedded(url: str, names: Names, options: BrokerOptions) -> Broker:
    server = join(url)
    return RedisBroker(
        server.redis_url, names, options, shown=url, before_connect=server.ensure, on_close=server.close
    )


def mask(url: str) -> str:
    """`url` without its password."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return re.sub(r"//[^/]*@", "//***@", url)
    if password is None:
        return url
    user, host = parts.netloc.rsplit("@", 1)
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))
