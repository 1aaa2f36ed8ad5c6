"""docs/asyncapi.yaml as tests read it, and its examples as a real handler answers them."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from broker.base import Message, Settlement
from tests.unit.test_handler import Store
from wire.message import NDJSON, Limits
from wire.names import Names
from worker.calls import Answered
from worker.handler import Handler
from worker.models import build_catalog
from worker.settings import ModelSettings, Settings

if os.environ.get("CI") == "true":
    import jsonschema
else:
    jsonschema = pytest.importorskip("jsonschema")

PAGE = Path(__file__).parents[2] / "docs/asyncapi.yaml"
RESULT = b'{"label":"positive"}'
_PROPERTIES = ("correlation_id", "reply_to")


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The document without anchors shared: each place may be looked at by itself."""
    found: dict[str, Any] = json.loads(json.dumps(yaml.safe_load(PAGE.read_text())))
    return found


def at(pointer: str) -> Any:
    """What a `$ref` of the document points to."""
    found: Any = document()
    for name in pointer.removeprefix("#/").split("/"):
        found = found[name]
    return found


def resolved(value: Any) -> Any:
    """`value`, or what it refers to."""
    while isinstance(value, dict) and "$ref" in value:
        value = at(value["$ref"])
    return value


def schema(name: str) -> Any:
    """One of the schemas under components."""
    return at(f"#/components/schemas/{name}")


def validator(part: Any) -> Any:
    """Of one schema, with the others of the document to refer to. `$` is the end and nothing before it, as in
    JSON Schema's own dialect of regular expressions."""
    exact = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": _pattern})
    return exact({**part, "components": document()["components"]})


def valid(part: Any, value: Any) -> bool:
    """Whether the schema takes this value."""
    return bool(validator(part).is_valid(value))


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance, re.ASCII):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def examples(message: str) -> dict[str, dict[str, Any]]:
    """The examples of a message by name."""
    found = at(f"#/components/messages/{message}")["examples"]
    named = {example["name"]: example for example in found}
    assert len(named) == len(found)
    return named


def to_message(kind: str, example: Mapping[str, Any], **properties: Any) -> Message:
    """An example as it travels."""
    content_type = at(f"#/components/messages/{kind}")["contentType"]
    payload = example["payload"]
    body = b"\n".join(map(orjson.dumps, payload)) + b"\n" if content_type == NDJSON else orjson.dumps(payload)
    headers = {name: value for name, value in example["headers"].items() if name not in _PROPERTIES}
    named = {name: example["headers"].get(name) for name in _PROPERTIES}
    return Message(body, content_type, **named, headers=headers, **properties)


def from_message(message: Message) -> dict[str, Any]:
    """A message as an example."""
    lines = [orjson.loads(line) for line in message.body.splitlines()]
    return {
        "headers": {"correlation_id": message.correlation_id, **message.headers},
        "payload": lines if message.content_type == NDJSON else lines[0],
    }


class Replay:
    """A handler of a worker with one model, on which each message is settled 12.5 s after the last."""

    def __init__(self, now: float = 1767225600.5) -> None:
        self.now = now - 12.5
        target = ModelSettings(target="http://model/")
        found = Settings(broker_url="embedded:", cache_url="embedded:", models={"sentiment": target})
        self._handler = Handler(
            build_catalog(found), Store(), Names(), Limits(), lambda: self.now, lambda: None, _raise
        )

    def settle(self, message: Message) -> Settlement:
        """What becomes of it. The model knows one answer."""
        self.now += 12.5
        batch = self._handler.handle([message], 0.0)
        self._handler.finish([Answered(job, RESULT, None, self.now, 0.25) for job in batch.calls])
        (delivery,) = batch.deliveries
        assert delivery.is_answered
        return delivery.settlement(Names(), Limits(), self.now)


def _raise(fault: Exception) -> None:
    raise fault
