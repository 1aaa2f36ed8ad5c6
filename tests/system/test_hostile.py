"""What strangers may put into queue, cache and answers: nothing of it is run, nobody else pays for it."""

import gzip
import pickle
import re
import sys
import zlib
from pathlib import Path

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.base import JSON, NDJSON, Message
from broker.dead import FAILED, dead_letter
from tests.support.processes import ROOT, WorkerProcess, run
from tests.support.proxy import Proxy
from tests.support.rig import Rig, collect
from tests.support.stub_model import StubModel, body, status
from tests.support.waiting import until

_MIB = 1 << 20


class Bomb:
    """Whoever unpickles it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._trace,)


def peak_bytes(worker: WorkerProcess) -> int:
    """The most memory that the worker has ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.child.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def series(worker: WorkerProcess) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """Every line of /metrics without its value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(worker.get("/metrics")[1])
        for sample in family.samples
    }


def test_code_in_the_cache_is_a_counted_miss(redis_rig: Rig, tmp_path: Path) -> None:
    """Pickled, compressed, of another type, without end: none is loaded, all are called anew and counted."""
    rig, trace = redis_rig, tmp_path / "trace"
    worker = rig.work()
    rig.call("p")
    ((name, value),) = rig.entries().items()
    planted = [
        pickle.dumps(Bomb(trace)),
        b"\x80\x04." + value,
        value.partition(b"\n")[0] + b"\n" + pickle.dumps(Bomb(trace)),
        gzip.compress(value),
        b'["k1"' + b"," * 100_000,
        b"[" * 100_000,
        orjson.dumps({"result": 1}),
    ]
    for entry in planted:
        rig.cache.set(name, entry)
        assert (rig.call("p").outcome, rig.call("p").outcome) == ("miss", "hit"), entry[:40]
    assert rig.model.calls == 1 + len(planted)
    assert f'recollect_cache_errors_total{{operation="lookup"}} {len(planted)}.0' in worker.get("/metrics")[1]
    assert not trace.exists()
    # What the server itself refuses to read is as if it were not there.
    rig.cache.delete(name)
    rig.cache.lpush(name, b"not a string")
    assert rig.call("p").ok


def test_an_entry_under_another_key_is_nobodys_answer(redis_rig: Rig) -> None:
    """Two whole entries, swapped: each names its own key, and neither is believed."""
    rig = redis_rig
    worker = rig.work()
    rig.call("mine")
    (mine,) = rig.entries()
    rig.call("yours")
    (yours,) = rig.entries().keys() - {mine}
    kept = rig.entries()
    rig.cache.set(mine, kept[yours])
    rig.cache.set(yours, kept[mine])
    for payload in ("mine", "yours"):
        reply = rig.call(payload)
        assert (reply.outcome, reply.result) == ("miss", {"echo": payload})
    assert 'recollect_cache_errors_total{operation="lookup"} 2.0' in worker.get("/metrics")[1]


def hostile_names(prefix: str) -> list[str]:
    """Values for reply_to that look like a reply queue, or would like to be another one."""
    own = f"{prefix}.replies"
    return [
        f"{own}.a\n",
        f"{own}.a\r",
        f"\n{own}.a",
        f"{own}.a\x00",
        f"{own}.\x00",
        f"{own}.a\x06\x163",
        f"{own}\x06\x169",
        f"{own}.{'x' * 65}",
        f"{own}.{'x' * (255 - len(own) - 1)}",
        f"{own}/../{prefix}.requests",
        f"{own}.../{prefix}.dead",
        f"{own}.a.b",
        f"{own}.",
        f"{own} ",
        f"{own}.a*",
        f"{own}.{{a}}",
        f"{prefix.upper()}.replies",
        f"{own}.\u0430",  # a Cyrillic a
        f"{prefix}\u2024replies.a",  # a dot that is none
        f"{own}.\uff41",
        f"{prefix}.replies\u200b",
        f"{own}.\u0661",  # a digit, but not one of ours
        f"{prefix}.requests",
        f"{prefix}.misses",
        f"{prefix}.dead",
        f"{prefix}.paused",
        f"{prefix}:leases",
        f"{prefix}:k1:m:1:{{0}}",
        "recollect.replies",
        "celery",
        "amq.topic",
        "_kombu.binding.celery",
    ]


def test_no_reply_to_leads_elsewhere(rig: Rig) -> None:
    """Refused on the shared reply queue, each; the queues that were meant stay as they were."""
    worker = rig.work()
    wanted = hostile_names(rig.names.prefix)
    messages = [
        Message(b'{"payload":1}', JSON, f"c{number}", reply_to=name) for number, name in enumerate(wanted)
    ]
    replies = {message.correlation_id: message for message in rig.ask(*messages)}
    for number, name in enumerate(wanted):
        error = orjson.loads(replies[f"c{number}"].body)["error"]
        assert error["kind"] == "invalid_request", name
        assert "reply_to" in error["message"], name
    assert rig.model.calls == 0
    broker = rig.broker()
    until(lambda: not any(broker.depth().values()), what="nothing left anywhere")
    broker.close()
    assert all(line.startswith("{") for line in worker.said.splitlines()), "a name began a line of the log"


NAUGHTY = (
    "",
    " ",
    "\x00",
    "\x1b[2J\x1b[31m",
    "\r\nX-Injected: 1",
    '\n{"event":"fault"}',
    "\u202egnp.exe",
    "\u200b\ufeff",
    "' OR 1=1 --",
    "'; FLUSHALL; --",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "return redis.call('flushall')",
    "<script>alert(1)</script>",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}",
    "%s%n%x%(a)s",
    "../../../../etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "__proto__",
    "__class__.__mro__",
    "python:os:system",
    "\U0001f4a9" * 60,
    "e\u0301" * 50,
    "\ufdfd",
    "nan",
    "null",
    "x" * 256,
    "{}*?[a]",
)


def test_naughty_strings_go_through_every_field_and_leave_no_series(rig: Rig) -> None:
    """As payload, id, model, field name, correlation id, content type and headers: answered or refused."""
    worker = rig.work()
    rig.call("warm")
    rig.call("warm", model="nobody")
    until(lambda: worker.outcomes()["invalid"] == 1, what="the count")
    before = series(worker)
    messages = []
    for number, text in enumerate(NAUGHTY):
        quoted = orjson.dumps(text)
        for field, line in enumerate(
            (
                b'{"payload":%b}' % quoted,
                b'{"payload":{%b:%b}}' % (quoted, quoted),
                b'{"payload":1,"id":%b}' % quoted,
                b'{"payload":1,"model":%b}' % quoted,
                b'{"payload":1,%b:true}' % quoted,
                b'{"payload":1,"ttl":%b}' % quoted,
            )
        ):
            messages.append(Message(line, JSON, f"n{number}.{field}"))
        headers = {"traceparent": text, "enqueued_at": text, "url": text, "deadline": text, "reason": text}
        messages.append(Message(b'{"payload":2}', JSON, f"n{number}.headers", headers=headers))
    replies = {message.correlation_id: orjson.loads(message.body) for message in rig.ask(*messages)}
    assert len(replies) == len(messages)
    for number, text in enumerate(NAUGHTY):
        assert replies[f"n{number}.0"]["result"] == {"echo": text}
        assert replies[f"n{number}.1"]["result"] == {"echo": {text: text}}
        assert replies[f"n{number}.2"]["id"] == text
        for field in (3, 4, 5):
            assert replies[f"n{number}.{field}"]["error"]["kind"] in ("invalid_request", "unknown_model")
        assert "traceparent" not in replies[f"n{number}.headers"]
    odd = [Message(b'{"payload":3}', JSON, text[:200]) for text in NAUGHTY if text]
    odd += [Message(b'{"payload":4}', text[:200], "kind") for text in NAUGHTY if text]
    assert len(rig.ask(*odd)) == len(odd)
    until(lambda: sum(worker.outcomes().values()) == len(messages) + len(odd) + 2, what="the counts")
    assert series(worker) == before
    for line in worker.said.splitlines():
        assert isinstance(orjson.loads(line), dict), line
    assert not worker.events("fault")


def test_ten_thousand_models_make_no_series(redis_rig: Rig) -> None:
    """Nor a row on the page, nor a key in the store: a label is a model that is served, or one for all."""
    rig = redis_rig
    worker = rig.work()
    rig.call("warm", model="nobody")
    until(lambda: worker.outcomes()["invalid"] == 1, what="the count")
    before = series(worker)
    keys = rig.cache.dbsize()
    lines = b"\n".join(b'{"payload":1,"model":"model-%d"}' % number for number in range(10_000))
    (reply,) = rig.ask(Message(lines, NDJSON, "many"))
    assert reply.body.count(b"unknown_model") == 10_000
    until(lambda: worker.outcomes()["invalid"] == 10_001, what="the count")
    assert series(worker) == before
    assert [model["name"] for model in orjson.loads(worker.get("/status.json")[1])["models"]] == ["m"]
    assert rig.cache.dbsize() <= keys + 10, "the figures of a few minutes at most"


def json_bombs() -> list[bytes]:
    """At most 1 MiB each, which is what a request may have."""
    return [
        b'{"payload":' + b"[" * 100_000 + b"}",
        b'{"payload":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
        b'{"payload":[' + b"[]," * 340_000 + b"1]}",
        b'{"payload":{' + b",".join(b'"%x":0' % n for n in range(100_000)) + b"}}",
        b'{"payload":' + b"9" * 1_000_000 + b"}",
        b'{"payload":-' + b"9" * 1_000_000 + b".5e9}",
        b'{"payload":1e' + b"9" * 1_000_000 + b"}",
    ]


@pytest.mark.parametrize("at_once", [1, 15])
def test_json_bombs_are_bounded_in_memory(redis_rig: Rig, at_once: int) -> None:
    """Depth, width, digits; alone and fifteen in a message of 15 MiB: every neighbour is answered."""
    rig = redis_rig
    rig.model.behave = body(b"1")
    worker = rig.work()
    rig.call("warm")
    before = peak_bytes(worker)
    for bomb in json_bombs():
        assert len(bomb) <= _MIB
        lines = b"\n".join([bomb] * at_once + [b'{"payload":"neighbour"}'])
        (reply,) = rig.ask(Message(lines, NDJSON, "bomb"))
        rows = [orjson.loads(line) for line in reply.body.splitlines()]
        assert len(rows) == at_once + 1
        assert rows[-1]["status"] == "ok"
    assert worker.child.poll() is None
    # Held as it came, parsed a request at a time, and sent on: not twenty times its size.
    assert peak_bytes(worker) - before < (70 if at_once == 1 else 250) * _MIB


def test_a_message_that_is_one_large_request_is_not_parsed(redis_rig: Rig) -> None:
    """15 MiB of `[],` and a million keys: refused by their size; the memory is that of the message."""
    rig = redis_rig
    worker = rig.work()
    rig.call("warm")
    before = peak_bytes(worker)
    for bomb in (
        b'{"payload":[' + b"[]," * 5_000_000 + b"1]}",
        b'{"payload":{' + b",".join(b'"k%d":0' % n for n in range(1_000_000)) + b"}}",
    ):
        (reply,) = rig.ask(Message(bomb, JSON, "bomb"))
        assert "at most 1048576 are taken" in orjson.loads(reply.body)["error"]["message"]
        assert rig.call("neighbour").ok
    assert peak_bytes(worker) - before < 150 * _MIB


def test_a_compressed_message_is_never_unpacked(rig: Rig) -> None:
    """50 KB that would be 50 MB, by every name that kombu knows: refused as it came."""
    worker = rig.work()
    rig.call("warm")
    before = peak_bytes(worker)
    packed = zlib.compress(b'{"payload":"%b"}' % (b"0" * 50_000_000), 9)
    kinds = ("application/x-gzip", "zlib", "gzip", "application/x-bz2", "application/x-lzma", "zstd", "")
    replies = rig.ask(*(Message(packed, JSON, kind, headers={"compression": kind}) for kind in kinds))
    for reply in replies:
        assert "compressed" in orjson.loads(reply.body)["error"]["message"]
    assert rig.call("neighbour").ok
    assert peak_bytes(worker) - before < 20 * _MIB


@pytest.mark.parametrize(
    ("code", "size"), [(200, 50_000_000), (400, 50_000_000), (500, 50_000_000), (200, 1)]
)
def test_a_compressed_answer_is_never_unpacked(redis_rig: Rig, code: int, size: int) -> None:
    """A model that was not asked to compress and does: bytes that are no JSON, and no more of them."""
    rig = redis_rig
    packed = gzip.compress(b'"%b"' % (b"0" * size))
    rig.model.behave = lambda _: (code, packed, {"Content-Encoding": "gzip"})
    worker = rig.work(MODELS__M__ATTEMPTS="1")
    rig.call("warm")
    before = peak_bytes(worker)
    reply = rig.call("p")
    assert reply.error is not None
    expected = {200: "bad_result", 400: "model_rejected", 500: "model_unavailable"}
    assert reply.error["kind"] == expected[code]
    assert peak_bytes(worker) - before < 20 * _MIB
    assert all(headers["Accept-Encoding"] == "identity" for headers in rig.model.headers)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(redis_rig: Rig, code: int) -> None:
    """A model cannot send us to another server, such as the one that knows the machine's credentials."""
    rig = redis_rig
    with StubModel() as other:
        rig.model.behave = status(code, Location=other.url)
        rig.work()
        reply = rig.call("p")
        assert reply.error is not None
        assert reply.error["kind"] == "model_rejected"
        assert "redirects are not followed" in reply.error["message"]
        assert (rig.model.calls, other.calls) == (1, 0)


