"""What a URL tells of a server that others can use."""

import pytest

from broker.exposure import exposure
from broker.urls import open_broker
from wire.names import Names


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://valkey:6379/0", ("plain text", "no password", "valkey")),
        ("redis://:secret@valkey:6379/0", ("plain text",)),
        ("redis://valkey?password=secret", ("plain text",)),
        ("rediss://valkey:6379/0", ("no password",)),
        ("rediss://:secret@127.0.0.1:6379/0?ssl_cert_reqs=none", ("does not check",)),
        ("rediss://:secret@valkey/0?ssl_check_hostname=No", ("does not check",)),
        ("redis://10.0.0.1", ("plain text", "no password")),
        ("redis://[2001:db8::1]:6379/0", ("plain text", "no password", "to [2001:db8::1]:")),
        ("redis://[2001:db8::1]/0", ("plain text", "no password", "to [2001:db8::1]:")),
        ("redis+sentinel://a,b:26379/master", ("plain text", "no password", "to a:")),
        ("redis+sentinel://a:26379,b:26379/master", ("plain text", "no password")),
        ("pyamqp://guest:guest@rabbit:5672//", ("plain text", "guest")),
        ("pyamqp://rabbit//", ("plain text", "guest")),
        ("amqp://user:secret@rabbit//", ("plain text",)),
        ("amqps://guest:guest@rabbit:5671//", ("guest",)),
        ("pyamqp://localhost//;pyamqp://u:secret@rabbit//", ("plain text",)),
        ("pyamqp://u:secret@localhost;rabbit//", ("plain text",)),
    ],
)
def test_what_is_open_is_said_with_what_to_change(url: str, words: tuple[str, ...]) -> None:
    """And nothing is said that is not so; no password is shown."""
    found = exposure(url)
    assert found is not None
    said = found[0]
    for word in ("plain text", "no password", "guest", "does not check"):
        assert (word in said) == (word in words), said
    assert all(word in said for word in words), said
    assert "secret" not in " ".join(found)
    assert found[1]


@pytest.mark.parametrize(
    "url",
    [
        "embedded:",
        "unix:///run/valkey.sock",
        "redis+socket:///run/valkey.sock",
        "memory://",
        "redis://localhost:6379/0",
        "redis://127.0.0.1",
        "redis://[::1]:6379/0",
        "pyamqp://guest:guest@127.0.0.1:5672//",
        "pyamqp://localhost//;pyamqp://127.0.0.1//",
        "rediss://:secret@valkey/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=yes",
        "rediss://valkey/0?ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
        "amqps://u:secret@rabbit//",
        "redis://[half",
    ],
)
def test_what_is_closed_is_not_spoken_of(url: str) -> None:
    """Also not what never leaves the machine."""
    assert exposure(url) is None


def test_a_url_without_a_check_still_opens() -> None:
    """To write it down is the opt-in: some hosts of Redis sign for themselves."""
    open_broker("rediss://h/0?ssl_cert_reqs=none", Names()).close()
