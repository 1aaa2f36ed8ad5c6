"""What Kustomize makes of an overlay, for checking: the few of its features that are used here, no others.

Generated names get no digest, and a secret that is not there is taken from its example.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
_CLUSTER_WIDE = ("Namespace",)


class RenderError(ValueError):
    """A kustomization names what is not there."""


def kustomization(directory: Path) -> Object:
    """The kustomization of a directory."""
    return load(directory / "kustomization.yaml")[0]


def load(path: Path) -> list[Any]:
    """The documents of a YAML file. Raises RenderError where there is none."""
    try:
        return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]
    except OSError as error:
        raise RenderError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise RenderError(f"{path}: {error}") from None


def render(directory: Path) -> list[Object]:
    """All objects of the overlay in `directory`. Raises RenderError for a name that leads nowhere."""
    wanted = kustomization(directory)
    objects: list[Object] = []
    for name in wanted.get("resources", ()):
        place = directory / name
        objects += render(place) if place.is_dir() else load(place)
    objects += _generated(wanted, directory)
    for patch in wanted.get("patches", ()):
        _patch(objects, patch, directory)
    for item in objects:
        _finish(item, wanted)
    return objects


def _generated(wanted: Object, directory: Path) -> Iterator[Object]:
    for key, kind, place in (
        ("configMapGenerator", "ConfigMap", "data"),
        ("secretGenerator", "Secret", "stringData"),
    ):
        for generator in wanted.get(key, ()):
            lines = list(generator.get("literals", ()))
            for name in generator.get("envs", ()):
                lines += [line for line in _text(directory, name).splitlines() if line.strip()]
            data = dict(line.split("=", 1) for line in lines)
            data |= {Path(name).name: _text(directory, name) for name in generator.get("files", ())}
            yield {"apiVersion": "v1", "kind": kind, "metadata": {"name": generator["name"]}, place: data}


def _text(directory: Path, name: str) -> str:
    for place in (directory / name, directory / name.replace("secrets/", "secrets.example/")):
        if place.exists():
            return place.read_text("utf-8")
    raise RenderError(f"{directory / name}: there is no such file, and no example of it")


def _patch(objects: list[Object], patch: Object, directory: Path) -> None:
    (content,) = load(directory / patch["path"])
    target = patch.get("target") or {"kind": content["kind"], "name": content["metadata"]["name"]}
    found = [
        item
        for item in objects
        if item["kind"] == target["kind"] and item["metadata"]["name"] == target["name"]
    ]
    if len(found) != 1:
        raise RenderError(f"{directory / patch['path']}: {len(found)} objects are {target}, expected one")
    if isinstance(content, dict):
        merge(found[0], content)
    else:
        for step in content:
            _step(found[0], step, directory / patch["path"])


def merge(into: Object, patch: Object) -> None:
    """A strategic merge: objects by field, lists of named things by name."""
    for key, value in patch.items():
        there = into.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            merge(there, value)
        elif _is_named(value) and _is_named(there):
            into[key] = _merge_named(there, value)
        else:
            into[key] = value


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)


def _merge_named(there: list[Object], patch: list[Object]) -> list[Object]:
    known = {item["name"]: item for item in there}
    new = [item for item in patch if item["name"] not in known]
    for item in patch:
        if item["name"] in known:
            merge(known[item["name"]], item)
    return [*new, *there]


def _step(item: Any, step: Object, path: Path) -> None:
    *above, last = step["path"].lstrip("/").split("/")
    try:
        for part in above:
            item = item[part]
    except KeyError:
        raise RenderError(f"{path}: there is no {step['path']}") from None
    if step["op"] != "add" or last != "-" or not isinstance(item, list):
        raise RenderError(f"{path}: only `add` to the end of a list is understood here")
    item.append(step["value"])


def _finish(item: Object, wanted: Object) -> None:
    metadata = item["metadata"]
    if "namespace" in wanted and item["kind"] not in _CLUSTER_WIDE:
        metadata["namespace"] = wanted["namespace"]
    for labels in wanted.get("labels", ()):
        metadata["labels"] = {**metadata.get("labels", {}), **labels["pairs"]}
    images = {image["name"]: image for image in wanted.get("images", ())}
    for container in containers(item):
        if container["image"] in images:
            container["image"] = _image(images[container["image"]])


def _image(image: Object) -> str:
    tag = f":{image['newTag']}" if "newTag" in image else ""
    digest = f"@{image['digest']}" if "digest" in image else ""
    return f"{image['newName']}{tag}{digest}"


def containers(item: Object) -> list[Object]:
    """The containers of a workload; none for any other object."""
    template = item.get("spec", {}).get("template", {})
    found: list[Object] = template.get("spec", {}).get("containers", [])
    return found
