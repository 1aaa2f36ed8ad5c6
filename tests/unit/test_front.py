"""Between HTTP and the contract: what is asked, what is answered, and the document that says so."""

import json
from typing import Any

import jsonschema
import pytest
from starlette.routing import Route

from producer.front.answer import STATUS, Problem, answer, cache_status
from producer.front.app import Front
from producer.front.asked import BODY_MAX_BYTES, asked, check_headers, directives
from producer.front.openapi import document
from recollect import AsyncProducer
from tests.unit.test_producer_client import MemoryBroker
from wire.errors import ErrorKind, Outcome
from wire.reply import Reply

TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


def reply(outcome: str, *, ttl: float | None = None, age: float | None = None, kind: str = "") -> Reply:
    error = {"kind": kind, "message": "why", "retryable": True, "attempts": 2} if kind else None
    result = None if kind else {"label": "é"}
    return Reply("i", "error" if kind else "ok", result, error, outcome, "m", "1", "k", age, ttl)


def problem_of(raised: pytest.ExceptionInfo[Problem]) -> tuple[int, Any]:
    said = raised.value.answer()
    assert said.media_type == "application/problem+json"
    return said.status, json.loads(said.body)


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("", {}),
        ("no-cache", {"refresh": True}),
        ("no-store", {"no_store": True}),
        ("only-if-cached", {"only_if_cached": True}),
        ("max-age=0", {"max_age": 0}),
        ('Max-Age="60" , STALE-IF-ERROR=5', {"max_age": 60, "stale_if_error": 5}),
        ("no-transform, max-stale=5, min-fresh=1, private", {}),
        ("no-cache, no-store,,", {"refresh": True, "no_store": True}),
    ],
)
def test_cache_control_has_words_for_our_directives(header: str, options: dict[str, Any]) -> None:
    """What has none, says nothing, as RFC 9111 wants it."""
    assert directives(header) == options


@pytest.mark.parametrize("header", ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "stale-if-error=x"])
def test_seconds_that_are_none_are_refused(header: str) -> None:
    """Never silently an answer that is older than was meant."""
    with pytest.raises(Problem, match="expected seconds") as raised:
        directives(header)
    assert problem_of(raised)[0] == 400


def test_the_fields_of_the_body_are_the_payload_but_for_bypass() -> None:
    assert asked(b'{"a":1,"bypass":true}', {}, [], "m") == ({"a": 1}, {"bypass": True, "model": "m"})
    assert asked(b'{"bypass":false}', {"traceparent": TRACE}, [("model", "other")], "m") == (
        {},
        {"bypass": False, "model": "other", "traceparent": TRACE},
    )
    assert asked(b"{}", {"traceparent": "00-nonsense"}, [], None) == ({}, {"model": None})


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        (b"", [], "the body is not JSON"),
        (b"{", [], "the body is not JSON"),
        (b'{"a":NaN}', [], "the body is not JSON"),
        (b"[1]", [], "the body is list; expected a JSON object"),
        (b'{"a":18446744073709551616}', [], "64 bits"),
        (b"{}", [("by_pass", "1")], "'by_pass' is unknown"),
        (b"{}", [("model", "a"), ("model", "b")], "expected it once"),
    ],
)
def test_what_cannot_be_asked_is_explained(body: bytes, query: list[tuple[str, str]], said: str) -> None:
    with pytest.raises(Problem) as raised:
        asked(body, {}, query, None)
    status, problem = problem_of(raised)
    assert (status, problem["kind"]) == (400, "invalid_request")
    assert said in problem["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/jsonp"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-length": str(BODY_MAX_BYTES + 1)}, 413),
    ],
)
def test_a_body_that_would_not_be_read_is_refused_by_its_headers(
    headers: dict[str, str], status: int
) -> None:
    """A form of another page cannot ask, and nothing is unpacked."""
    with pytest.raises(Problem) as raised:
        check_headers(headers)
    assert problem_of(raised)[0] == status


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/a.b+json"]
)
def test_json_has_several_names(kind: str) -> None:
    check_headers({"content-type": kind, "content-length": str(BODY_MAX_BYTES)})


