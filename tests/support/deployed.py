"""What deploy/ says a worker runs with, read as a cluster or an engine would."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from deploy.check.render import Object, containers, render
from tests.support.dockerfile import Stage, stages

ROOT = Path(__file__).parents[2]
OVERLAYS = ("redis", "rabbitmq")
UNITS = {"k": 10, "m": 20, "g": 30}


class Installation:
    """All objects of an overlay, found by kind and name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects = render(ROOT / "deploy/kubernetes/overlays" / name)

    def all(self, kind: str) -> list[Object]:
        """Every object of this kind."""
        return [item for item in self.objects if item["kind"] == kind]

    def get(self, kind: str, name: str) -> Object:
        """The one object of this kind and name."""
        (found,) = [item for item in self.all(kind) if item["metadata"]["name"] == name]
        return found

    @property
    def pod(self) -> Object:
        """The spec of a worker's pod."""
        return dict(self.get("Deployment", "recollect-worker")["spec"]["template"]["spec"])

    @property
    def worker(self) -> Object:
        """The worker's container."""
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def workloads(self) -> list[Object]:
        """Everything that has pods."""
        return [item for item in self.objects if containers(item)]

    @property
    def triggers(self) -> dict[str, Object]:
        """What the number of workers follows, by type."""
        spec = self.get("ScaledObject", "recollect-worker")["spec"]
        return {trigger["type"]: trigger for trigger in spec["triggers"]}

    def environment(self, container: Object) -> dict[str, str]:
        """A container's variables, those of the manifests after the image's own."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
        for variable in container.get("env", ()):
            found[variable["name"]] = self._value(variable, found)
        return found

    def _value(self, variable: Object, known: dict[str, str]) -> str:
        if "value" in variable:
            return re.sub(r"\$\((\w+)\)", lambda name: known[name.group(1)], variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        return str(self.get("Secret", reference["name"])["stringData"][reference["key"]])

    def arguments(self, container: Object) -> list[str]:
        """A container's arguments with its variables in them."""
        known = self.environment(container)
        return [re.sub(r"\$\((\w+)\)", lambda name: known[name.group(1)], text) for text in container["args"]]


def compose() -> dict[str, Any]:
    """The services of the compose file, with the values that stand where nothing is set."""
    text = (ROOT / "deploy/compose.yaml").read_text()
    found = yaml.safe_load(re.sub(r"\$\{\w+:-(\w+)\}", r"\1", text))
    return dict(found["services"])


def worker_image() -> Stage:
    """The stage that workers run."""
    return stages(ROOT / "deploy/Dockerfile")["worker"]


def settings_of(environment: dict[str, str]) -> dict[str, str]:
    """What of it a worker reads, after what the image sets."""
    joined = {**worker_image().environment(), **environment}
    return {name: value for name, value in joined.items() if name.startswith("RECOLLECT_")}


def amount(text: str) -> int:
    """Bytes: `750mb`, `1g`, `2Gi`."""
    number, unit = re.fullmatch(r"(\d+)([a-zA-Z]*)", text).groups()  # type: ignore[union-attr]
    return int(number) << UNITS[unit.lower().removesuffix("b").removesuffix("i")]


def seconds(text: str) -> float:
    """`60s`."""
    return float(text.removesuffix("s"))


def has_kustomize() -> bool:
    """Whether a kubectl is here that renders what we write."""
    if shutil.which("kubectl") is None:
        return False
    said = subprocess.run(
        ["kubectl", "version", "--client"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"Kustomize Version: v(\d+)", said)
    return found is not None and int(found.group(1)) >= 5
