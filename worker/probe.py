"""Is a model there? Asked without a payload, so that nothing is computed."""

import socket
from urllib.parse import urlsplit

from worker.python_model import load
from worker.settings import ModelSettings, Settings

Line = tuple[str, str, str, str]


def probe_model(name: str, model: ModelSettings, settings: Settings) -> Line:  # noqa: ARG001 - a check's shape
    """A line of `check`: verdict, what, what was found, hint."""
    if model.target.startswith("python:"):
        try:
            load(model.target.removeprefix("python:"))
        except ValueError as error:
            return "fail", "model", f"{name}: {error}", f"is models.{name}.target importable from here?"
        return "ok", "model", f"{name} {model.target} version {model.version}", ""
    parts = urlsplit(model.target)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except OSError as error:
        # A worker starts without its model: requests are retried, then answered with an error.
        return "warn", "model", f"{name} {parts.hostname}:{port}: {error}", f"models.{name}.target"
    return "ok", "model", f"{name} {parts.hostname}:{port} version {model.version}", ""