@pytest.mark.parametrize(
    ("outcome", "asked_for", "said"),
    [
        ("hit", {}, "recollect; hit; ttl=81234"),
        ("stale", {}, "recollect; hit; ttl=-30"),
        ("miss", {}, "recollect; fwd=miss; stored"),
        ("miss", {"no_store": True}, "recollect; fwd=miss"),
        ("coalesced", {}, "recollect; fwd=miss; collapsed"),
        ("bypass", {"bypass": True}, "recollect; fwd=bypass"),
        ("refresh", {"refresh": True}, "recollect; fwd=request; stored"),
        ("refresh", {"refresh": True, "no_store": True}, "recollect; fwd=request"),
        ("unavailable", {}, "recollect; fwd=miss; detail=unavailable"),
        ("uncacheable", {}, "recollect; fwd=miss; detail=uncacheable"),
        ("failed", {}, "recollect; fwd=miss; detail=failed"),
        ("failed", {"bypass": True}, "recollect; fwd=bypass; detail=failed"),
        ("failed", {"refresh": True}, "recollect; fwd=request; detail=failed"),
        ("expired", {}, "recollect; detail=expired"),
        ("not_cached", {}, "recollect; detail=not_cached"),
        ("invalid", {}, ""),
    ],
)
def test_cache_status_has_the_words_of_rfc_9211(outcome: str, asked_for: dict[str, Any], said: str) -> None:
    """Whole seconds, below zero where the answer was past its time."""
    ttl = {"hit": 81234.9, "stale": -30.0}.get(outcome)
    assert cache_status(reply(outcome, ttl=ttl), asked_for) == said


def test_every_outcome_and_every_kind_has_its_words() -> None:
    """One that is added to the contract must be thought of here."""
    assert STATUS.keys() == set(ErrorKind)
    for outcome in set(Outcome) - {Outcome.INVALID}:
        assert cache_status(reply(outcome.value), {}).startswith("recollect; ")


def test_a_result_is_the_body() -> None:
    said = answer(reply("hit", ttl=9.0, age=12.7), {})
    assert (said.status, said.body) == (200, '{"label":"é"}'.encode())
    assert said.headers == {"Cache-Status": "recollect; hit; ttl=9", "Age": "12"}
    assert "Age" not in answer(reply("miss"), {}).headers


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("invalid_request", 400),
        ("unknown_model", 404),
        ("model_rejected", 422),
        ("bad_result", 502),
        ("model_unavailable", 502),
        ("poison", 502),
        ("internal", 502),
        ("model_timeout", 504),
        ("deadline_exceeded", 504),
        ("not_cached", 504),
        ("a_kind_of_a_later_version", 502),
    ],
)
def test_an_error_is_a_problem(kind: str, status: int) -> None:
    """Nothing of it is lost."""
    said = answer(reply("failed", kind=kind), {})
    body = json.loads(said.body)
    assert (said.status, body["status"], said.media_type) == (status, status, "application/problem+json")
    assert {name: body[name] for name in ("kind", "detail", "retryable", "attempts")} == {
        "kind": kind,
        "detail": "why",
        "retryable": True,
        "attempts": 2,
    }


def test_the_document_agrees_with_the_routes() -> None:
    """Each path with its methods, each status with a description, each reference with its end."""
    said = document("1")
    app = Front(AsyncProducer(broker=MemoryBroker()), model=None, timeout=1, in_flight=1).app()
    served = {
        route.path: {method.lower() for method in (route.methods or ()) if method != "HEAD"}
        for route in app.routes
        if isinstance(route, Route)
    }
    assert {path: set(item) for path, item in said["paths"].items()} == served
    answers = said["paths"]["/analysis"]["post"]["responses"]
    assert {int(status) for status in answers} == {200, 400, 404, 408, 413, 415, 422, 502, 503, 504}
    assert {str(status) for status in STATUS.values()} <= answers.keys()
    for kind in ErrorKind:
        assert kind.value in answers[str(STATUS[kind])]["description"]
    for status, one in answers.items():
        assert one["description"]
        (content,) = one["content"]
        assert content == ("application/json" if status == "200" else "application/problem+json")


def test_the_document_is_openapi_as_far_as_a_schema_of_its_form_can_say() -> None:
    """Its schemas are schemas, and problems keep to theirs."""
    said = document("1")
    schema = said["components"]["schemas"]["Problem"]
    body = said["paths"]["/analysis"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for one in (schema, body):
        jsonschema.Draft202012Validator.check_schema(one)
    strict = {**schema, "additionalProperties": False}
    jsonschema.validate(json.loads(answer(reply("failed", kind="poison"), {}).body), strict)
    jsonschema.validate(json.loads(Problem(503, "busy", "why").answer().body), strict)
    jsonschema.validate({"bypass": True, "text": "a"}, body)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"bypass": 1}, body)
    references = [value for name, value in walk(said) if name == "$ref"]
    assert set(references) == {"#/components/schemas/Problem"}
    assert said["openapi"] == "3.1.0"
    assert {"title", "version"} <= said["info"].keys()


def walk(value: Any) -> list[tuple[str, Any]]:
    """All members of all objects."""
    if isinstance(value, list):
        return [found for one in value for found in walk(one)]
    if not isinstance(value, dict):
        return []
    return [*value.items(), *(found for one in value.values() for found in walk(one))]
