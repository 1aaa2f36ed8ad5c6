"""TLS on both kinds of broker and on the cache: who is not who the URL says is refused, with the reason."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from broker.base import BrokerError, BrokerUnreachable, Message
from broker.urls import open_broker
from producer.client import Producer
from tests.support.certificates import Certificates
from tests.support.proxy import Proxy
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.waiting import accepts, free_port, until
from wire.names import Names
from worker.cache_link import CacheLink, redis_client

REDIS, AMQP = "redis", "amqp"


@dataclass
class Server:
    """A real server: its plain port, and the port of its own TLS that asks for a client's certificate."""

    plain: int
    asking: int


@pytest.fixture(scope="module")
def rabbit_tls(
    rabbit_server: RabbitServer, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """RabbitMQ with verify_peer. `rabbit_server` is what skips, or fails, where there is no RabbitMQ."""
    port = free_port()
    lines = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.cacertfile": certificates.pem("ca"),
        "ssl_options.certfile": certificates.pem("server"),
        "ssl_options.keyfile": certificates.key("server"),
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
    }
    config = "".join(f"{name} = {value}\n" for name, value in lines.items())
    server = RabbitServer(tmp_path_factory.mktemp("rabbit"), config).start()
    until(lambda: accepts(port), 60, "TLS")
    yield Server(server.port, port)
    server.stop()


@pytest.fixture(scope="module")
def valkey_tls(valkey_server: ValkeyServer, certificates: Certificates) -> Iterator[Server]:
    """Valkey: the embedded wheel's is built without TLS, which ends before it."""
    ending = Proxy(valkey_server.port, tls=certificates.server(asks=True))
    yield Server(valkey_server.port, ending.port)
    ending.close()


