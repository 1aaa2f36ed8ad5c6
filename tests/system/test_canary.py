"""A password, a token and a payload that nobody may see, whatever goes wrong."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from broker.base import JSON, NDJSON, Message
from tests.support.processes import run
from tests.support.rig import Rig
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.stub_model import StubModel
from tests.support.waiting import free_port, until

PASSWORD, ENCODED = "canaryPw7@/x", "canaryPw7%40%2Fx"
TOKEN, PAYLOAD = "canaryToken5", "canaryPayload9"
CANARIES = ("canaryPw7", TOKEN, PAYLOAD)


def assert_clean(what: str, text: str) -> None:
    for canary in CANARIES:
        at = text.find(canary)
        assert at < 0, f"{what} shows {canary}: …{text[max(0, at - 200) : at + 100]}…"


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that wants the password."""
    server = ValkeyServer(tmp_path / "locked").start()
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    yield server
    server.stop()


def settings_for(server: ValkeyServer, model: StubModel) -> dict[str, str]:
    url = f"redis://:{ENCODED}@127.0.0.1:{server.port}"
    return {
        "BROKER_URL": f"{url}/0",
        "CACHE_URL": f"{url}/1",
        "MODELS__M__TARGET": model.url,
        "MODELS__M__HEADERS": json.dumps({"Authorization": f"Bearer {TOKEN}"}),
        "MODELS__M__ATTEMPTS": "2",
        "MODELS__M__WAIT_INITIAL_SECONDS": "0.01",
        "DEAD_LETTER_FAILED": "true",
        "LOG_LEVEL": "debug",
    }


def _misbehave(rig: Rig) -> None:
    """Every kind of failure, each quoting the payload or the token."""
    said = f'{{"error":"{PAYLOAD} {TOKEN}"}}'.encode()
    answers = [
        (500, said, {}),
        (503, said, {"Retry-After": PAYLOAD}),
        (400, said, {}),
        (302, said, {"Location": f"http://127.0.0.1:1/{PAYLOAD}"}),
        (200, f"{PAYLOAD} is no JSON".encode(), {}),
        (200, f'{{"{PAYLOAD}":NaN}}'.encode(), {}),
        None,
    ]
    for answer in answers:
        rig.model.behave = lambda _, answer=answer: answer  # type: ignore[misc]
        assert rig.call({"text": PAYLOAD}).error is not None
    rig.model.behave = lambda payload: (200, json.dumps(payload).encode(), {})
    assert rig.call({"text": PAYLOAD}).ok
    assert rig.call({"text": PAYLOAD}).outcome == "hit"
    messages = [
        Message(f'{{"payload":"{PAYLOAD}","by_pass":true}}'.encode(), JSON, "i1"),
        Message(f'{{"payload":"{PAYLOAD}"'.encode(), JSON, "i2"),
        Message(f'{{"payload":1,"ttl":"{PAYLOAD}"}}'.encode(), JSON, "i3"),
        Message(f'{PAYLOAD}\n{{"payload":"{PAYLOAD}","bypass":"{PAYLOAD}"}}'.encode(), NDJSON, "i4"),
        Message(PAYLOAD.encode(), "application/x-yaml", "i5"),
    ]
    assert len(rig.ask(*messages)) == len(messages)


def _refuse_all(owner: redis.Redis) -> None:
    """Everybody else: what redis-py says of it may quote what it sent."""
    owner.config_set("requirepass", "another")
    for client in owner.client_list():
        if client["id"] != str(owner.client_id()):
            owner.client_kill_filter(_id=client["id"])


COMMANDS = [
    ("config",),
    ("check",),
    ("queue", "stats"),
    ("cache", "stats"),
    ("dead", "list"),
    ("dead", "list", "--json"),
    ("dead", "replay", "--all", "--dry-run"),
    ("dead", "replay", "--reason", "undecodable", "--yes"),
    ("dead", "show", "nobody"),
    ("bench-model", "m", "--seconds", "0.1"),
]


def _said_by(
    commands: list[tuple[str, ...]], place: Path, settings: dict[str, str], when: str = ""
) -> dict[str, str]:
    """What each says, which is never nothing."""
    done = {words: run(place, "worker", *words, **settings) for words in commands}
    said = {" ".join(words) + when: one.stdout + one.stderr for words, one in done.items()}
    assert all(said.values())
    return said


