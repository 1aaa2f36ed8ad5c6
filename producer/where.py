"""Which broker the command line talks to: flag > environment > recollect.toml."""

import argparse
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.secret_file import read_secret

_CHOICE = """no broker is set. Choose one:
    RECOLLECT_BROKER_URL=embedded:                 one machine, for trying out
    RECOLLECT_BROKER_URL=redis://host:6379/0       or pyamqp://user:password@host:5672//
    RECOLLECT_BROKER_URL_FILE=/run/secrets/broker  a file that holds it"""


def broker_url(arguments: argparse.Namespace, file: Mapping[str, Any]) -> str:
    """The URL, or what is in the file that is named instead. Raises ValueError where there is neither."""
    environ = {
        name: os.environ.get(f"RECOLLECT_{name.upper()}") for name in ("broker_url", "broker_url_file")
    }
    flags = {"broker_url": arguments.broker_url}
    for layer, origin in ((flags, "flags"), (environ, "environment"), (file, "recollect.toml")):
        url, path = layer.get("broker_url"), layer.get("broker_url_file")
        if url and path:
            raise ValueError(f"{origin}: broker_url is set, and broker_url_file too: which of them?")
        if path:
            try:
                return read_secret(Path(str(path)))
            except ValueError as error:
                raise ValueError(f"{origin}: broker_url_file: {error}") from None
        if url:
            return str(url)
    raise ValueError(_CHOICE)


def settings_file() -> dict[str, Any]:
    """What recollect.toml says here; nothing where there is none. Raises ValueError."""
    try:
        return tomllib.loads(Path("recollect.toml").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"recollect.toml: {error}") from None
