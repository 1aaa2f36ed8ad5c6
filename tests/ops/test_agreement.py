"""What is named in several places is one thing: settings, ports, queues, metrics and paths of a deployment.

Renaming one in one place only must fail here.
"""

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from tests.support.deployed import OVERLAYS, ROOT, Installation, compose, seconds, settings_of, worker_image
from tests.support.dockerfile import stages
from wire.names import Names
from worker.health import health_app
from worker.metrics import Metrics
from worker.settings import Settings
from worker.sources import SettingsError, load

_MARGIN_SECONDS = 15
PLACES = [*OVERLAYS, "compose"]


@pytest.fixture(params=OVERLAYS)
def installed(request: pytest.FixtureRequest) -> Installation:
    """Each overlay."""
    return Installation(request.param)


def _settings(place: str, empty: Path) -> Settings:
    if place == "compose":
        environment = compose()["worker"]["environment"]
    else:
        installed = Installation(place)
        environment = installed.environment(installed.worker)
    return load({}, settings_of(environment), empty).settings


@pytest.mark.parametrize("place", PLACES)
def test_every_variable_is_a_setting(place: str, tmp_path: Path) -> None:
    """A worker starts with them: every name is known, every value is one."""
    settings = _settings(place, tmp_path)
    assert settings.http_host == "0.0.0.0", "a probe and a scrape come from elsewhere"
    assert settings.default_model in settings.models


@pytest.mark.parametrize("place", PLACES)
def test_a_drain_ends_before_the_supervisor_kills(place: str, tmp_path: Path) -> None:
    """The grace is the drain and a margin; the drain is longer than a call that has begun."""
    settings = _settings(place, tmp_path)
    grace = (
        seconds(compose()["worker"]["stop_grace_period"])
        if place == "compose"
        else Installation(place).pod["terminationGracePeriodSeconds"]
    )
    assert grace >= settings.drain_seconds + _MARGIN_SECONDS
    assert settings.drain_seconds > max(model.timeout_seconds for model in settings.models.values())


def test_what_kubernetes_makes_of_services_is_no_setting(installed: Installation, tmp_path: Path) -> None:
    """Service links would stop every worker: RECOLLECT_CACHE_PORT is refused. So there are none."""
    service = installed.get("Service", "recollect-cache")["metadata"]["name"].replace("-", "_").upper()
    link = {f"{service}_PORT": "tcp://10.0.0.1:6379"}
    with pytest.raises(SettingsError, match="unknown setting"):
        load({}, settings_of({**installed.environment(installed.worker), **link}), tmp_path)
    assert installed.pod["enableServiceLinks"] is False


