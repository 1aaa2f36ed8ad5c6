"""The HTTP service of the deep example, over a real connection, with a function in the model's place."""

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from examples.deep.serve import Service
from worker.health import HealthServer


def lengths(payloads: list[Any]) -> list[Any]:
    """Answers as the model does: a result for each, an exception for what is no payload."""
    return [len(payload) if isinstance(payload, str) else ValueError("expected text") for payload in payloads]


@pytest.fixture
def link() -> Iterator[HTTPConnection]:
    server = HealthServer(Service(lengths), "127.0.0.1", 0)
    with closing(server), closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as opened:
        yield opened


def ask(link: HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    link.request(method, path, body)
    with link.getresponse() as answer:
        return answer.status, json.load(answer)


def test_a_payload_is_answered_by_a_result_and_an_array_by_an_array(link: HTTPConnection) -> None:
    """What is no payload has its error in its own place; calls and payloads are counted."""
    assert ask(link, "POST", "/predict", b'"four"') == (200, 4)
    assert ask(link, "POST", "/predict", b'["a", 7, ""]') == (200, [1, {"error": "expected text"}, 0])
    assert ask(link, "POST", "/predict", b"[]") == (200, [])
    assert ask(link, "GET", "/calls") == (200, {"calls": 3, "texts": 4})
    assert ask(link, "GET", "/healthz") == (200, {"status": "ok"})


@pytest.mark.parametrize("body", [b"7", b"{}", b"not json", b"\xff", b""])
def test_a_wrong_payload_is_answered_400_with_what_was_expected(link: HTTPConnection, body: bytes) -> None:
    """And the connection goes on."""
    status, found = ask(link, "POST", "/predict", body)
    assert status == 400
    assert "expected" in found["error"]
    assert ask(link, "POST", "/predict", b'"fine"') == (200, 4)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/predict", 405), ("POST", "/calls", 405), ("GET", "/", 404)]
)
def test_another_address_names_the_right_ones(
    link: HTTPConnection, method: str, path: str, status: int
) -> None:
    """Nothing is counted."""
    found, said = ask(link, method, path, b"{}" if method == "POST" else None)
    assert found == status
    assert "expected" in said["error"]
    assert ask(link, "GET", "/calls")[1]["calls"] == 0
