"""The model service of the examples: what it scores, refuses and counts, over real connections."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from examples.model import ModelServer, score

TEXTS = Path(__file__).parents[2] / "examples" / "texts.jsonl"


@contextmanager
def serving(
    fail_rate: float = 0.0, seed: int = 0, kind: type[ModelServer] = ModelServer
) -> Iterator[ModelServer]:
    server = kind("127.0.0.1", 0, 0.0, fail_rate, seed)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connect(server: ModelServer) -> closing[HTTPConnection]:
    return closing(HTTPConnection("127.0.0.1", int(server.server_address[1]), timeout=10))


def ask(link: HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    link.request(method, path, body)
    with link.getresponse() as answer:
        return answer.status, json.load(answer)


def predict(link: HTTPConnection, value: Any) -> tuple[int, Any]:
    return ask(link, "POST", "/predict", json.dumps(value).encode())


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("what a wonderful, excellent player", "positive"),
        ("this is a terrible and awful player", "negative"),
        ("the box holds a cable", "neutral"),
        ("", "neutral"),
    ],
)
def test_a_text_gets_the_label_a_person_would_give(text: str, label: str) -> None:
    """Good words are positive, bad ones negative, and none of either neutral."""
    found = score({"text": text})
    assert found["label"] == label
    assert -1 <= found["polarity"] <= 1
    assert 0 <= found["subjectivity"] <= 1


@pytest.mark.parametrize("payload", [None, "a text", [], {}, {"text": None}, {"text": 1}, {"txt": "typo"}])
def test_any_other_payload_is_refused(payload: Any) -> None:
    """The error says what was expected."""
    with pytest.raises(ValueError, match="expected"):
        score(payload)


def test_a_connection_is_kept_and_every_prediction_counted() -> None:
    """Several exchanges on one connection; only POST /predict counts."""
    with serving() as server, connect(server) as link:
        status, found = predict(link, {"text": "an excellent player"})
        socket = link.sock
        assert (status, found) == (200, score({"text": "an excellent player"}))
        assert predict(link, {"text": "an awful player"})[0] == 200
        assert ask(link, "GET", "/healthz") == (200, {"status": "ok"})
        assert ask(link, "GET", "/calls") == (200, {"calls": 2})
        assert link.sock is socket


@pytest.mark.parametrize("body", [b"{}", b'{"text": 1}', b"not json", b"\xff", b""])
def test_a_wrong_payload_is_answered_400_in_json(body: bytes) -> None:
    """And the connection goes on: the next call is answered."""
    with serving() as server, connect(server) as link:
        status, found = ask(link, "POST", "/predict", body)
        assert status == 400
        assert found["error"]
        assert predict(link, {"text": "fine"})[0] == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("GET", "/"), ("POST", "/calls")])
def test_another_address_names_the_right_ones(method: str, path: str) -> None:
    """404, with what would have been right, and nothing is counted."""
    with serving() as server, connect(server) as link:
        status, found = ask(link, method, path, b"{}" if method == "POST" else None)
        assert status == 404
        assert "/predict" in found["error"]
        assert server.calls == 0


def test_calls_run_side_by_side() -> None:
    """Sixteen calls are all inside the service at once: each waits for the other fifteen."""
    together = threading.Barrier(16, timeout=10)

    class Meeting(ModelServer):
        def fails_now(self) -> bool:
            together.wait()
            return super().fails_now()

    def call(server: ModelServer) -> int:
        with connect(server) as link:
            return predict(link, {"text": "fine"})[0]

    with serving(kind=Meeting) as server, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(call, [server] * 16)) == [200] * 16
        assert server.calls == 16


def test_the_share_of_failures_is_the_same_each_time() -> None:
    """The same seed fails the same calls with 500, and they are counted as calls."""

    def statuses(seed: int) -> list[int]:
        with serving(fail_rate=0.5, seed=seed) as server, connect(server) as link:
            found = [predict(link, {"text": "fine"})[0] for _ in range(40)]
            assert server.calls == 40
            return found

    first = statuses(1)
    assert first == statuses(1)
    assert set(first) == {200, 500}
    assert first != statuses(2)


def test_the_texts_are_what_the_demo_promises() -> None:
    """At least 2,000 distinct payloads the model takes, in less than 1 MB."""
    assert TEXTS.stat().st_size < 1_000_000
    payloads = [json.loads(line) for line in TEXTS.read_text("utf-8").splitlines()]
    assert all(list(payload) == ["text"] and payload["text"].strip() for payload in payloads)
    assert len({payload["text"] for payload in payloads}) == len(payloads) >= 2000
