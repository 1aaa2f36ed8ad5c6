"""The manifests: well formed, joined to each other, restricted."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.check.render import containers
from tests.support.deployed import OVERLAYS, ROOT, Installation, has_kustomize

TOOLS = ROOT / ".tools/venv/bin/python"
WORKER = {"app.kubernetes.io/name": "recollect", "app.kubernetes.io/component": "worker"}


@pytest.fixture(params=OVERLAYS)
def installed(request: pytest.FixtureRequest) -> Installation:
    """Each overlay."""
    return Installation(request.param)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """deploy/ to be damaged."""
    if not TOOLS.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("there is no .tools/venv: make .tools/venv/.stamp")
        pytest.skip("make .tools/venv/.stamp")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path


def _check(root: Path) -> tuple[int, str]:
    done = subprocess.run(
        [str(TOOLS), "-m", "deploy.check", str(root)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout


def test_everything_is_well_formed(copy: Path) -> None:
    """By the schemas of Kubernetes and compose, ours for KEDA and the Prometheus operator, and hadolint."""
    assert _check(copy) == (0, "deploy: manifests, image and compose file are well formed\n")


DAMAGE = [
    ("kubernetes/base/worker.yaml", "automountServiceAccountToken", "automountServiceAcountToken"),
    ("kubernetes/base/worker.yaml", "periodSeconds: 10\n", 'periodSeconds: "10"\n'),
    ("kubernetes/base/scaling.yaml", "pollingInterval", "pollInterval"),
    ("kubernetes/base/scaling.yaml", 'threshold: "60"', "threshold: 60"),
    ("kubernetes/base/scaling.yaml", "keda.sh/v1alpha1", "keda.sh/v1"),
    ("kubernetes/base/monitor.yaml", "podMetricsEndpoints", "endpoints"),
    ("kubernetes/base/monitor.yaml", "interval: 15s", "interval: 15"),
    ("kubernetes/overlays/redis/scaling.patch.yaml", "listName", "list"),
    ("kubernetes/overlays/redis/scaling.yaml", "parameter: password", "parameter: pasword"),
    ("kubernetes/overlays/redis/kustomization.yaml", "- queue.yaml", "- queues.yaml"),
    ("kubernetes/overlays/redis/kustomization.yaml", "name: recollect-worker", "name: recollect-workers"),
    ("kubernetes/overlays/rabbitmq/worker.patch.yaml", "name: recollect-worker", "name: recollect-workers"),
    ("kubernetes/overlays/rabbitmq/kustomization.yaml", "newTag: 0.1.0", "newTag: latest"),
    ("Dockerfile", 'CMD ["run"]', "CMD run"),
    ("compose.yaml", "stop_grace_period", "stop_grace_time"),
    ("compose.yaml", "      - cache:/data", "       - cache:/data"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), DAMAGE, ids=[f"{d[0]}-{d[2]}" for d in DAMAGE])
def test_a_mistake_is_found(copy: Path, name: str, right: str, wrong: str) -> None:
    """Each of these is what a hand might do; a schema that knows nothing would let it pass."""
    path = copy / "deploy" / name
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    code, output = _check(copy)
    assert code == 1
    assert output.strip()


def test_every_pod_is_restricted(installed: Installation) -> None:
    """The profile that the namespace enforces, a read-only root, and no token of the cluster."""
    namespace = installed.get("Namespace", "recollect")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for workload in installed.workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert container["livenessProbe"]
            assert container["readinessProbe"]


def test_selectors_select_the_workers(installed: Installation) -> None:
    """Deployment, budget, monitor, policy and scaling mean the same pods."""
    deployment = installed.get("Deployment", "recollect-worker")
    assert deployment["spec"]["template"]["metadata"]["labels"] == WORKER
    selectors: list[Any] = [
        deployment["spec"]["selector"],
        installed.get("PodDisruptionBudget", "recollect-worker")["spec"]["selector"],
        installed.get("PodMonitor", "recollect-worker")["spec"]["selector"],
        installed.get("NetworkPolicy", "recollect-worker")["spec"]["podSelector"],
        installed.pod["topologySpreadConstraints"][0]["labelSelector"],
    ]
    assert all(selector == {"matchLabels": WORKER} for selector in selectors)
    scaled = installed.get("ScaledObject", "recollect-worker")["spec"]["scaleTargetRef"]["name"]
    assert scaled == deployment["metadata"]["name"]
    assert "maxUnavailable" in installed.get("PodDisruptionBudget", "recollect-worker")["spec"]


def test_nothing_may_talk_unless_it_is_said(installed: Installation) -> None:
    """One policy denies all; workers reach DNS, broker, cache and model; only the monitoring reaches them."""
    deny = installed.get("NetworkPolicy", "recollect-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    worker = installed.get("NetworkPolicy", "recollect-worker")["spec"]
    assert len(worker["egress"]) == 4
    assert {port["protocol"] for port in worker["egress"][0]["ports"]} == {"UDP", "TCP"}
    (rule,) = worker["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    for component in ("queue", "cache"):
        assert "egress" not in installed.get("NetworkPolicy", f"recollect-{component}")["spec"]


def test_volumes_secrets_and_settings_that_are_named_exist(installed: Installation) -> None:
    """Each mount has its volume, each reference its object and key; the headers are where they are said."""
    for workload in installed.workloads:
        spec = workload["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        claims = {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        for container in containers(workload):
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys() | claims
            installed.environment(container)
        for volume in volumes.values():
            if "secret" in volume:
                installed.get("Secret", volume["secret"]["secretName"])
            if "configMap" in volume:
                installed.get("ConfigMap", volume["configMap"]["name"])
    known = installed.environment(installed.worker)
    (mount,) = [mount for mount in installed.worker["volumeMounts"] if mount["name"] == "headers"]
    path = Path(known["RECOLLECT_MODELS__SENTIMENT__HEADERS_FILE"])
    assert str(path.parent) == mount["mountPath"]
    assert path.name in installed.get("Secret", "recollect-headers")["stringData"]


def test_a_generated_name_reaches_keda(installed: Installation) -> None:
    """Kustomize puts a digest behind generated names; that KEDA names one, too, it knows from names.yaml."""
    (rule,) = yaml.safe_load((ROOT / f"deploy/kubernetes/overlays/{installed.name}/names.yaml").read_text())[
        "nameReference"
    ]
    assert (rule["kind"], rule["fieldSpecs"]) == (
        "Secret",
        [{"kind": "TriggerAuthentication", "path": "spec/secretTargetRef/name"}],
    )


@pytest.mark.skipif(not has_kustomize(), reason="kubectl with kustomize 5 is on no package index")
def test_kustomize_makes_the_same(installed: Installation, tmp_path: Path) -> None:
    """Our reading of an overlay is kustomize's own, but for digests in names and the order of things."""
    shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "kubernetes", dirs_exist_ok=True)
    place = tmp_path / "kubernetes/overlays" / installed.name
    if not (place / "secrets").exists():
        (place / "secrets.example").rename(place / "secrets")
    text = subprocess.run(
        ["kubectl", "kustomize", str(place)], capture_output=True, text=True, check=True
    ).stdout
    generated = "|".join(
        item["metadata"]["name"] for kind in ("ConfigMap", "Secret") for item in installed.all(kind)
    )
    made = list(yaml.safe_load_all(re.sub(rf"\b({generated})-[a-z0-9]{{10}}\b", r"\1", text)))
    assert {_key(item): _sorted(item) for item in made} == {
        _key(item): _sorted(item) for item in installed.objects
    }
    for item in installed.all("TriggerAuthentication"):
        for reference in item["spec"]["secretTargetRef"]:
            assert re.search(rf"name: {reference['name']}-[a-z0-9]{{10}}\n    parameter", text)


def _key(item: Any) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _sorted(item: Any) -> Any:
    """Secrets are compared by their keys: kustomize encodes what is in them."""
    if item["kind"] == "Secret":
        return sorted(item.get("data") or item["stringData"]), item["metadata"]
    return item