def test_no_message_chooses_what_is_called(redis_rig: Rig) -> None:
    """Addresses and code in payload, headers and model name are data."""
    rig = redis_rig
    with StubModel() as other:
        rig.work()
        payload = {"url": other.url, "target": "python:os:system", "__type__": "datetime", "__value__": "x"}
        assert rig.call(payload).result == {"echo": payload}
        for name in (other.url, "python:os:system"):
            reply = rig.call("p", model=name)
            assert reply.error is not None
            assert reply.error["kind"] == "unknown_model"
        headers = {"url": other.url, "target": other.url, "http_proxy": other.url}
        (answer,) = rig.ask(Message(b'{"payload":"p"}', JSON, "c", headers=headers))
        assert orjson.loads(answer.body)["status"] == "ok"
        assert other.calls == 0
        assert not {"url", "target", "http_proxy"} & {name.lower() for name in rig.model.headers[-1]}


def test_the_model_is_sent_what_the_key_was_made_of(redis_rig: Rig) -> None:
    """A member that comes twice is read once, by us, and the model gets that reading, not the bytes."""
    rig = redis_rig
    rig.work()
    messages = [
        Message(b'{"payload": {"b" : 1, "a":9, "a":2}}', JSON, "first"),
        Message(b'{"payload":{"\\u0061":2,"b":1}}', JSON, "second"),
    ]
    for message, outcome in zip(messages, ("miss", "hit"), strict=True):
        (reply,) = rig.ask(message)
        row = orjson.loads(reply.body)
        assert (row["outcome"], row["result"]) == (outcome, {"echo": {"a": 2, "b": 1}})
    assert [headers["Content-Length"] for headers in rig.model.headers] == [str(len(b'{"a":2,"b":1}'))]


