"""The small pure parts: names, replies, entries, breaker, retry, window, results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ErrorKind, Failure, Outcome, cut
from wire.names import Names
from wire.reply import BadReply, Provenance, Reply, encode_failure, encode_result, pack_replies
from worker.breaker import Breaker
from worker.entry import BadEntry, Entry, jittered
from worker.http_model import retry_after_seconds
from worker.model import BadResult, result_from_json, result_from_python
from worker.retry import RetryPolicy

DIGEST = "79d757679fcf87551d78111f04e737662b4bd84b7506ab67c0ee5bcc707c359f"


@pytest.mark.parametrize("queue", ["recollect.replies", "recollect.replies.a", "recollect.replies.A_b-9"])
def test_reply_queues_are_reply_queues(queue: str) -> None:
    """What matches the pattern may be written to."""
    assert Names().is_reply_queue(queue)


@pytest.mark.parametrize(
    "queue",
    [
        "",
        "celery",
        "recollect.requests",
        "recollect.dead",
        "recollect.replies.",
        "recollect.replies.a\n",
        "recollect.replies\n",
        "recollect.replies.a.b",
        "recollect.replies.é",
        "recollect.replies." + "x" * 65,
        "recollect.replies.a\x06\x163",
        "other.replies",
        "xrecollect.replies",
        "recollect.replies.a\x00",
    ],
)
def test_nothing_else_is_a_reply_queue(queue: str) -> None:
    """A message cannot make a worker write elsewhere."""
    assert not Names().is_reply_queue(queue)


@pytest.mark.parametrize("prefix", ["", "A", "1a", "a b", "a.b", "a" * 33, "a\n"])
def test_bad_prefixes_are_refused(prefix: str) -> None:
    """A prefix cannot contain what names are made of."""
    with pytest.raises(ValueError, match="prefix"):
        Names(prefix)


def test_models_cannot_leave_their_part_of_a_key() -> None:
    """Model and version are percent-encoded."""
    assert Names().entry("a:b/{c}", "1 2", DIGEST) == f"recollect:k1:a%3Ab%2F%7Bc%7D:1%202:{{{DIGEST}}}"


def test_replies_say_everything() -> None:
    """Every field is there, also where it is null."""
    origin = Provenance(Outcome.HIT, "m", "1", DIGEST, 1.5, 60.0)
    reply = Reply.decode(encode_result("id", b'{"a":[1]}', origin), 7)
    assert (reply.id, reply.result, reply.outcome, reply.index, reply.ok) == (
        "id",
        {"a": [1]},
        "hit",
        7,
        True,
    )
    failed = Reply.decode(
        encode_failure(None, Failure(ErrorKind.POISON, "x" * 600, 2), Provenance(Outcome.FAILED))
    )
    assert failed.error is not None
    assert (failed.id, failed.ok, failed.error["attempts"], failed.error["retryable"]) == (
        None,
        False,
        2,
        False,
    )
    assert len(failed.error["message"]) == 500


def test_text_that_json_cannot_carry_is_made_to_fit() -> None:
    """A lone surrogate in an error message must not fail the reply."""
    assert cut("a\ud800b") == "a?b"


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"id":1}', b"null"])
def test_what_is_no_reply_is_said(line: bytes) -> None:
    """A stranger's message in a reply queue is not an exception of another kind."""
    with pytest.raises(BadReply):
        Reply.decode(line)


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.integers(1, 200))
def test_parts_hold_every_reply_once_in_order(replies: list[bytes], most: int) -> None:
    """No part is larger than allowed unless a single reply is."""
    replies = [reply.replace(b"\n", b" ") for reply in replies]
    parts = list(pack_replies(replies, most))
    assert b"".join(parts) == b"".join(reply + b"\n" for reply in replies)
    assert all(len(part) <= most or part.count(b"\n") == 1 for part in parts)


@given(st.binary(max_size=200), st.floats(0, 2e9), st.integers(0, 10**6))
def test_entries_survive(body: bytes, created: float, compute_ms: int) -> None:
    """What is written is read, to the millisecond."""
    entry = Entry(DIGEST, round(created, 3), round(created + 60, 3), compute_ms, body)
    assert Entry.decode(entry.encode(), DIGEST) == entry


