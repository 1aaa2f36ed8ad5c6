"""`python -m producer serve`: the service of before, `POST /analysis`, with a memory behind it."""

import contextlib
import http.client
import itertools
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.front import Answered, FrontProcess
from tests.support.processes import ROOT, clean_environment
from tests.support.rig import Rig
from tests.support.servers import ValkeyServer
from tests.support.stub_model import body, echo, status
from tests.support.waiting import free_port, until


@pytest.fixture
def front(redis_rig: Rig, place: Path) -> Iterator[FrontProcess]:
    """One with a worker behind it, whose model is a stub."""
    redis_rig.work()
    with FrontProcess(place, redis_rig._broker_url, redis_rig.names.prefix) as process:
        yield process


def seen(answered: Answered) -> str | None:
    return answered.headers["cache-status"]


def test_the_service_of_before(rig: Rig, place: Path) -> None:
    """JSON in, the model's JSON out; once asked, remembered; `bypass` is no part of the payload."""
    rig.work()
    with FrontProcess(place, rig._broker_url, rig.names.prefix) as front:
        first, second = front.post({"text": "é"}), front.post({"text": "é"})
        bypassed = front.post({"text": "é", "bypass": True})
        renewed = front.post({"text": "é"}, cache_control="no-cache")
    for answered in (first, second, bypassed, renewed):
        assert (answered.status, answered.json) == (200, {"echo": {"text": "é"}})
        assert answered.headers["content-type"] == "application/json"
    assert [seen(answered) for answered in (first, bypassed, renewed)] == [
        "recollect; fwd=miss; stored",
        "recollect; fwd=bypass",
        "recollect; fwd=request; stored",
    ]
    assert str(seen(second)).startswith("recollect; hit; ttl=")
    assert int(second.headers["age"]) >= 0
    assert rig.model.payloads == [{"text": "é"}] * 3


def test_what_is_wrong_is_said_with_a_status(redis_rig: Rig, front: FrontProcess) -> None:
    """As problem details, each of its kind."""
    wanted = {
        400: [front.post(b"{"), front.post({"bypass": "yes"}), front.post({}, cache_control="max-age=x")],
        404: [front.post({}, "/analysis?model=nobody"), front.get("/nowhere"), front.post({}, "/analysis/")],
        405: [front.get("/analysis")],
        413: [front.post({"text": "x" * (1 << 20)})],
        415: [front.post({}, content_type="text/plain"), front.post({}, content_encoding="gzip")],
        504: [front.post({}, cache_control="only-if-cached")],
    }
    redis_rig.model.behave = status(404)
    wanted[422] = [front.post({"a": 1})]
    redis_rig.model.behave = body(b"no json")
    wanted[502] = [front.post({"a": 2})]
    redis_rig.model.behave = status(503)
    wanted[502].append(front.post({"a": 3}))
    for code, answers in wanted.items():
        for answered in answers:
            assert answered.status == code
            assert answered.headers["content-type"] == "application/problem+json"
            assert answered.json["status"] == code
            assert answered.json["detail"]
    assert "bypass is a string" in wanted[400][1].json["detail"]
    assert wanted[502][1].json["retryable"]
    assert redis_rig.entries() == {}


def test_headers_in_lines_and_bodies_in_chunks_are_taken_whole(redis_rig: Rig, front: FrontProcess) -> None:
    """Both directives count; a body that does not say its size is cut off where it is too large."""
    host = urlsplit(front.address)
    link = http.client.HTTPConnection(str(host.hostname), host.port, timeout=30)
    with contextlib.closing(link):
        link.putrequest("POST", "/analysis")
        for name, value in (("cache-control", "no-cache"), ("cache-control", "no-store")):
            link.putheader(name, value)
        link.putheader("content-type", "application/json")
        link.putheader("transfer-encoding", "chunked")
        link.endheaders(iter([b'{"a"', b":1}"]), encode_chunked=True)
        answer = link.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"echo":{"a":1}}')
        assert answer.headers["cache-status"] == "recollect; fwd=request"
        chunks = itertools.repeat(b" " * 65_536, 17)
        link.request("POST", "/analysis", chunks, {"content-type": "application/json"}, encode_chunked=True)
        assert link.getresponse().status == 413
    assert redis_rig.entries() == {}


def test_many_at_once_are_each_answered_with_their_own(redis_rig: Rig, front: FrontProcess) -> None:
    """Over many connections, new and remembered ones mixed."""
    with ThreadPoolExecutor(32) as pool:
        for _ in range(2):
            answers = list(pool.map(lambda n: front.post({"n": n}), range(200)))
            assert [answered.json["echo"]["n"] for answered in answers] == list(range(200))
    assert redis_rig.model.calls == 200


