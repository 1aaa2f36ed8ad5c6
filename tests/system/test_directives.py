"""The directives table of docs/contract.md: every row, through a real worker, packed and alone."""

import orjson
import pytest

from broker.base import NDJSON, Message
from tests.support.rig import Rig
from tests.support.stub_model import body, status
from tests.support.waiting import until


def counting(rig: Rig) -> None:
    """The model answers with how often it was asked."""
    rig.model.behave = lambda _: (200, b"%d" % rig.model.calls, {})


def test_a_miss_is_remembered_and_then_hit(rig: Rig) -> None:
    """Nothing special asked: read, call on a miss, write on success."""
    counting(rig)
    rig.work()
    first, second = rig.call({"a": 1}), rig.call({"a": 1})
    assert (first.outcome, first.result) == ("miss", 1)
    assert (second.outcome, second.result) == ("hit", 1)
    assert first.key == second.key
    assert second.age_seconds is not None
    assert second.age_seconds >= 0
    assert second.ttl_seconds is not None
    assert 0 < second.ttl_seconds <= 1.1 * 86_400


def test_bypass_reaches_the_model_and_leaves_the_entry_alone(rig: Rig) -> None:
    """bypass: no read, always a call, no write; the entry stays as it was."""
    counting(rig)
    rig.work()
    rig.call({"a": 1})
    before = rig.entries()
    bypassed = rig.call({"a": 1}, bypass=True, refresh=True)
    assert (bypassed.outcome, bypassed.result, bypassed.key) == ("bypass", 2, None)
    assert rig.entries() == before
    assert rig.call({"a": 1}).result == 1


def test_refresh_replaces_the_entry_on_success_only(redis_rig: Rig) -> None:
    """refresh: no read, always a call; the old entry is kept on failure."""
    rig = redis_rig
    counting(rig)
    rig.work()
    rig.call("p")
    assert (rig.call("p", refresh=True).outcome, rig.call("p").result) == ("refresh", 2)
    rig.model.behave = status(400)
    assert rig.call("p", refresh=True).outcome == "failed"
    assert (rig.call("p").outcome, rig.call("p").result) == ("hit", 2)


def test_no_store_reads_but_does_not_write(redis_rig: Rig) -> None:
    """no_store: a stored answer may be used, a new one is not kept."""
    rig = redis_rig
    counting(rig)
    rig.work()
    assert rig.call("p", no_store=True).outcome == "miss"
    assert rig.entries() == {}
    assert rig.call("p").outcome == "miss"
    assert rig.call("p", no_store=True).outcome == "hit"


@pytest.mark.parametrize(("asked", "least", "most"), [(100, 90, 110), (1, 9, 11), (10**9, 900, 1100)])
def test_ttl_is_kept_within_the_policy(redis_rig: Rig, asked: float, least: float, most: float) -> None:
    """ttl: written with it, within the model's bounds, with ten percent of jitter; kept a while longer."""
    rig = redis_rig
    bounds = {"MODELS__M__TTL_MIN_SECONDS": "10", "MODELS__M__TTL_MAX_SECONDS": "1000"}
    rig.work(MODELS__M__TTL_SECONDS="500", MODELS__M__STALE_MAX_SECONDS="7", **bounds)
    rig.call("p", ttl=asked)
    ((name, value),) = rig.entries().items()
    _, _, created, expires, *_ = orjson.loads(value.partition(b"\n")[0])
    assert least - 1 <= expires - created <= most
    assert least + 6 - 1 <= rig.cache.ttl(name) <= most + 7


def test_a_hit_does_not_extend_the_ttl(redis_rig: Rig) -> None:
    """TTL is fixed at write."""
    rig = redis_rig
    rig.work()
    rig.call("p", ttl=1000)
    (name,) = rig.entries()
    rig.cache.expire(name, 50)
    rig.call("p", ttl=2000)
    assert rig.cache.ttl(name) <= 50


@pytest.mark.parametrize("raw", [b"null", b"false", b"[]", b"0", b'""', b"{}"])
def test_falsy_results_are_results(redis_rig: Rig, raw: bytes) -> None:
    """Presence is what the store says, never the truth of the value."""
    rig = redis_rig
    rig.model.behave = body(raw)
    rig.work()
    assert rig.call("p").outcome == "miss"
    again = rig.call("p")
    assert (again.outcome, again.ok, again.result) == ("hit", True, orjson.loads(raw))
    assert rig.model.calls == 1


