"""What a Redis URL may say besides where the server is. The queue's and the cache's are checked alike."""

from urllib.parse import parse_qsl, urlsplit

from redis.connection import ConnectionPool

from broker.tls import REDIS, context_of

_TLS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname"}
)


def check_url(url: str) -> None:
    """Raises ValueError for options that nobody would obey, and for files of TLS that are not there."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "decode_responses" in given:
        raise ValueError("decode_responses cannot be set: answers are read as bytes")
    tls = {name: value for name, value in given.items() if name.startswith("ssl")}
    if tls:
        _check_tls(parts.scheme, tls)
    if parts.scheme == "rediss":
        context_of(
            REDIS,
            tls.get("ssl_ca_certs"),
            tls.get("ssl_certfile"),
            tls.get("ssl_keyfile"),
            tls.get("ssl_password"),
        )
    try:
        ConnectionPool.from_url(url, retry=None, socket_timeout=1.0).make_connection()  # not made yet
    except TypeError as error:
        raise ValueError(str(error).rpartition(") ")[2]) from None


def _check_tls(scheme: str, given: dict[str, str]) -> None:
    if scheme != "rediss":
        raise ValueError(f"{', '.join(sorted(given))}: options of TLS need rediss://")
    unknown = sorted(given.keys() - _TLS)
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is not known; TLS has: {', '.join(sorted(_TLS))}")
    if given.get("ssl_cert_reqs", "required") not in ("required", "none"):
        raise ValueError(f"ssl_cert_reqs is {given['ssl_cert_reqs']!r}; expected required or none")