@given(st.data())
def test_a_changed_byte_is_seen(data: st.DataObject) -> None:
    """A body that was altered or cut is not believed."""
    stored = Entry(DIGEST, 1.0, 2.0, 3, b'{"answer":42}').encode()
    position = data.draw(st.integers(stored.index(b"\n") + 1, len(stored) - 1))
    changed = bytearray(stored)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadEntry):
        Entry.decode(bytes(changed), DIGEST)
    with pytest.raises(BadEntry):
        Entry.decode(stored[:position], DIGEST)


def test_jitter_is_within_ten_percent_and_always_the_same() -> None:
    """Workers agree without asking."""
    for digest in ("0" * 64, "f" * 64, DIGEST):
        assert 89.999 < jittered(100, digest) < 110.001
        assert jittered(100, digest) == jittered(100, digest)
    assert jittered(100, "0" * 64) == pytest.approx(90)
    assert jittered(100, "f" * 64) == pytest.approx(110)


def test_a_breaker_opens_probes_once_and_closes() -> None:
    """Three failures in a row; then one try per interval; a success closes it; one call per change."""
    now, changes = [0.0], list[bool]()
    breaker = Breaker(3, 10, lambda: now[0], changes.append)
    for _ in range(2):
        breaker.failed()
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert changes == [True]
    assert not breaker.allows()
    now[0] = 10
    assert breaker.allows()
    assert not breaker.allows(), "exactly one probe"
    breaker.failed()
    assert not breaker.allows()
    now[0] = 20
    assert breaker.allows()
    breaker.succeeded()
    assert changes == [True, False]
    assert breaker.allows()


def test_retries_are_bounded_by_attempts_and_by_seconds() -> None:
    """No wait that would end after the budget."""
    policy = RetryPolicy(attempts=3, budget_seconds=10, initial_seconds=0.1, max_seconds=1)
    assert policy.wait_seconds(1, 0, None) is not None
    assert policy.wait_seconds(2, 5, None) is not None
    assert policy.wait_seconds(3, 0, None) is None
    assert policy.wait_seconds(1, 10, None) is None
    assert policy.wait_seconds(1, 0, 20) is None, "Retry-After is beyond the budget"


@given(st.integers(1, 20))
def test_waits_have_full_jitter_below_the_exponential(attempt: int) -> None:
    """Between nothing and the doubled wait, never above the longest."""
    policy = RetryPolicy(attempts=100, budget_seconds=1e6, initial_seconds=0.5, max_seconds=8)
    wait = policy.wait_seconds(attempt, 0, None)
    assert wait is not None
    assert 0 <= wait <= min(8, 0.5 * 2 ** (attempt - 1))


def test_retry_after_is_kept_up_to_a_minute() -> None:
    """A model may ask for patience, not for ever."""
    policy = RetryPolicy(attempts=5, budget_seconds=1000)
    assert policy.wait_seconds(1, 0, 30) == 30
    assert policy.wait_seconds(1, 0, 3600) == 60


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("7", 7.0), (" 0 ", 0.0), ("soon", None), ("-1", None), ("٣", None)]
)
def test_retry_after_headers(value: str | None, expected: float | None) -> None:
    """Seconds are read, nonsense is not."""
    assert retry_after_seconds(value) == expected


def test_a_retry_after_date_is_a_wait() -> None:
    """RFC 9110 allows a date; one in the past is no wait."""
    assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, object(), b"x", {1: 2}])
def test_python_results_that_json_cannot_carry(value: object) -> None:
    """bad_result, never a silent null."""
    with pytest.raises(BadResult):
        result_from_python(value, 1000)


def test_python_results_may_hold_none() -> None:
    """null is a result."""
    assert result_from_python({"a": None}, 1000) == b'{"a":null}'


def test_json_results_are_one_line_and_keep_large_integers() -> None:
    """A newline in a result would break a packed reply; an integer must not become a float."""
    assert result_from_json(b'{\n "a" : 1 }', 1000) == b'{"a":1}'
    assert result_from_json(b'{"a":18446744073709551617}', 1000) == b'{"a":18446744073709551617}'


def test_every_error_kind_and_outcome_is_mapped() -> None:
    """The closed sets of the contract."""
    assert {kind.value for kind in ErrorKind if kind.retryable} == {
        "model_unavailable",
        "model_timeout",
        "deadline_exceeded",
        "not_cached",
        "internal",
    }
    assert {outcome.value for outcome in Outcome if not outcome.ok} == {
        "invalid",
        "failed",
        "expired",
        "not_cached",
    }
