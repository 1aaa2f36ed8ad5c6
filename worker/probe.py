"""Is a model there? Asked without a payload, so that nothing is computed."""

import socket
import ssl
from urllib.parse import urlsplit

from broker.tls import MODEL, explained
from worker.models import tls_of
from worker.python_model import load
from worker.settings import ModelSettings, Settings

Line = tuple[str, str, str, str]
_SECONDS = 3.0


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
        tls = (tls_of(name, model) or ssl.create_default_context()) if parts.scheme == "https" else None
    except ValueError as error:  # a worker does not start with it
        return "fail", "model", f"{name}: {error}", f"models.{name}"
    try:
        _greet(parts.hostname or "", port, tls)
    except OSError as error:
        # A worker starts without its model: requests are retried, then answered with an error.
        said = explained(error, MODEL, secure=tls is not None)
        return "warn", "model", f"{name} {parts.hostname}:{port}: {said}", f"models.{name}.target"
    return "ok", "model", f"{name} {parts.hostname}:{port} version {model.version}", ""


def _greet(host: str, port: int, tls: ssl.SSLContext | None) -> None:
    with socket.create_connection((host, port), timeout=_SECONDS) as plain:
        if tls is not None:
            # Without a payload there is nothing to read: a server that misses our certificate (TLS 1.3) says
            # so only to who asks it something.
            with tls.wrap_socket(plain, server_hostname=host):
                pass
