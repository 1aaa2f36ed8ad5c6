"""OUT.manifest, beside OUT.partial: of which input and options the rows there are."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

_FORMAT = 1


def manifest_of(input_path: str, only_failed: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run must have in common with the one that it goes on with. Reads the whole input."""
    files = {"input": input_path, "only_failed": only_failed}
    return {
        "manifest": _FORMAT,
        **{what: path and {"path": path, "blake2b": _digest(path)} for what, path in files.items()},
        "options": dict(options),
    }


def changes(path: Path, now: Mapping[str, Any]) -> str:
    """What has changed since the manifest at `path` was written, in words; nothing where nothing has."""
    try:
        then = orjson.loads(path.read_bytes())
        return "; ".join(_changes(then, orjson.loads(orjson.dumps(now))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{path}, which would say what they belong to, cannot be read"


def write(path: Path, manifest: Mapping[str, Any]) -> None:
    """In one step. Raises OSError."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    unfinished.replace(path)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changes = []
    for what in ("input", "only_failed"):
        if (then[what] or {}).get("blake2b") != (now[what] or {}).get("blake2b"):
            changes.append(f"{what.replace('_', ' ')} is another, or has changed")
    options = {**dict.fromkeys(now["options"]), **then["options"]}
    for name, value in options.items():
        if value != now["options"].get(name):
            changes.append(f"{name} was {_shown(value)} and is {_shown(now['options'].get(name))}")
    return changes


def _shown(value: Any) -> str:
    return orjson.dumps(value).decode()[:200]


def _digest(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
