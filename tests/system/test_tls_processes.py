"""TLS as an operator meets it: workers, commands and producers, with certificates on both sides."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.processes import WorkerProcess, run
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.stub_model import StubModel
from tests.support.waiting import until


@dataclass
class Secured:
    """A system in which each server shows its certificate and asks for ours; `settings` are well."""

    certificates: Certificates
    settings: dict[str, str]
    model: StubModel
    model_port: int
    prefix: str
    behind: Callable[[int, str], int]
    plain_port: int

    def rediss(self, port: int, ca: str = "ca", client: str = "client", database: int = 0) -> str:
        options = f"?ssl_ca_certs={self.certificates.pem(ca)}"
        if client:
            options += f"&ssl_certfile={self.certificates.pem(client)}"
            options += f"&ssl_keyfile={self.certificates.key(client)}"
        return f"rediss://:pass-word@localhost:{port}/{database}{options}"


@pytest.fixture
def secured(valkey: ValkeyServer, certificates: Certificates, prefix: str) -> Iterator[Secured]:
    opened: list[Proxy] = []

    def behind(target: int, name: str = "server", *, asks: bool = True) -> int:
        opened.append(Proxy(target, tls=certificates.server(name, asks=asks)))
        return opened[-1].port

    with valkey.client() as admin, StubModel() as model:
        admin.config_set("requirepass", "pass-word")
        admin.execute_command("AUTH", "pass-word")
        port, model_port = behind(valkey.port), behind(model.port)
        found = Secured(certificates, {}, model, model_port, prefix, behind, valkey.port)
        found.settings = {
            "BROKER_URL": found.rediss(port),
            "CACHE_URL": found.rediss(port, database=1),
            "PREFIX": prefix,
            "CACHE_DEADLINE_SECONDS": "5",
            "MODELS__M__TARGET": f"https://localhost:{model_port}/predict",
            "MODELS__M__CA_FILE": certificates.pem("ca"),
            "MODELS__M__CERT_FILE": certificates.pem("client"),
            "MODELS__M__KEY_FILE": certificates.key("client"),
            "MODELS__M__ATTEMPTS": "1",
        }
        try:
            yield found
        finally:
            admin.config_set("requirepass", "")
            for one in opened:
                one.close()


def ended(place: Path, *words: str, **settings: str) -> tuple[int, str]:
    """Exit code, and all that was said; never a traceback, never the password."""
    done = run(place, *words, **settings)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "pass-word" not in said
    return done.returncode, said


def test_everything_works_over_tls_with_certificates_on_both_sides(secured: Secured, place: Path) -> None:
    """Queue, cache and model: a miss, then a hit; `check` finds nothing wrong with any of them."""
    worker = WorkerProcess(place / "w", **secured.settings)
    try:
        for outcome in ("miss", "hit"):
            code, said = ended(place, "producer", "call", "7", "--no-retry", **secured.settings)
            assert code == 0, said
            assert f'"outcome": "{outcome}"' in said
        assert secured.model.calls == 1
        code, said = ended(place, "worker", "check", **secured.settings)
        assert code == 0, said
        assert "fail" not in said.partition("0 failed")[0]
        assert f"ok    model     m localhost:{secured.model_port}" in said
        for command in (("queue", "stats"), ("cache", "stats")):
            code, said = ended(place, "worker", *command, **secured.settings)
            assert code == 0, said
    finally:
        worker.stop()
    assert worker.events("open server") == []
    assert "pass-word" not in worker.said


CASES = {
    "of another CA": "is not trusted",
    "of another host": "is of another host",
    "expired": "has expired",
    "without ours": "ssl_certfile",
    "plain port": "TLS",
    "plain text": "rediss://",
}


def _case(secured: Secured, case: str, database: int = 0) -> str:
    """The URL of a server that this is wrong with."""
    name = {"of another host": "elsewhere", "expired": "expired"}.get(case, "server")
    port = secured.plain_port if case == "plain port" else secured.behind(secured.plain_port, name)
    if case == "plain text":
        return f"redis://:pass-word@localhost:{port}/{database}"
    ca = "stranger" if case == "of another CA" else "ca"
    return secured.rediss(port, ca, "" if case == "without ours" else "client", database)


@pytest.mark.parametrize("case", CASES)
def test_a_broker_that_is_refused_is_named_with_the_reason(secured: Secured, place: Path, case: str) -> None:
    """By every command, with exit code 3."""
    settings = {**secured.settings, "BROKER_URL": _case(secured, case)}
    for module, *arguments in (
        ("worker", "run", "--no-retry"),
        ("worker", "check"),
        ("worker", "queue", "stats"),
        ("producer", "call", "7", "--no-retry"),
    ):
        code, said = ended(place, module, *arguments, **settings)
        assert code == 3, (arguments, said)
        assert CASES[case] in said, (arguments, said)


@pytest.mark.parametrize("case", CASES)
def test_a_cache_that_is_refused_costs_calls_and_is_named_with_the_reason(
    secured: Secured, place: Path, case: str
) -> None:
    """A worker goes on without it, and says why; nothing is ever sent to it in plain text."""
    settings = {**secured.settings, "CACHE_URL": _case(secured, case, 1)}
    for arguments in (("check",), ("cache", "stats")):
        code, said = ended(place, "worker", *arguments, **settings)
        assert code == 3, said
        assert CASES[case] in said, said
    worker = WorkerProcess(place / "w", **settings)
    try:
        code, said = ended(place, "producer", "call", "7", "--no-retry", **settings)
        assert (code, '"outcome": "unavailable"' in said) == (0, True), said
        assert CASES[case] in str(worker.events("cache down")[0]["error"])
    finally:
        worker.stop()


MODELS = {
    "of another CA": ("server", {"MODELS__M__CA_FILE": "stranger"}, "name the CA that signed it by ca_file"),
    "of another host": ("elsewhere", {}, "is of another host"),
    "expired": ("expired", {}, "has expired"),
    "plain port": ("", {}, "does not speak TLS"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_is_refused_is_never_asked(secured: Secured, place: Path, case: str) -> None:
    """`check` warns, and the reply says why."""
    name, changes, expected = MODELS[case]
    behind = secured.model.port
    port = secured.behind(behind, name) if name else behind
    settings = {**secured.settings, "MODELS__M__TARGET": f"https://localhost:{port}/predict"}
    settings |= {setting: secured.certificates.pem(ca) for setting, ca in changes.items()}
    code, said = ended(place, "worker", "check", **settings)
    assert (code, expected in said) == (0, True), said
    worker = WorkerProcess(place / "w", **settings)
    try:
        code, said = ended(place, "producer", "call", "7", "--no-retry", **settings)
        assert (code, "model_unavailable" in said, expected in said) == (1, True, True), said
    finally:
        worker.stop()
    assert secured.model.calls == 0


def test_a_model_that_asks_for_a_certificate_gets_none_that_is_not_set(secured: Secured, place: Path) -> None:
    """The reply says which settings name one."""
    settings = {k: v for k, v in secured.settings.items() if k[-9:] not in ("CERT_FILE", "_KEY_FILE")}
    worker = WorkerProcess(place / "w", **settings)
    try:
        code, said = ended(place, "producer", "call", "7", "--no-retry", **settings)
        assert (code, "cert_file" in said) == (1, True), said
    finally:
        worker.stop()
    assert secured.model.calls == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"MODELS__M__CA_FILE": "/nowhere.pem"}, "models.m.ca_file=/nowhere.pem: no such file"),
        ({"MODELS__M__TARGET": "http://localhost:1/"}, "ca_file needs a target that begins with https://"),
        ({"BROKER_URL": "rediss://h/0?ssl_ca_certs=/nowhere.pem"}, "ssl_ca_certs=/nowhere.pem: no such file"),
        ({"BROKER_URL": "amqps://h//?ca_certs=/nowhere.pem"}, "ca_certs=/nowhere.pem: no such file"),
        ({"CACHE_URL": "rediss://h/0?ssl_ca_certs=/nowhere.pem"}, "ssl_ca_certs=/nowhere.pem: no such file"),
        ({"CACHE_URL": "rediss://h/0?ssl_ca_cert=/nowhere.pem"}, "ssl_ca_cert is not known"),
    ],
)
def test_a_mistake_in_the_settings_of_tls_starts_nothing(
    secured: Secured, place: Path, changes: dict[str, str], expected: str
) -> None:
    """Exit code 2, before anything is asked."""
    code, said = ended(place, "worker", "run", **{**secured.settings, **changes})
    assert (code, expected in said) == (2, True), said


def test_tls_that_checks_nobody_is_said_by_everyone(secured: Secured, place: Path) -> None:
    """It has to be written down to be had, and is a warning at the start, in `check` and by a producer."""
    port = secured.behind(secured.plain_port, "elsewhere", asks=False)  # type: ignore[call-arg]
    url = f"rediss://:pass-word@localhost:{port}/{{}}?ssl_cert_reqs=none"
    settings = {**secured.settings, "BROKER_URL": url.format(0), "CACHE_URL": url.format(1)}
    worker = WorkerProcess(place / "w", **settings)
    try:
        warned = until(lambda: worker.events("open server"))
        assert {line["service"] for line in warned} == {"broker", "cache"}
        code, said = ended(place, "worker", "check", **settings)
        assert code == 0, said
        assert said.count("does not check whom it talks to") == 2, said
        code, said = ended(place, "producer", "call", "7", "--no-retry", **settings)
        assert (code, "does not check whom it talks to" in said) == (0, True), said
    finally:
        worker.stop()