def test_the_metrics_port_is_one_port(installed: Installation, tmp_path: Path) -> None:
    """What the worker listens on is what is named, probed, monitored and let through."""
    settings = _settings(installed.name, tmp_path)
    (port,) = installed.worker["ports"]
    assert port == {"name": "http", "containerPort": settings.http_port}
    (endpoint,) = installed.get("PodMonitor", "recollect-worker")["spec"]["podMetricsEndpoints"]
    (rule,) = installed.get("NetworkPolicy", "recollect-worker")["spec"]["ingress"]
    probes = [installed.worker[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")]
    assert {endpoint["port"], *(item["port"] for item in (*rule["ports"], *probes))} == {"http"}
    assert int(worker_image().last("EXPOSE")) == settings.http_port


def test_every_path_that_is_asked_for_is_served(installed: Installation) -> None:
    """Probes, health check and scrape ask for what a worker answers."""
    (endpoint,) = installed.get("PodMonitor", "recollect-worker")["spec"]["podMetricsEndpoints"]
    asked = {endpoint["path"]}
    asked |= {
        installed.worker[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    asked.add(re.search(r"9108(/\w+)", compose()["worker"]["healthcheck"]["test"][-1]).group(1))  # type: ignore[union-attr]
    assert asked == {"/metrics", "/livez", "/readyz"}
    for path in asked:
        assert _status(path) == "200 OK", path


def _status(path: str) -> str:
    said: list[str] = []
    app = health_app(CollectorRegistry(), lambda: None, lambda: None)
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""}
    list(app(environ, lambda status, *_: said.append(status)))
    return said[0]


def test_the_fleet_follows_the_misses_and_the_age_of_requests(
    installed: Installation, tmp_path: Path
) -> None:
    """By the names that workers use; and never the length of the request queue, which a re-run makes long."""
    names = Names(_settings(installed.name, tmp_path).prefix)
    queue = {"redis": "listName", "rabbitmq": "queueName"}[installed.name]
    assert set(installed.triggers) == {installed.name, "prometheus"}
    assert installed.triggers[installed.name]["metadata"][queue] == names.misses
    query = installed.triggers["prometheus"]["metadata"]["query"]
    (namespace,) = {
        item["metadata"]["namespace"] for item in installed.objects if item["kind"] != "Namespace"
    }
    queues = f"{names.prefix}[.](interactive|requests)"
    assert query == f'max(recollect_queue_oldest_seconds{{namespace="{namespace}",queue=~"{queues}"}})'
    assert {name for name in names.queues if re.fullmatch(queues, name)} == {
        names.interactive,
        names.requests,
    }
    families = {family.name for family in Metrics(["m"], "1").registry.collect()}
    assert set(re.findall(r"recollect_\w+", query)) <= families


def test_the_fleet_is_never_empty_and_never_too_much_for_the_model(
    installed: Installation, tmp_path: Path
) -> None:
    """At 0 nobody would look at the requests; the comment on the most is the model's concurrency times it."""
    spec = installed.get("ScaledObject", "recollect-worker")["spec"]
    assert spec["minReplicaCount"] >= 1
    (model,) = _settings(installed.name, tmp_path).models.values()
    text = (ROOT / "deploy/kubernetes/base/scaling.yaml").read_text()
    assert f"`concurrency` ({model.concurrency})" in text
    assert f"{spec['maxReplicaCount'] * model.concurrency} calls" in text
    assert "replicas" not in installed.get("Deployment", "recollect-worker")["spec"]


def test_broker_and_cache_are_where_the_settings_say(installed: Installation, tmp_path: Path) -> None:
    """URL, service, container port, network policies and KEDA's address are one host and one port."""
    settings = _settings(installed.name, tmp_path)
    for url, component in ((settings.broker_url, "queue"), (settings.cache_url, "cache")):
        parts = urlsplit(url)
        service = installed.get("Service", str(parts.hostname))
        (port,) = service["spec"]["ports"]
        (server,) = installed.get("StatefulSet", f"recollect-{component}")["spec"]["template"]["spec"][
            "containers"
        ]
        assert {"name": port["targetPort"], "containerPort": parts.port} in server["ports"]
        assert port["port"] == parts.port
        assert service["spec"]["selector"]["app.kubernetes.io/component"] == component
        assert parts.port in _ports_to(installed, component)
        (rule,) = installed.get("NetworkPolicy", f"recollect-{component}")["spec"]["ingress"]
        assert [item["port"] for item in rule["ports"]] == [parts.port]
    _keda_asks(installed, urlsplit(settings.broker_url))


def _ports_to(installed: Installation, component: str) -> set[int]:
    return {
        port["port"]
        for rule in installed.get("NetworkPolicy", "recollect-worker")["spec"]["egress"]
        for peer in rule["to"]
        if peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component") == component
        for port in rule["ports"]
    }


def _keda_asks(installed: Installation, broker: Any) -> None:
    metadata = installed.triggers[installed.name]["metadata"]
    asked = urlsplit(metadata.get("host") or f"redis://{metadata['address']}/{metadata['databaseIndex']}")
    service, namespace, kind = str(asked.hostname).split(".")
    assert (service, asked.port, asked.path) == (broker.hostname, broker.port, broker.path)
    assert (kind, namespace) == ("svc", installed.get("Service", service)["metadata"]["namespace"])
    known = installed.environment(installed.worker)
    for item in installed.get("TriggerAuthentication", "recollect-queue")["spec"]["secretTargetRef"]:
        secret = installed.get("Secret", item["name"])["stringData"][item["key"]]
        assert secret == getattr(broker, item["parameter"])
        assert item["parameter"] == "username" or secret == known["QUEUE_PASSWORD"]


def test_the_model_is_let_through_where_it_is(installed: Installation, tmp_path: Path) -> None:
    """The placeholder's namespace and the target's port are the policy's."""
    (model,) = _settings(installed.name, tmp_path).models.values()
    target = urlsplit(model.target)
    name = installed.get("Service", str(target.hostname))["spec"]["externalName"]
    rule = installed.get("NetworkPolicy", "recollect-worker")["spec"]["egress"][2]
    assert rule["to"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": name.split(".")[1]
    }
    assert [port["port"] for port in rule["ports"]] == [target.port]
    stage = stages(ROOT / "deploy/Dockerfile")["model"]
    assert stage.last("EXPOSE") == str(target.port)
    assert f'"{target.port}"' in stage.last("CMD")


def test_images_have_the_version_of_the_project(installed: Installation) -> None:
    """0.1.0 here and there; and a worker is the user that the image makes."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert installed.worker["image"].endswith(f"/recollect:{version}")
    assert compose()["worker"]["image"] == f"recollect:{version}"
    assert f"--tag recollect:{version}" in (ROOT / "deploy/Dockerfile").read_text()
    context = installed.pod["securityContext"]
    assert worker_image().last("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
