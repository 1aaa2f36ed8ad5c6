"""The form of an AsyncAPI document, as far as docs/asyncapi.yaml uses it."""

from typing import Any

from wire.message import JSON, NDJSON

REF = {
    "type": "object",
    "required": ["$ref"],
    "additionalProperties": False,
    "properties": {"$ref": {"type": "string", "pattern": "^#/"}},
}
TEXT = {"type": "string", "minLength": 1}


def closed(required: str = "", optional: str = "", **properties: Any) -> dict[str, Any]:
    """The schema of an object with these members and no others; those without a schema are texts."""
    names = [*required.split(), *optional.split()]
    known = {name: properties.get(name, TEXT) for name in names}
    return {
        "type": "object",
        "required": required.split(),
        "additionalProperties": False,
        "properties": known,
        "patternProperties": {"^x-": {}},
    }


def each(value: dict[str, Any]) -> dict[str, Any]:
    """A map by names as AsyncAPI has them."""
    named = {r"^[A-Za-z0-9_-]+$": value}
    return {"type": "object", "minProperties": 1, "additionalProperties": False, "patternProperties": named}


AMQP = closed(
    "is queue bindingVersion",
    **{
        "is": {"const": "queue"},
        "queue": closed("", "durable exclusive autoDelete", durable={}, exclusive={}, autoDelete={}),
    },
)
EXAMPLE = closed("name headers payload", "summary", headers={"type": "object"}, payload={})
MESSAGE = closed(
    "correlationId headers payload examples",
    "contentType summary description",
    correlationId=closed("location", "description"),
    headers=REF,
    payload={"type": "object"},
    contentType={"enum": [JSON, NDJSON]},
    examples={"type": "array", "minItems": 1, "items": EXAMPLE},
)
CHANNEL = closed(
    "address messages",
    "description bindings parameters",
    address={"type": ["string", "null"]},
    messages=each(REF),
    bindings=REF,
    parameters=each(closed("description")),
)
REPLY = closed("channel", "address", channel=REF, address=closed("location", "description"))
OPERATION = closed(
    "action channel", "summary reply", action={"enum": ["send", "receive"]}, channel=REF, reply=REPLY
)
COMPONENTS = closed(
    "schemas messages channelBindings",
    schemas=each({"$ref": "http://json-schema.org/draft-07/schema#"}),
    messages=each(MESSAGE),
    channelBindings=each(closed("amqp", amqp=AMQP)),
)
STRUCTURE = closed(
    "asyncapi info channels operations components",
    "defaultContentType",
    asyncapi={"const": "3.0.0"},
    info=closed("title version", "description license", license=closed("name", "url")),
    channels=each(CHANNEL),
    operations=each(OPERATION),
    components=COMPONENTS,
)
"""AsyncAPI 3.0.0 as far as the document uses it, and stricter. No package on PyPI has the official schema."""


def references(value: Any) -> list[str]:
    """Every `$ref` below."""
    if isinstance(value, list):
        return [ref for item in value for ref in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [ref for item in value.values() for ref in references(item)]


KEYWORDS = frozenset(
    {
        *(
            "$ref",
            "additionalProperties",
            "anyOf",
            "const",
            "default",
            "description",
            "enum",
            "exclusiveMaximum",
        ),
        *(
            "exclusiveMinimum",
            "items",
            "maxItems",
            "maxLength",
            "minItems",
            "minimum",
            "not",
            "oneOf",
            "pattern",
        ),
        *("properties", "required", "type"),
    }
)
"""Of draft 7, as far as the document uses them: a validator passes over one that it does not know."""


def unknown_keywords(schema: Any) -> set[str]:
    """What stands where a keyword should, in a schema and in those inside it."""
    if not isinstance(schema, dict):
        return set()
    inside = [schema[name] for name in ("not", "items", "additionalProperties") if name in schema]
    inside += [item for name in ("anyOf", "oneOf") for item in schema.get(name, [])]
    inside += schema.get("properties", {}).values()
    return set(schema) - KEYWORDS | {name for item in inside for name in unknown_keywords(item)}