def test_no_canary_is_ever_shown(tmp_path: Path, locked: ValkeyServer, model: StubModel, prefix: str) -> None:
    """In logs, metrics, page, command lines and the output of every command, after every failure there is."""
    settings = settings_for(locked, model)
    rig = Rig(tmp_path, settings["BROKER_URL"], locked, model, prefix, **settings)
    worker = rig.work()
    _misbehave(rig)
    owner = redis.Redis(port=locked.port, password=PASSWORD, retry=None, socket_timeout=5)
    owner.lpush(rig.names.requests, f"{PAYLOAD} is no envelope")
    until(lambda: worker.events("undecodable"), what="the letter")
    _refuse_all(owner)
    until(lambda: worker.events("broker lost"), what="the complaint")
    shown = _said_by([("check",), ("config",)], tmp_path, rig.settings, " while refused")
    owner.config_set("requirepass", PASSWORD)
    until(worker.is_ready, what="readiness")
    owner.close()
    shown |= {path: worker.get(path)[1] for path in ("/metrics", "/status.json", "/", "/livez", "/readyz")}
    shown["arguments"] = Path(f"/proc/{worker.child.pid}/cmdline").read_text()
    shown |= _said_by(COMMANDS, tmp_path, rig.settings)
    assert "undecodable" in shown["dead list"]
    worker.stop()
    assert len(worker.events("failed")) > 5
    shown["the log"] = worker.said
    for what, text in shown.items():
        assert_clean(what, text)
    rig.producer.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"BROKER_URL": f"kafka://u:{ENCODED}@h/0"},
        {"BROKER_URL": f"redis://u:{ENCODED}@h:port/0"},
        {"BROKER_URL": f"redis://u:{ENCODED}@127.0.0.1:6379/no-number"},
        {"BROKER_URL": f"redis://u:{ENCODED}@[::1/0"},
        {"BROKER_URL": f"redis://u:{ENCODED}@127.0.0.1:6379/0?decode_responses=1"},
        {"BROKER_URL": f"redis://u:{ENCODED}@127.0.0.1:6379/0?unknown_option=1"},
        {"BROKER_URL": f"redis+sentinel://u:{ENCODED}@h:26379"},
        {"BROKER_URL": f"redis+sentinel://h/mq?sentinel_password={ENCODED}&other=1"},
        {"BROKER_URL": f"pyamqp://u:{ENCODED}@h:port//"},
        {"BROKER_URL": f"pyamqp://u:{ENCODED}@h:5672//?login_password={ENCODED}"},
        {"BROKER_URL": f"pyamqp://u:{ENCODED}@h:1//;pyamqp://u:{ENCODED}@h:port//"},
        {"CACHE_URL": f"pyamqp://u:{ENCODED}@h"},
        {"CACHE_URL": f"redis://u:{ENCODED}@h:port/0"},
        {"MODELS__M__TARGET": f"ftp://u:{ENCODED}@h/"},
        {"MODELS__M__TARGET": f"http://u:{ENCODED}@h:port/"},
        {"MODELS__M__HEADERS": f"{{Authorization: {TOKEN}}}"},
        {"MODELS__M__HEADERS": json.dumps({"Authorization": [TOKEN]})},
        {"MODELS__M__HEADERS": json.dumps({"Authorization": f"{TOKEN}\r\nX: y"})},
        {"CANARY": PASSWORD, "PREFIX": "NO"},
    ],
)
@pytest.mark.parametrize(
    "words",
    [
        ("worker", "run", "--no-retry"),
        ("worker", "config"),
        ("worker", "check"),
        ("worker", "cache", "stats"),
    ],
)
def test_a_mistake_in_the_settings_shows_no_secret(
    tmp_path: Path, wrong: dict[str, str], words: tuple[str, ...]
) -> None:
    """A sentence that names the setting, without what was secret in it."""
    nowhere = f"redis://:{ENCODED}@127.0.0.1:{free_port()}/0"
    given = {"BROKER_URL": nowhere, "CACHE_URL": nowhere, "MODELS__M__TARGET": "http://127.0.0.1:1/", **wrong}
    done = run(tmp_path, *words, **given)
    assert done.stdout + done.stderr
    assert_clean(f"{words} with {wrong}", done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_a_broken_file_shows_no_secret(tmp_path: Path) -> None:
    """The line of a mistake in recollect.toml may be the password's."""
    for text in (
        f'broker_url = "redis://:{ENCODED}@h/0\n',
        f'broker_url = redis://:{ENCODED}@h/0"\n',
        f'broker_url = ["redis://:{ENCODED}@h/0"]\n',
        f'brokr_url = "redis://:{ENCODED}@h/0"\n',
        f'[models.m]\ntarget = "http://h/"\nheaders = {{ Authorization = "{TOKEN}", }} x\n',
        f'[models.m]\ntarget = "http://h/"\nheaders = "{TOKEN}"\n',
    ):
        (tmp_path / "recollect.toml").write_text(text)
        done = run(tmp_path, "worker", "config")
        assert done.returncode == 2, text
        assert_clean(text, done.stdout + done.stderr)


def test_a_refused_login_shows_no_secret(
    tmp_path: Path, rabbit_server: RabbitServer, valkey: ValkeyServer
) -> None:
    """By RabbitMQ and by Redis: to the worker and to the producer."""
    for url in (
        f"pyamqp://nobody:{ENCODED}@127.0.0.1:{rabbit_server.port}//",
        f"redis://nobody:{ENCODED}@127.0.0.1:{valkey.port}/0",
    ):
        given = {"BROKER_URL": url, "CACHE_URL": valkey.url, "MODELS__M__TARGET": "http://127.0.0.1:1/"}
        for words in (
            ("worker", "run", "--no-retry"),
            ("worker", "check"),
            ("worker", "dead", "list"),
            ("worker", "queue", "stats"),
            ("producer", "call", f'"{PAYLOAD}"', "--no-retry"),
        ):
            done = run(tmp_path, *words, **given)
            assert done.returncode != 0, words
            assert_clean(f"{words}", done.stdout + done.stderr)
            assert "Traceback" not in done.stderr


def test_what_a_callable_quotes_goes_to_who_asked(redis_rig: Rig) -> None:
    """An exception of a Python model is in the reply, and nowhere else."""
    rig = redis_rig
    worker = rig.work(MODELS__M__TARGET="python:tests.support.python_models:quotes")
    reply = rig.call(PAYLOAD)
    assert reply.error is not None
    assert PAYLOAD in reply.error["message"]
    until(lambda: worker.events("failed"), what="the log line")
    for path in ("/metrics", "/status.json"):
        assert_clean(path, worker.get(path)[1])
    assert_clean("the log", worker.said)
