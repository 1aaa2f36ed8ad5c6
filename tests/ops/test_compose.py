"""The compose file agrees with the image, the settings, Prometheus and Grafana."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.deployed import ROOT, compose, settings_of, worker_image
from worker.settings import Settings
from worker.sources import load


def _settings(empty: Path) -> Settings:
    return load({}, settings_of(compose()["worker"]["environment"]), empty).settings


def test_the_compose_file_and_the_image_have_the_same_port(tmp_path: Path) -> None:
    """Also in what asks for it: the health check, and Prometheus' targets."""
    settings = _settings(tmp_path)
    worker = compose()["worker"]
    assert worker["expose"] == [str(settings.http_port)] == [worker_image().last("EXPOSE")]
    assert f"127.0.0.1:{settings.http_port}/readyz" in worker["healthcheck"]["test"][-1]


def test_prometheus_scrapes_the_workers_port(tmp_path: Path) -> None:
    """The compose file mounts deploy/prometheus: the port in there is the worker's, the name its service."""
    text = _mounted("prometheus/prometheus.yml").read_text()
    port = _settings(tmp_path).http_port
    assert re.search(rf"\bworker:{port}\b", text) or (
        re.search(r"\bworker\b", text) and re.search(rf"\bport: {port}\b", text)
    )


def test_the_services_of_the_compose_file_find_each_other(tmp_path: Path) -> None:
    """Each URL's host is a service, which the worker waits for; the vhost and the user are the queue's."""
    settings, services = _settings(tmp_path), compose()
    (model,) = settings.models.values()
    hosts = [urlsplit(url).hostname for url in (settings.broker_url, settings.cache_url, model.target)]
    assert set(hosts) == set(services["worker"]["depends_on"]) == {"queue", "cache", "model"}
    broker, queue = urlsplit(settings.broker_url), services["queue"]["environment"]
    assert broker.username == queue["RABBITMQ_DEFAULT_USER"]
    assert broker.password == queue["RABBITMQ_DEFAULT_PASS"]
    assert broker.path == f"/{queue['RABBITMQ_DEFAULT_VHOST']}"
    assert urlsplit(settings.cache_url).password == services["cache"]["command"][-1]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    """The provisioning's URL and directory are a service and a mount of the compose file."""
    services, place = compose(), ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((place / "datasources/recollect.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((place / "dashboards/recollect.yaml").read_text())["providers"]
    url = urlsplit(source["url"])
    assert f"127.0.0.1:{url.port}:{url.port}" in services[url.hostname]["ports"]
    inside = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/recollect.json" in inside


def test_what_the_compose_file_mounts_is_there() -> None:
    """A bind mount of what is missing becomes an empty directory, and a service without its configuration."""
    for service in compose().values():
        for volume in service.get("volumes", ()):
            if volume.startswith("."):
                assert _mounted(volume.split(":")[0]).exists(), volume


def _mounted(name: str) -> Path:
    path = ROOT / "deploy" / name
    if not path.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"there is no deploy/{name}")
    return path