def test_a_result_the_rule_refuses_is_not_kept(redis_rig: Rig) -> None:
    """cacheable: a success may be refused, also that of a refresh."""
    rig = redis_rig
    rig.model.behave = body(b'{"status":"partial"}')
    rig.work(MODELS__M__CACHEABLE='{"field":"status","equals":"ok"}')
    assert rig.call("p").outcome == "uncacheable"
    assert rig.call("p", refresh=True).outcome == "uncacheable"
    assert rig.entries() == {}
    rig.model.behave = body(b'{"status":"ok"}')
    assert [rig.call("p").outcome for _ in range(2)] == ["miss", "hit"]


def test_a_large_result_is_answered_and_not_kept(redis_rig: Rig) -> None:
    """An entry over its bound is not stored."""
    rig = redis_rig
    rig.model.behave = body(b'"%s"' % (b"x" * 3000))
    rig.work(ENTRY_MAX_BYTES="2048")
    assert rig.call("p").outcome == "uncacheable"
    assert rig.entries() == {}


def test_a_new_version_is_a_clean_miss(redis_rig: Rig) -> None:
    """The version is the model's, from its settings."""
    rig = redis_rig
    worker = rig.work()
    rig.call("p")
    worker.stop()
    rig.work(MODELS__M__VERSION="2")
    reply = rig.call("p")
    assert (reply.outcome, reply.version) == ("miss", "2")


def test_excluded_fields_do_not_split_the_key(redis_rig: Rig) -> None:
    """key_exclude: what the model does not read does not cost a miss, but it is sent."""
    rig = redis_rig
    rig.work(MODELS__M__KEY_EXCLUDE="exported_at")
    assert rig.call({"text": "a", "exported_at": 1}).outcome == "miss"
    assert rig.call({"text": "a", "exported_at": 2}).outcome == "hit"
    assert rig.model.payloads == [{"exported_at": 1, "text": "a"}]


def test_a_purge_is_seen_by_running_workers(redis_rig: Rig) -> None:
    """A moved generation is a clean miss, at once, without a restart."""
    rig = redis_rig
    rig.work()
    rig.call("p")
    rig.cache.set(rig.names.generation("m"), 1_700_000_000_000_000)
    first, second = rig.call("p"), rig.call("p")
    assert (first.outcome, second.outcome) == ("miss", "hit")


def test_directives_hold_inside_a_packed_message(rig: Rig) -> None:
    """Each line has its own directives, and is answered in its place."""
    counting(rig)
    rig.work()
    rig.call("p")
    lines = [
        b'{"payload":"p"}',
        b'{"payload":"p","bypass":true,"id":"b"}',
        b'{"payload":"q","no_store":true}',
        b'{"payload":"p","ttl":-1}',
        b'{"payload":"p","reply":true}',
    ]
    (reply,) = rig.ask(Message(b"\n".join(lines) + b"\n", NDJSON, "c"))
    found = [orjson.loads(line) for line in reply.body.splitlines()]
    assert [row["outcome"] for row in found] == ["hit", "bypass", "miss", "invalid", "hit"]
    assert [row["id"] for row in found] == ["c.0", "b", "c.2", "c.3", "c.4"]
    assert (reply.content_type, reply.correlation_id) == (NDJSON, "c")


def test_reply_false_is_done_and_not_answered(rig: Rig) -> None:
    """Nobody waits: the model is called, the result kept, no reply sent."""
    worker = rig.work()
    rig.ask(Message(b'{"payload":"p","reply":false}'), replies=0)
    until(lambda: worker.outcomes()["miss"] == 1, what="the request")
    assert rig.call("p").outcome == "hit"
    broker = rig.broker()
    assert broker.depth()[rig.names.replies] == 0
    broker.close()


def test_a_large_reply_comes_in_parts(rig: Rig) -> None:
    """part: i/n, each with whole replies; the producer puts them together."""
    rig.model.behave = body(b'"%s"' % (b"x" * 1500))
    rig.work(REPLY_MAX_BYTES="4096")
    replies = list(rig.producer.map(range(20), pack=20, ordered=True))
    assert [reply.index for reply in replies] == list(range(20))
    assert all(reply.ok for reply in replies)
    raw = b"".join(b'{"payload":%d}\n' % n for n in range(4))
    parts = rig.ask(Message(raw, NDJSON, "c"), replies=2)
    assert sorted(part.headers["part"] for part in parts) == ["1/2", "2/2"]