def test_an_answer_that_was_left_unread_is_nobodys(redis_rig: Rig) -> None:
    """The cache is cut at any byte, or answers too late: what was not read is not the next answer."""
    rig = redis_rig
    proxy = Proxy(rig.cache_server.port)
    rig.work(
        CACHE_URL=f"redis://127.0.0.1:{proxy.port}/1",
        CACHE_BREAKER_FAILURES="1000000",
        CACHE_BREAKER_SECONDS="0.05",
        CACHE_DEADLINE_SECONDS="0.2",
    )
    payloads = ["one", "two", "three"]
    assert all(reply.ok for reply in rig.producer.map(payloads, pack=3))
    outcomes = []
    for position in range(1, 2_400, 24):
        proxy.cut_after = ("down", position)
        for index, reply in enumerate(rig.producer.map(payloads, pack=3, ordered=True)):
            assert reply.result == {"echo": payloads[index]}
            outcomes.append(reply.outcome)
    assert 0 < outcomes.count("hit") < len(outcomes), "some were cut, and some were not"
    proxy.cut_after = None
    until(lambda: rig.call("one").outcome == "hit", what="the cache's return")
    for _ in range(5):
        proxy.mode = "down-blackhole"
        late = rig.call("one")
        assert (late.outcome, late.result) == ("unavailable", {"echo": "one"})
        proxy.mode = "pass"  # what was asked about "one" is answered now
        for payload in ("two", "three"):
            reply = rig.call(payload)
            # An answer about another key would not be believed: it would be a miss.
            assert reply.outcome in ("hit", "unavailable")
            assert reply.result == {"echo": payload}
    proxy.close()