@pytest.fixture(params=[REDIS, AMQP])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(kind: str, request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue("valkey_tls" if kind == REDIS else "rabbit_tls")
    return found


@pytest.fixture
def showing(server: Server, certificates: Certificates) -> Iterator[Callable[[str], int]]:
    """The port of the same server behind a certificate of that name."""
    opened: list[Proxy] = []

    def show(name: str) -> int:
        opened.append(Proxy(server.plain, tls=certificates.server(name)))
        return opened[-1].port

    yield show
    for one in opened:
        one.close()


def url_of(kind: str, port: int, host: str = "localhost", **options: str) -> str:
    """With the options of TLS as this kind of URL calls them."""
    prefix = "ssl_" if kind == REDIS else ""
    query = "&".join(f"{prefix}{name}={value}" for name, value in options.items())
    if kind == REDIS:
        return f"rediss://{host}:{port}/0?{query}"
    return f"amqps://guest:guest@{host}:{port}//?{query}"


def refusal(url: str, names: Names) -> str:
    """What is said of it."""
    broker = open_broker(url, names)
    try:
        with pytest.raises(BrokerUnreachable) as caught:
            broker.connect()
    finally:
        broker.close()
    return str(caught.value)


def ours(certificates: Certificates, name: str = "client") -> dict[str, str]:
    return {"certfile": certificates.pem(name), "keyfile": certificates.key(name)}


def test_who_shows_a_certificate_of_the_ca_is_let_in(
    kind: str, server: Server, certificates: Certificates, names: Names
) -> None:
    """The server checks us, we check the server, and messages pass."""
    url = url_of(kind, server.asking, ca_certs=certificates.pem("ca"), **ours(certificates))
    broker = open_broker(url, names)
    broker.connect()
    broker.send(names.requests, [Message(b"{}")])
    assert broker.depth()[names.requests] == 1
    broker.close()


def test_a_producer_takes_the_same_url(
    kind: str, server: Server, certificates: Certificates, names: Names
) -> None:
    """The library, with nothing else to set."""
    url = url_of(kind, server.asking, ca_certs=certificates.pem("ca"), **ours(certificates))
    with Producer(url, prefix=names.prefix) as producer:
        assert producer.enqueue([1, 2, 3]) == 3


@pytest.mark.parametrize(
    ("certificate", "ca", "host", "said"),
    [
        (
            "server",
            "stranger",
            "localhost",
            "is not trusted .* name the CA that signed it by (ssl_)?ca_certs",
        ),
        ("server", None, "localhost", "is not trusted .* name the CA that signed it by (ssl_)?ca_certs"),
        ("server", "ca", "127.0.0.1", "is of another host .*127.0.0.1.* use a host name that it holds"),
        ("elsewhere", "ca", "localhost", "is of another host .*localhost"),
        ("expired", "ca", "localhost", "has expired: renew it on the server"),
    ],
)
def test_a_server_that_is_not_who_the_url_says_is_refused(
    kind: str,
    showing: Callable[[str], int],
    certificates: Certificates,
    names: Names,
    certificate: str,
    ca: str | None,
    host: str,
    said: str,
) -> None:
    """It is said what is wrong, and what to change."""
    trusted = {"ca_certs": certificates.pem(ca)} if ca else {}
    found = refusal(url_of(kind, showing(certificate), host, **trusted), names)
    assert re.search(said, found), found
    assert "guest:guest" not in found


@pytest.mark.parametrize("client", [None, "strange-client"])
def test_a_server_that_asks_for_a_certificate_says_no_to_others(
    kind: str, server: Server, certificates: Certificates, names: Names, client: str | None
) -> None:
    """Neither without one nor with one of another CA."""
    shown = ours(certificates, client) if client else {}
    found = refusal(url_of(kind, server.asking, ca_certs=certificates.pem("ca"), **shown), names)
    assert "certfile" in found, found


def test_plain_text_to_a_port_of_tls_is_no_connection(kind: str, server: Server, names: Names) -> None:
    """And the scheme that is meant is named."""
    urls = {REDIS: f"redis://localhost:{server.asking}/0", AMQP: f"pyamqp://localhost:{server.asking}//"}
    found = refusal(urls[kind], names)
    assert ("rediss://" if kind == REDIS else "amqps://") in found, found


def test_tls_to_a_plain_port_is_never_plain_text(
    kind: str, server: Server, certificates: Certificates, names: Names
) -> None:
    """A server that cannot do what the URL asks for is not talked to in another way."""
    found = refusal(url_of(kind, server.plain, ca_certs=certificates.pem("ca")), names)
    assert "TLS" in found, found


@pytest.mark.parametrize("which", ["ca_certs", "certfile", "keyfile"])
@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_files_that_are_none_are_said_at_once(
    kind: str, certificates: Certificates, names: Names, tmp_path: Path, which: str, content: str | None
) -> None:
    """Not a server that is down for ever: the option and the path are named before anything is asked."""
    path = tmp_path / "given.pem"
    if content is not None:
        path.write_text(content)
    files = {"ca_certs": certificates.pem("ca"), **ours(certificates), which: str(path)}
    with pytest.raises(BrokerError, match=f"{which}={path}") as caught:
        open_broker(url_of(kind, 1, **files), names)
    assert not isinstance(caught.value, BrokerUnreachable)


def test_a_key_of_another_certificate_is_said_at_once(
    kind: str, certificates: Certificates, names: Names
) -> None:
    """The server would only hang up."""
    files = {"certfile": certificates.pem("client"), "keyfile": certificates.key("server")}
    with pytest.raises(BrokerError, match="not a certificate and its own key"):
        open_broker(url_of(kind, 1, **files), names)


@pytest.mark.parametrize(
    ("certificate", "ca"), [("server", "stranger"), ("elsewhere", "ca"), ("expired", "ca")]
)
def test_the_cache_checks_whom_it_talks_to(
    valkey_tls: Server, certificates: Certificates, certificate: str, ca: str
) -> None:
    """On the link of lookups and on the client of everything else."""
    proxy = Proxy(valkey_tls.plain, tls=certificates.server(certificate))
    try:
        url = url_of(REDIS, proxy.port, ca_certs=certificates.pem(ca))
        with pytest.raises((redis.RedisError, OSError), match="CERTIFICATE_VERIFY_FAILED"):
            CacheLink(url, time.monotonic() + 5)
        with redis_client(url, 5) as client, pytest.raises(redis.RedisError, match="VERIFY_FAILED"):
            client.ping()
    finally:
        proxy.close()


def test_the_cache_shows_our_certificate(valkey_tls: Server, certificates: Certificates) -> None:
    """A server that asks for one answers us, and nobody without."""
    known = {"ca_certs": certificates.pem("ca")}
    url = url_of(REDIS, valkey_tls.asking, **known, **ours(certificates))
    link = CacheLink(url, time.monotonic() + 5)
    assert link.ask([("PING",)], time.monotonic() + 5) == [b"PONG"]
    link.close()
    with pytest.raises((redis.RedisError, OSError)):
        CacheLink(url_of(REDIS, valkey_tls.asking, **known), time.monotonic() + 5)
