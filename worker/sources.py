"""Where settings come from: flag > environment > recollect.toml > default. What is wrong is said at once."""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from worker.secret_files import SUFFIX, with_secrets
from worker.settings import ModelSettings, Settings

PREFIX = "RECOLLECT_"
FILE_NAME = "recollect.toml"
_CHOICE = """broker_url is not set. Choose one:
    RECOLLECT_BROKER_URL=embedded:                 one machine, for trying out
    RECOLLECT_BROKER_URL=redis://host:6379/0       or pyamqp://user:password@host:5672//
    RECOLLECT_BROKER_URL_FILE=/run/secrets/broker  a file that holds it"""
_CACHE_CHOICE = """cache_url is not set. Choose one:
    RECOLLECT_CACHE_URL=embedded:                  one machine, for trying out
    RECOLLECT_CACHE_URL=redis://host:6379/1        the results' own server, or a shared one"""


_CHOICES = {("broker_url",): _CHOICE, ("cache_url",): _CACHE_CHOICE}


class SettingsError(ValueError):
    """Everything that is wrong with the settings, as a text to read."""

    def __init__(self, problems: list[str]) -> None:
        lines = "\n".join(f"error: {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{lines}\n({count}; nothing was started)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each value came from, by dotted name; a name that is absent is a default."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], directory: Path, config: Path | None = None
) -> Loaded:
    """The settings in force. `flags` are dotted names to values. Raises SettingsError."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    path = config or directory / FILE_NAME
    text = _read(path, required=config is not None, problems=problems)
    layers = (
        (_from_toml(text, path, problems), path.name),
        (_from_environment(environ), "environment"),
        (dict(flags), "flag"),
    )
    for layer, origin in layers:
        shown = {name: _origin(origin, name) for name in layer}
        for name, value in with_secrets(layer, problems, shown).items():
            here = shown.get(name) or f"{layer[name + SUFFIX]} ({shown[name + SUFFIX]})"
            if not _place(values, name, value):
                problems.append(f"{here}: `{_shown(name)}` cannot be set: what is above it is no section")
            origins[_setting(name)] = here
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        problems += [_explain(item, origins, text, path) for item in error.errors()]
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins)


def _read(path: Path, *, required: bool, problems: list[str]) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        if required:
            problems.append(f"{path}: there is no such file")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: cannot be read: {error}")
    return ""


def _from_toml(text: str, path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        return dict(_flat(tomllib.loads(text), ()))
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path.name}: not TOML: {error}")
        return {}


def _flat(table: Mapping[str, Any], above: tuple[str, ...]) -> "list[tuple[str, Any]]":
    """Dotted names: a model's own settings are told apart, anything deeper is a value."""
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        here = (*above, name)
        is_section = here == ("models",) or (len(here) == 2 and here[0] == "models")
        if isinstance(value, dict) and is_section:
            found += _flat(value, here)
        else:
            found.append((_dotted(here), value))
    return found


def _dotted(parts: tuple[str, ...]) -> str:
    return "\x1f".join(parts)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG":
            continue
        parts = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        found[_dotted(parts)] = _parsed(environ[variable], parts[-1])
    return found


def _parsed(value: str, field: str) -> Any:
    """Objects and lists are written as JSON; everything else is text, which the check turns into numbers."""
    if value[:1] in "{[" and field in ("headers", "cacheable", "key_include", "key_exclude"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _place(values: dict[str, Any], name: str, value: Any) -> bool:
    """Whether there was a place: `prefix__x` has none where `prefix` is a text."""
    *above, last = name.split("\x1f")
    table = values
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return False
    table[last] = value
    return True


def _setting(name: str) -> str:
    """The setting that a name is a part of: one header is set through `headers`."""
    parts = tuple(name.split("\x1f"))
    return _dotted(parts[:3] if parts[0] == "models" else parts[:1])


def _shown(name: str) -> str:
    return name.replace("\x1f", ".")


def _origin(origin: str, name: str) -> str:
    parts = name.split("\x1f")
    if origin == "environment":
        return f"environment {PREFIX}{'__'.join(parts).upper()}"
    return f"flag --{parts[-1].replace('_', '-')}" if origin == "flag" else origin


def _explain(item: Any, origins: Mapping[str, str], text: str, path: Path) -> str:
    where = tuple(str(part) for part in item["loc"])
    # `RECOLLECT_BROKER_URL=` is what a template writes for a variable that nobody set.
    is_unset = item["type"] == "missing" or item.get("input") == ""
    if is_unset and where in _CHOICES:
        return _CHOICES[where]
    shown = ".".join(where) or "settings"
    origin = _found_in(where, origins, text, path)
    if item["type"] == "extra_forbidden":
        return f"{origin}unknown setting `{shown}`{_hint(where)}"
    said = item["msg"].removeprefix("Value error, ")
    if where[:1] == ("models",) and item["type"] in ("dict_type", "model_type") and len(where) <= 2:
        said = f"expected a section with a target, such as {PREFIX}MODELS__SENTIMENT__TARGET=http://…"
    given = item.get("input")
    value = f" is {given!r}" if isinstance(given, str | int | float | bool) and not _secret(where) else ""
    return f"{origin}`{shown}`{value}: {said[:1].lower()}{said[1:]}"


def _found_in(where: tuple[str, ...], origins: Mapping[str, str], text: str, path: Path) -> str:
    for length in range(len(where), 0, -1):
        origin = origins.get(_dotted(where[:length]))
        if origin == path.name:
            return f"{path.name}:{_line(text, where)}: "
        if origin is not None:
            return f"{origin}: "
    line = _line(text, where) if len(where) > 1 else 0
    return f"{path.name}:{line}: " if line else ""


def _line(text: str, where: tuple[str, ...]) -> int:
    """The line that comes nearest to setting `where`; 0 for none. tomllib itself keeps no positions."""
    section: tuple[str, ...] = ()
    # `models` alone is no place: the line of another model would be named.
    nearest, found = min(len(where), 2) - 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            path = section = _names(line)
        else:
            path = (*section, *_names(f"{line.partition('=')[0]}=0"))
        if where[: len(path)] == path and len(path) > nearest:
            nearest, found = len(path), number
    return found


def _names(toml: str) -> tuple[str, ...]:
    """The nested names that one line of TOML opens: quotes and dots are tomllib's to understand."""
    try:
        table: Any = tomllib.loads(toml)
    except tomllib.TOMLDecodeError:
        return ()
    names: tuple[str, ...] = ()
    while isinstance(table, dict) and len(table) == 1:
        ((name, table),) = table.items()
        names = (*names, name)
    return names


def _hint(where: tuple[str, ...]) -> str:
    section: type[BaseModel] = ModelSettings if len(where) == 3 and where[0] == "models" else Settings
    known = sorted(section.model_fields)
    near = difflib.get_close_matches(where[-1], known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; expected one of: {', '.join(known)}"


def _secret(where: tuple[str, ...]) -> bool:
    # A whole model given as one text may hold its target's password and its headers.
    is_section = where[:1] == ("models",) and len(where) <= 2
    return is_section or "headers" in where or where[-1].endswith("_url") or where[-1] == "target"
