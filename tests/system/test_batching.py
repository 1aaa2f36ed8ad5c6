"""Model calls that carry many payloads: a Python model gets a list, an HTTP model an array."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.rig import Rig
from tests.support.stub_model import Answer

BATCHED = "python:tests.support.python_models:batched"


def replies(rig: Rig, payloads: list[Any], **settings: str) -> list[Any]:
    rig.work(MODELS__M__BATCH_SIZE="32", MODELS__M__BATCH_WAIT_MS="50", **settings)
    return list(rig.producer.map(payloads, ordered=True, reply_timeout=60))


def test_a_python_model_gets_lists(redis_rig: Rig) -> None:
    """As many as wait, at most the batch size; each row has its own answer, equal ones count once."""
    found = replies(redis_rig, [n % 100 for n in range(200)], MODELS__M__TARGET=BATCHED)
    assert all(reply.ok for reply in found)
    assert sorted(reply.outcome for reply in found) == ["coalesced"] * 100 + ["miss"] * 100
    rows = [reply.result["rows"] for reply in found]
    assert 8 < max(rows) <= 32


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ("error", "model_rejected"),
        ("exception", "model_rejected"),
        ("nan", "bad_result"),
        ("raise", "model_rejected"),
        ("short", "bad_result"),
    ],
)
def test_a_row_that_is_wrong_fails_alone(redis_rig: Rig, bad: str, kind: str) -> None:
    """Whether the model says so for the row, or fails with all that came with it."""
    found = replies(redis_rig, ["a", "b", bad, "c"], MODELS__M__TARGET=BATCHED)
    assert [reply.error and reply.error["kind"] for reply in found] == [None, None, kind, None]
    assert [reply.result["row"] for reply in found if reply.ok] == ["a", "b", "c"]
    assert found[2].error is not None
    assert ", for " not in found[2].error["message"], "its own words, and not those for all"
    again = list(redis_rig.producer.map(["a", bad], ordered=True))
    assert [reply.outcome for reply in again] == ["hit", "failed"], "errors are never remembered"


def array(answer: Callable[[Any], Any]) -> Callable[[Any], Answer]:
    return lambda payloads: (200, json.dumps([answer(payload) for payload in payloads]).encode(), {})


def test_an_http_model_gets_arrays(redis_rig: Rig) -> None:
    """One POST for many payloads; integers beyond 64 bits in its answer stay what they are."""
    redis_rig.model.behave = array(lambda payload: {"n": payload, "big": 2**70})
    found = replies(redis_rig, list(range(64)))
    assert [reply.result for reply in found] == [{"n": n, "big": 2.0**70} for n in range(64)]
    assert all(isinstance(payloads, list) for payloads in redis_rig.model.payloads)
    assert redis_rig.model.calls < 32
    assert b'"big":1180591620717411303424' in next(iter(redis_rig.entries().values()))


def test_a_row_on_which_the_service_fails_fails_alone(redis_rig: Rig) -> None:
    """A 500 for the whole call is tried again; the last attempt of each row shares its call with nobody."""

    def crash(payloads: Any) -> Answer:
        return (500, b"{}", {}) if "bad" in payloads else (200, json.dumps(payloads).encode(), {})

    redis_rig.model.behave = crash
    found = replies(redis_rig, ["a", "bad", "b"], MODELS__M__ATTEMPTS="2")
    assert [reply.error and reply.error["kind"] for reply in found] == [None, "model_unavailable", None]


def test_a_single_attempt_that_was_shared_is_made_again_alone(redis_rig: Rig) -> None:
    """The neighbours of a bad row have had no attempt of their own; a model that is away gets none more."""
    redis_rig.model.behave = lambda rows: (
        (500, b"{}", {}) if "bad" in rows else (200, json.dumps(rows).encode(), {})
    )
    found = replies(redis_rig, ["a", "bad", "b"], MODELS__M__ATTEMPTS="1")
    assert [reply.ok for reply in found] == [True, False, True]


@pytest.mark.parametrize(("code", "calls"), [(400, 7), (404, 1)])
def test_a_refusal_is_split_where_a_row_may_be_to_blame(redis_rig: Rig, code: int, calls: int) -> None:
    """Four rows, all refused: each alone at last; but an address that is not there is no row's doing."""
    redis_rig.model.behave = lambda _: (code, b"quoted words", {})
    found = replies(redis_rig, [1, 2, 3, 4])
    assert {reply.error["kind"] for reply in found} == {"model_rejected"}
    assert redis_rig.model.calls == calls
    said = {reply.error["message"] for reply in found}
    assert said == {f"model answered {code}" + (": quoted words" if code == 400 else ", for 4 requests")}


def test_a_call_that_hangs_is_written_off_with_all_its_rows(redis_rig: Rig) -> None:
    """Each is answered, once; the worker goes on."""

    def hang(payloads: Any) -> Answer:
        if "hang" in payloads:
            time.sleep(3)
        return 200, json.dumps(payloads).encode(), {}

    redis_rig.model.behave = hang
    settings = {"MODELS__M__TIMEOUT_SECONDS": "0.3", "MODELS__M__ATTEMPTS": "1"}
    found = replies(redis_rig, ["a", "hang"], **settings)
    assert {reply.error["kind"] for reply in found} == {"model_timeout"}
    assert redis_rig.call("next").ok