def test_a_replayed_letter_is_new_input(redis_rig: Rig, tmp_path: Path) -> None:
    """What a letter says is checked like any message: nothing in it is run, or sent where it wants."""
    rig, trace = redis_rig, tmp_path / "trace"
    rig.work()
    broker = rig.broker()
    hostile = Message(
        pickle.dumps(Bomb(trace)),
        "application/x-python-serialize",
        "hostile",
        reply_to="celery",
        headers={"compression": "zlib"},
        queue=rig.names.requests,
    )
    broker.send(rig.names.dead, [dead_letter(hostile, FAILED, 1e9)])
    words = ("worker", "dead", "replay", "--all", "--yes")
    done = run(tmp_path, *words, environment={"PYTHONPATH": ROOT}, **rig.settings)
    assert done.returncode == 0, done.stderr
    (reply,) = collect(broker, rig.names.replies, 1)
    assert reply.correlation_id == "hostile"
    assert orjson.loads(reply.body)["error"]["kind"] == "invalid_request"
    assert broker.depth()[rig.names.dead] == 0
    broker.close()
    assert not trace.exists()
    assert not rig.model.calls


def test_a_proxy_of_the_environment_is_not_used(redis_rig: Rig, tmp_path: Path) -> None:
    """Payloads go to the address in the settings, whatever the machine tells web clients."""
    rig = redis_rig
    with StubModel() as other:
        proxies = {"http_proxy": other.url, "HTTP_PROXY": other.url, "ALL_PROXY": other.url}
        starter = tmp_path / "starter"
        starter.mkdir()
        (starter / "behind_a_proxy.py").write_text(
            "import os, sys\n"
            f"os.environ.update({proxies!r})\n"
            "from worker.__main__ import main\n"
            "sys.exit(main(['run']))\n"
        )
        wrapper = tmp_path / "python"
        wrapper.write_text(
            f'#!/bin/sh\nexport PYTHONPATH="{starter}:$PYTHONPATH"\nexec {sys.executable} "$@"\n'
        )
        wrapper.chmod(0o700)
        rig.work(module=("behind_a_proxy",), python=str(wrapper))
        assert rig.call("p").ok
        assert (rig.model.calls, other.calls) == (1, 0)
