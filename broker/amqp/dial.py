"""From a URL to a connection: kombu's URLs, several nodes joined by `;`, TLS that checks whom it talks to."""

import socket
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import kombu

from broker.amqp.connection import Connection, Transport
from broker.base import BrokerError
from broker.tls import AMQP, context_of, explained

SCHEMES = ("amqp", "pyamqp", "amqps")
# py-amqp has the kernel give up after a second in which the peer takes nothing: a memory alarm would end the
# connection of whoever has much to send. Heartbeats tell the dead from the full.
_SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 0} if hasattr(socket, "TCP_USER_TIMEOUT") else {}
_TLS_OPTIONS = frozenset({"ca_certs", "certfile", "keyfile", "server_hostname"})


class Dialler:
    """Knows how to reach the nodes of `url` (`pyamqp://a:5672//;pyamqp://b:5672//`).

    `amqps://` verifies certificate and host name; `?ca_certs=…&certfile=…&keyfile=…&server_hostname=…` say
    how. Raises BrokerError for a URL that says something else, or names a file that is no such thing.
    """

    def __init__(self, url: str, *, heartbeat_seconds: float, connect_seconds: float) -> None:
        self._heartbeat, self._connect_seconds = heartbeat_seconds, connect_seconds
        first = url.partition("://")[0]
        parts = [part if "://" in part else f"{first}://{part}" for part in url.split(";") if part]
        self._nodes = [_node(part) for part in parts]
        self._is_secure = self._nodes[0][1] is not None if self._nodes else False
        if any((tls is not None) != self._is_secure for _, tls in self._nodes):
            # The plain one would be taken wherever the other's certificate is refused.
            raise BrokerError("expected TLS for all nodes or for none; amqps:// and plain text are mixed")

    def dial(self) -> Connection:
        """A connection to the first node that answers. Raises what the last of them said."""
        for url, tls in self._nodes[:-1]:
            try:
                return self._connect(url, tls)
            except Exception:  # noqa: BLE001, S112 - whatever it is, the next node may be better
                continue
        return self._connect(*self._nodes[-1])

    def explained(self, error: BaseException) -> str:
        """Why there was no connection, in words that name what to change."""
        return explained(error, AMQP, secure=self._is_secure)

    def _connect(self, url: str, tls: dict[str, Any] | None) -> Connection:
        # One at a time, because kombu's own failover forgets which transport it was told to use.
        described = kombu.Connection(
            url,
            transport=Transport,
            ssl=tls or False,
            heartbeat=self._heartbeat,
            connect_timeout=self._connect_seconds,
            transport_options={"socket_settings": _SOCKET_SETTINGS},
        )
        connection: Connection = described.transport.establish_connection()
        return connection


def _node(part: str) -> tuple[str, dict[str, Any] | None]:
    """kombu's URL of one node and the options of its TLS."""
    address, _, query = part.partition("?")
    scheme, _, rest = address.partition("://")
    options = dict(parse_qsl(query))
    unknown = sorted(set(options) - (_TLS_OPTIONS if scheme == "amqps" else frozenset()))
    if scheme not in SCHEMES or unknown:
        raise BrokerError(f"expected {', '.join(SCHEMES)}, with options for TLS only: {scheme} {unknown}")
    url = f"pyamqp://{rest}"
    if scheme == "amqps":
        _check_files(options)
    # Without a server name py-amqp checks the certificate and not whose it is; kombu's is never `localhost`.
    return url, {"server_hostname": urlsplit(url).hostname, **options} if scheme == "amqps" else None


def _check_files(options: dict[str, str]) -> None:
    try:
        context_of(AMQP, options.get("ca_certs"), options.get("certfile"), options.get("keyfile"))
    except ValueError as error:
        raise BrokerError(f"amqps: {error}") from None