def test_the_trace_goes_on_to_the_model(redis_rig: Rig, front: FrontProcess) -> None:
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    assert front.post({}, traceparent=trace).status == 200
    assert redis_rig.model.headers[-1]["traceparent"] == trace


def test_health_and_the_document(front: FrontProcess) -> None:
    """For probes and for tools."""
    assert (front.get("/livez").status, front.get("/readyz").status) == (200, 200)
    assert "/analysis" in front.get("/openapi.json").json["paths"]


def test_no_room_and_no_answer_in_time(redis_rig: Rig, place: Path) -> None:
    """503 with a time to come back while all room is taken; 504 when the time is over."""
    redis_rig.work()
    model, where = redis_rig.model, (place, redis_rig._broker_url, redis_rig.names.prefix)
    model.behave = lambda payload: (model.released.wait(60), echo(payload))[1]
    with FrontProcess(*where, "--timeout=0.5") as hasty:
        late = hasty.post({"n": 0})
        assert (late.status, late.json["kind"]) == (504, "no_reply")
    with FrontProcess(*where, "--in-flight=1") as front, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(front.post, {"n": 1})
        until(lambda: model.calls == 2, what="the call")
        busy = front.post({"n": 2})
        assert (busy.status, busy.json["kind"], busy.headers["retry-after"]) == (503, "busy", "1")
        model.released.set()
        assert asked.result().status == 200
        assert front.post({"n": 3}).status == 200


def test_sigterm_answers_what_is_under_way(redis_rig: Rig, front: FrontProcess) -> None:
    """And takes nothing more; exit 0."""
    model = redis_rig.model
    model.behave = lambda payload: (model.released.wait(60), echo(payload))[1]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(front.post, {"n": 1})
        until(lambda: model.calls, what="the call")
        front.child.terminate()
        until(lambda: not accepts_more(front), what="a closed door")
        model.released.set()
        assert (asked.result().status, asked.result().json) == (200, {"echo": {"n": 1}})
    assert front.stop() == 0


def accepts_more(front: FrontProcess) -> bool:
    try:
        return front.get("/livez").status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def test_a_broker_that_is_away_is_503_until_it_is_back(place: Path, prefix: str) -> None:
    """With the time to come back, and not ready meanwhile; no address of ours is given away."""
    server = ValkeyServer(place / "late")
    with FrontProcess(place, server.url, prefix, "--timeout=1", ready=False) as front:
        assert front.get("/livez").status == 200
        assert front.get("/readyz").status == 503
        away = front.post({})
        assert (away.status, away.json["kind"], away.headers["retry-after"]) == (
            503,
            "queue_unreachable",
            "5",
        )
        assert b"127.0.0.1" not in away.body
        server.start()
        try:
            until(lambda: front.get("/readyz").status == 200, 30, "a ready front")
            assert front.post({}).status == 504, "nobody works there"
        finally:
            front.stop()
            server.stop()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--port", "70000"], 2, "--port 70000"),
        (["--timeout", "0"], 2, "not above 0"),
        (["--in-flight", "0"], 2, "at least 1"),
        (["--host", "192.0.2.1"], 2, "--host 192.0.2.1"),
        (["--broker-url", "nope"], 2, "expected embedded:"),
        (["--port", "0", "--no-retry"], 3, "no broker"),
    ],
)
def test_wrong_use_is_explained(place: Path, arguments: list[str], code: int, said: str) -> None:
    """A sentence, never a traceback; nothing is served."""
    done = serve(place, "-m", "producer", "serve", *arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_packages_it_says_what_to_install(place: Path) -> None:
    blocked = "import sys; sys.modules['uvicorn'] = None; from producer.__main__ import main; "
    done = serve(place, "-c", f"{blocked}sys.exit(main(['serve']))")
    assert done.returncode == 2
    assert "pip install 'recollect[http]'" in done.stderr


def test_an_open_door_is_warned_of(place: Path, prefix: str) -> None:
    """Localhost is not spoken of."""
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with FrontProcess(place, nowhere, prefix, "--host=0.0.0.0", ready=False) as front:
        assert "warning: listening on 0.0.0.0" in front.said


def serve(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=place,
        env={"PYTHONPATH": ROOT, **clean_environment(BROKER_URL=f"redis://127.0.0.1:{free_port()}/0")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
