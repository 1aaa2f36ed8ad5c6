"""docs/deploy.md, the manifests' README and the systemd unit: what they say to type and to expect holds."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.deployed import OVERLAYS, ROOT, Installation, compose, has_kustomize, seconds, settings_of
from worker.__main__ import USAGE, _parser
from worker.sources import load

PAGES = ("docs/deploy.md", "deploy/kubernetes/README.md")
UNIT = ROOT / "deploy/systemd/recollect-worker@.service"


def _text(page: str) -> str:
    return (ROOT / page).read_text()


def _commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```", _text(page), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("page", PAGES)
def test_what_commands_name_is_there(page: str) -> None:
    """Every path below deploy/ exists, or is made by a command before."""
    made: set[str] = set()
    commands = _commands(page)
    assert commands
    for command in commands:
        for word in command[1:]:
            if word.startswith("deploy/"):
                last = command[0] == "cp" and word == command[-1]
                assert last or word in made or (ROOT / word).exists(), word
                made |= {word} if last else set()
        if "apply" in command:
            assert command[command.index("-k") + 1].rsplit("/", 1)[-1] in OVERLAYS


def test_every_worker_command_is_one() -> None:
    """`python -m worker …`, in blocks and in sentences, is what the command line takes."""
    said = re.findall(r"`python -m worker ([^`]*)`", _text("docs/deploy.md"))
    assert {line.split()[0] for line in said} == {"run", "bench-model", "cache", "queue"}
    for line in said:
        _parser().parse_args(line.split())


def test_compose_commands_name_its_services() -> None:
    """`--scale worker=4` and `run --rm worker check` name a service; the image is built under its tag."""
    for command in _commands("docs/deploy.md"):
        if command[:2] == ["docker", "compose"]:
            named = [word.partition("=")[0] for word in command if word.startswith("worker")]
            assert set(named) <= compose().keys()
        if command[-2:] == ["worker", "check"]:
            _parser().parse_args(command[-1:])
        if "--tag" in command:
            assert command[command.index("--tag") + 1] == compose()["worker"]["image"]


def test_the_unit_runs_a_worker_and_waits_for_its_drain(tmp_path: Path) -> None:
    """Its variables are settings, it waits for the drain, and what cannot start is not tried again."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(UNIT.read_text())
    service = unit["Service"]
    pairs = dict(pair.split("=", 1) for pair in service["Environment"].split())
    given = {name: value.replace("%i", "9108") for name, value in pairs.items()}
    needed = {"RECOLLECT_BROKER_URL": "redis://queue:6379/0", "RECOLLECT_CACHE_URL": "redis://cache:6379/0"}
    settings = load({}, {**given, **needed}, tmp_path).settings
    assert float(service["TimeoutStopSec"]) >= settings.drain_seconds + 15
    assert service["RestartPreventExitStatus"] == str(USAGE)
    interpreter, *arguments = shlex.split(service["ExecStart"])
    assert interpreter == "/opt/recollect/bin/python"
    assert arguments == ["-m", "worker", "run"]
    assert "%i" in pairs["RECOLLECT_HTTP_PORT"]


def test_the_figures_are_those_of_the_manifests(tmp_path: Path) -> None:
    """Replicas, thresholds, graces, limits and the user of docs/deploy.md."""
    text = re.sub(r"\s+", " ", _text("docs/deploy.md"))
    installed = Installation("redis")
    settings = load({}, settings_of(installed.environment(installed.worker)), tmp_path).settings
    spec = installed.get("ScaledObject", "recollect-worker")["spec"]
    (model,) = settings.models.values()
    most, grace = spec["maxReplicaCount"], installed.pod["terminationGracePeriodSeconds"]
    assert f"{most * model.concurrency} and {model.concurrency} make `maxReplicaCount: {most}`" in text
    assert f"between {spec['minReplicaCount']} and `maxReplicaCount`" in text
    assert f"{grace} s for {settings.drain_seconds:g} s" in text
    assert seconds(compose()["worker"]["stop_grace_period"]) == grace
    assert f"TimeoutStopSec={grace}" in UNIT.read_text()
    assert f"One worker for each {installed.triggers['redis']['metadata']['listLength']}" in text
    assert installed.triggers["prometheus"]["metadata"]["threshold"] == "60"
    assert "one worker for each minute" in text
    assert f"(`lease_seconds`, {settings.lease_seconds:g} s)" in text
    assert f"limit {installed.worker['resources']['limits']['memory'].removesuffix('Mi')} MiB" in text
    assert f"user {installed.pod['securityContext']['runAsUser']}" in text
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["policies"][0]["value"]) == (300, 2)
    assert "waits five minutes and takes two workers a minute" in text


@pytest.mark.skipif(not has_kustomize(), reason="kubectl with kustomize 5 is on no package index")
def test_the_example_on_top_of_an_overlay_is_rendered(tmp_path: Path) -> None:
    """The README's own overlay changes image and settings, as it says."""
    (example,) = re.findall(r"```yaml\n(.*?)```", _text("deploy/kubernetes/README.md"), re.DOTALL)
    place = tmp_path / "kubernetes/overlays/mine"
    shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes")
    if not (place.parent / "redis/secrets").exists():
        (place.parent / "redis/secrets.example").rename(place.parent / "redis/secrets")
    place.mkdir()
    (place / "kustomization.yaml").write_text(example)
    done = subprocess.run(["kubectl", "kustomize", str(place)], capture_output=True, text=True, check=True)
    objects = {item["kind"]: item for item in yaml.safe_load_all(done.stdout)}
    image = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("registry.your.company/recollect")
    assert "@sha256:" in image
    assert objects["ConfigMap"]["data"]["RECOLLECT_MODELS__SENTIMENT__VERSION"] == "2"
    assert objects["ConfigMap"]["data"]["RECOLLECT_HTTP_PORT"] == "9108"
