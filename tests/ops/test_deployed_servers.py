"""The servers that deploy/ brings: real ones start by the arguments and files as they stand."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from deploy.check.render import containers
from tests.support.deployed import ROOT, Installation, amount, compose
from tests.support.servers import RabbitServer, ValkeyServer
from worker.audit import audit


def _place(name: str, component: str) -> Callable[[], tuple[list[str], str]]:
    def found() -> tuple[list[str], str]:
        if name == "compose":
            service = compose()[component]
            return service["command"], service["mem_limit"]
        installed = Installation(name)
        (server,) = containers(installed.get("StatefulSet", f"recollect-{component}"))
        return installed.arguments(server), server["resources"]["limits"]["memory"]

    return found


SERVERS = [("redis", "cache"), ("rabbitmq", "cache"), ("compose", "cache"), ("redis", "queue")]


@pytest.mark.parametrize(("name", "component"), SERVERS, ids=["-".join(pair) for pair in SERVERS])
def test_a_valkey_starts_as_it_is_told(name: str, component: str, tmp_path: Path) -> None:
    """A real one, by the arguments as they stand; what the worker's own audit says of it is nothing bad."""
    arguments, limit = _place(name, component)()
    assert arguments[0] == "valkey-server"
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert options.pop("--dir") == "/data"
    assert options.pop("--requirepass")
    assert 0.70 <= amount(options["--maxmemory"]) / amount(limit) <= 0.75
    with ValkeyServer(
        tmp_path / "valkey", **{key[2:].replace("-", "_"): value for key, value in options.items()}
    ) as server:
        client = redis.Redis(port=server.port, retry=None)
        shown = client.config_get("*")
        assert audit(client, carries_queue=component == "queue") == []
    for option, value in options.items():
        wanted = str(amount(value)) if option == "--maxmemory" else value
        assert shown[option[2:]] == wanted, option
    assert options["--maxmemory-policy"] == ("allkeys-lfu" if component == "cache" else "noeviction")


@pytest.mark.skipif(
    not RabbitServer.available() and os.environ.get("CI") != "true", reason="rabbitmq-server is not installed"
)
def test_rabbitmq_takes_its_configuration(tmp_path: Path) -> None:
    """A real node starts with the file of the overlay: its keys are RabbitMQ's."""
    lines = (ROOT / "deploy/kubernetes/overlays/rabbitmq/rabbitmq.conf").read_text()
    server = RabbitServer(tmp_path, config=lines).start()
    try:
        shown = server.ctl("environment")
    finally:
        server.stop()
    assert 'vm_memory_high_watermark,{absolute,"1200MiB"}' in re.sub(r"\s", "", shown)
