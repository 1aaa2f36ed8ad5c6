"""Checks what is in deploy/, without a cluster: `.tools/venv/bin/python -m deploy.check [ROOT]`.

Exit code 0 where nothing is wrong; else 1, and a line for each thing that is.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from deploy.check.render import RenderError, kustomization, load, render

# The oldest that a cluster may have, and the newest whose schemas are known here.
_KUBERNETES = ("1.29", kubernetes_validate.latest_version())
_SCHEMAS = Path(__file__).with_name("schemas")
_STYLE = """{extends: default, rules: {line-length: {max: 150}, document-start: disable,
    braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}}}"""


def main() -> int:
    """Check; the exit code."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    problems = [*_yaml(root), *_kubernetes(root / "deploy/kubernetes"), *_image(root), *_compose(root)]
    for problem in problems:
        print(problem)
    if not problems:
        print("deploy: manifests, image and compose file are well formed")
    return 1 if problems else 0


def _yaml(root: Path) -> Iterator[str]:
    files = sorted(str(path.relative_to(root)) for path in (root / "deploy").rglob("*.y*ml"))
    yield from _run(
        root, sys.executable, "-m", "yamllint", "--strict", "-f", "parsable", "-d", _STYLE, *files
    )


def _kubernetes(place: Path) -> Iterator[str]:
    overlays = sorted(path.parent for path in place.glob("overlays/*/kustomization.yaml"))
    if not overlays:
        yield f"{place}: no overlay"
    for directory in (place / "base", *overlays):
        yield from _own(kustomization(directory), str(directory.relative_to(place)))
        yield from (f"{directory}: {name} is used by nothing" for name in _unused(directory))
    for overlay in overlays:
        try:
            objects = render(overlay)
        except RenderError as error:
            yield str(error)
            continue
        for item in objects:
            where = f"{overlay.name}: {item.get('kind')} {item.get('metadata', {}).get('name')}"
            yield from _object(item, where)


def _unused(directory: Path) -> set[str]:
    used = {"kustomization.yaml", "README.md"}
    wanted = kustomization(directory)
    used |= {*wanted.get("resources", ()), *wanted.get("configurations", ())}
    used |= {patch["path"] for patch in wanted.get("patches", ())}
    used |= {name for made in wanted.get("configMapGenerator", ()) for name in made.get("files", ())}
    return {path.name for path in directory.iterdir() if path.is_file()} - used


def _object(item: dict[str, Any], where: str) -> Iterator[str]:
    """By Kubernetes' own schemas or by ours; what neither knows is no object that we could answer for."""
    if _schema(item) is not None:
        yield from _own(item, where)
        return
    for version in _KUBERNETES:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{where}: no schema for {item['apiVersion']} {item['kind']}"
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            yield f"{where}: {path}: {error.message} (Kubernetes {version})"


def _schema(item: dict[str, Any]) -> Any:
    path = _SCHEMAS / f"{item['kind'].lower()}.json"
    schema = json.loads(path.read_text("utf-8")) if path.exists() else None
    is_this = schema is not None and schema["properties"]["apiVersion"]["const"] == item["apiVersion"]
    return schema if is_this else None


def _own(item: dict[str, Any], where: str) -> Iterator[str]:
    schema = _schema(item)
    if schema is None:
        yield f"{where}: no schema for {item['apiVersion']} {item['kind']}"
        return
    for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
        yield f"{where}: {error.json_path}: {error.message}"


def _image(root: Path) -> Iterator[str]:
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    yield from _run(root, hadolint, "--no-color", "deploy/Dockerfile")


def _compose(root: Path) -> Iterator[str]:
    tool = str(Path(sys.executable).with_name("check-jsonschema"))
    yield from _run(root, tool, "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    try:
        load(root / "deploy/compose.yaml")
    except (RenderError, yaml.YAMLError) as error:
        yield str(error)


def _run(root: Path, *command: str) -> Iterator[str]:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        yield from (done.stdout + done.stderr).strip().splitlines() or [f"{command[0]}: {done.returncode}"]


if __name__ == "__main__":
    sys.exit(main())
