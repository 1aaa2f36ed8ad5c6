"""What others on the network can do to a server, as far as its URL tells."""

import ipaddress
import re
from urllib.parse import parse_qsl, unquote, urlsplit

_REDIS = ("redis", "rediss", "kombu+redis", "redis+sentinel")
_AMQP = ("amqp", "pyamqp", "amqps")
_SECURE = {"rediss": "rediss", "amqps": "amqps", "amqp": "amqps", "pyamqp": "amqps"}
_BETWEEN_NODES = re.compile(r";(?=[A-Za-z][A-Za-z0-9+.-]*://)")
UNVERIFIED = "TLS that does not check whom it talks to: whoever stands between reads and changes everything"
_OFF = ("0", "f", "false", "n", "no")


def exposure(url: str) -> tuple[str, str] | None:
    """What is open, and what to change; None where nothing is, also for what never leaves the machine."""
    for node in _BETWEEN_NODES.split(url):
        try:
            found = _of_node(node)
        except ValueError:  # no URL, which is said elsewhere
            return None
        if found:
            return found
    return None


def is_unverified(url: str) -> bool:
    """Whether it asks for TLS that does not check whom it talks to."""
    try:
        return _is_unverified(dict(parse_qsl(urlsplit(url).query)))
    except ValueError:
        return False


def _of_node(url: str) -> tuple[str, str] | None:
    parts = urlsplit(url)
    scheme, options = parts.scheme, dict(parse_qsl(parts.query))
    if scheme not in (*_REDIS, *_AMQP):
        return None
    if _is_unverified(options):
        return (
            UNVERIFIED,
            "ssl_ca_certs=/path/of/its/CA instead of ssl_cert_reqs=none and ssl_check_hostname=no",
        )
    login, _, hosts = parts.netloc.rpartition("@")
    if all(_is_here(host) for host in re.split("[,;]", hosts)):
        return None
    open_to = [
        *([] if scheme in ("rediss", "amqps") else ["plain text"]),
        *_without_login(scheme, login, options),
    ]
    if not open_to:
        return None
    name = re.sub(r":\d*$", "", re.split("[,;]", hosts)[0])
    said = f"{' and '.join(open_to)} over the network to {name}: whoever is on it reads and forges messages"
    secure = f"{_SECURE.get(scheme, 'rediss')}://user:password@{name}"
    return said, f"{secure}, or a network that only workers and producers are on (docs/security.md)"


def _is_unverified(options: dict[str, str]) -> bool:
    checks_host = options.get("ssl_check_hostname", "yes").lower() not in _OFF
    return options.get("ssl_cert_reqs") == "none" or not checks_host


def _without_login(scheme: str, login: str, options: dict[str, str]) -> list[str]:
    user, _, password = login.partition(":")
    if scheme in _AMQP:
        # kombu says guest where the URL names nobody.
        return (
            ["the user guest"]
            if unquote(user) in ("", "guest") and unquote(password) in ("", "guest")
            else []
        )
    if password or options.get("password") or "ssl_certfile" in options:
        return []
    return ["no password"]


def _is_here(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or "localhost"
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
