"""`python -m worker dead`, as an operator meets it, on each real broker."""

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.base import Broker, Message, Outgoing
from broker.dead import FAILED, UNDECODABLE, dead_letter, undeliverable
from broker.urls import open_broker
from tests.support.processes import run, start
from tests.support.rig import Rig, collect
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.stub_model import echo, status
from tests.support.waiting import free_port, until
from wire.names import Names
from worker.letters import Letters

Done = subprocess.CompletedProcess[str]


class Desk:
    """A shell with the settings of a rig, and a connection to its queues."""

    def __init__(self, rig: Rig, place: Path) -> None:
        self.rig, self.place, self.names = rig, place, rig.names
        self.broker: Broker = rig.broker()

    def run(self, *arguments: str, stdin: str = "", **settings: str) -> Done:
        given = {**self.rig.settings, **settings}
        return run(self.place, "worker", "dead", *arguments, stdin=stdin, **given)

    def listed(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.run("list", "--json", *arguments).stdout))

    def ids(self, *arguments: str) -> list[str]:
        return self.run("list", "-q", *arguments).stdout.split()

    def bury(self, *letters: Message) -> None:
        before = self.waiting()
        self.broker.send(self.names.dead, letters)
        until(lambda: self.waiting() == before + len(letters), what="the letters")

    def fail(self, count: int, **properties: Any) -> None:
        """Letters of failed requests, one second apart, the oldest first."""
        now = time.time()
        asked = [self.request(n, **properties) for n in range(count)]
        self.bury(*(dead_letter(m, FAILED, now - count + n, "no model") for n, m in enumerate(asked)))

    def request(self, payload: object, **properties: Any) -> Message:
        body = json.dumps({"payload": payload}).encode()
        return Message(body, correlation_id=f"c{payload}", queue=self.names.requests, **properties)

    def waiting(self, queue: str | None = None) -> int:
        return self.broker.depth()[queue or self.names.dead]

    def got(self, queue: str, count: int = 1) -> list[Message]:
        messages = collect(self.broker, queue, count)
        self.broker.receive({}, 0)  # or what comes next would be fetched ahead, and not counted as waiting
        return messages


@pytest.fixture
def desk(rig: Rig, place: Path) -> Iterator[Desk]:
    made = Desk(rig, place)
    yield made
    made.broker.close()


@pytest.fixture
def redis_desk(redis_rig: Rig, place: Path) -> Iterator[Desk]:
    made = Desk(redis_rig, place)
    yield made
    made.broker.close()


def test_a_letter_is_the_same_after_the_broker_has_carried_it(desk: Desk) -> None:
    """Nested headers, absent properties and every type survive, and so does the id."""
    headers = {"none": None, "list": [None, {"deep": None, "n": 2**40}], "é": 1.5, "yes": True, "": ""}
    desk.bury(dead_letter(Message(b"\xff\x00", "x/y", headers=headers, queue="nowhere"), FAILED, 1.25))
    (shown,) = (json.loads(line) for line in desk.run("show", *desk.ids(), "--json").stdout.splitlines())
    assert shown["headers"] == headers
    assert (shown["correlation_id"], shown["reply_to"], shown["content_type"]) == (None, None, "x/y")
    assert (shown["body_base64"], shown["queue"], shown["dead_at"]) == ("/wA=", "nowhere", 1.25)


def test_a_listing_takes_nothing_and_shows_no_payload(desk: Desk) -> None:
    """Grouped by reason, oldest first, the same ids on every reading; what was read is still there."""
    desk.fail(3)
    reply = Outgoing(desk.names.replies_for("gone"), Message(b'{"secret":1}', correlation_id="r"))
    desk.bury(undeliverable(reply, time.time() - 7200, "NO_ROUTE\x1b[2J"))
    done = desk.run("list")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["reason", "letters", "oldest", "newest"]
    assert lines[1].split()[:2] == ["failed", "3"]
    assert lines[2].split() == ["undeliverable", "1", "2", "h", "2", "h"]
    assert next(line.split()[-3:] for line in lines if "no model" in line) == ["c0", "no", "model"]
    assert "secret" not in done.stdout
    assert "payload" not in done.stdout
    assert "\x1b" not in done.stdout
    listed = desk.listed()
    assert (listed["waiting"], listed["read"]) == (4, 4)
    ids = [letter["id"] for letter in listed["letters"]]
    assert ids == desk.ids() == desk.ids()
    assert len(set(ids)) == 4
    until(lambda: desk.waiting() == 4, what="all letters back")


def test_a_listing_is_read_in_pages(redis_desk: Desk) -> None:
    """--limit, --offset and --reason cut the window; what is left is said."""
    desk = redis_desk
    desk.fail(5)
    desk.bury(dead_letter(Message(b"?", queue=desk.names.requests), UNDECODABLE, time.time()))
    every = desk.ids("--limit", "0")
    assert len(every) == 6
    assert desk.ids("--limit", "2", "--offset", "1") == every[1:3]
    assert desk.ids("--reason", UNDECODABLE) == every[5:]
    page = desk.run("list", "--limit", "2")
    assert "6 wait; more: --offset 2, or --limit 0 for all" in page.stderr
    assert desk.run("list", "-q", "--limit", "2").stdout.split() == every[:2]
    assert desk.run("list", "--reason", "nope").returncode == 1


def test_an_empty_queue_is_said(redis_desk: Desk) -> None:
    """No letters is good news for list; there is nothing to replay or purge."""
    done = redis_desk.run("list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "there are no dead letters\n")
    assert redis_desk.run("replay", "--all", "--yes").returncode == 1
    assert redis_desk.run("purge", "--all", "--yes").returncode == 1
    assert redis_desk.run("show", "abc").returncode == 1


def test_a_request_that_failed_is_sent_again_and_answered(desk: Desk) -> None:
    """The model has recovered: the replay is a miss; the same letter replayed once more costs only a hit."""
    desk.rig.model.behave = status(400)
    worker = desk.rig.work(DEAD_LETTER_FAILED="true")
    desk.broker.send(desk.names.requests, [desk.request("p")])
    assert b'"failed"' in desk.got(desk.names.replies)[0].body
    until(lambda: desk.waiting() == 1, what="the letter")
    (letter,) = desk.got(desk.names.dead)
    desk.bury(letter)
    desk.rig.model.behave = echo
    done = desk.run("replay", desk.ids()[0][:8], "--yes")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"replayed": 1, "undeliverable": 0}), done.stderr
    (reply,) = desk.got(desk.names.replies)
    assert b'"outcome":"miss"' in reply.body
    assert reply.correlation_id == "cp"
    calls = desk.rig.model.calls
    desk.bury(letter)
    assert desk.run("replay", "--all", "--yes").returncode == 0
    assert b'"outcome":"hit"' in desk.got(desk.names.replies)[0].body
    assert desk.rig.model.calls == calls
    assert worker.outcomes()["hit"] == 1


def test_the_original_comes_back_as_it_was(desk: Desk) -> None:
    """Body, content type, correlation id, reply_to and headers, to the queue it came from."""
    headers = {"enqueued_at": 1.5, "traceparent": "x", "nested": {"none": None}}
    sent = Message(b"{}\n{}", "application/x-ndjson", "c", desk.names.replies_for("x"), headers)
    sent.queue = desk.names.misses
    desk.bury(dead_letter(sent, FAILED, time.time()))
    done = desk.run("replay", "--reason", FAILED, "--yes")
    assert done.returncode == 0, done.stderr
    assert "1 ask for replies in a queue of their own" in done.stderr
    (got,) = desk.got(desk.names.misses)
    assert (got.body, got.content_type, got.correlation_id) == (sent.body, sent.content_type, "c")
    assert (got.reply_to, got.headers) == (sent.reply_to, headers)
    assert desk.waiting() == 0


@pytest.mark.parametrize(("flag", "suffix"), [(("--reply-to", "late"), ".late"), (("--no-reply-to",), "")])
def test_replies_can_go_elsewhere(desk: Desk, flag: tuple[str, ...], suffix: str) -> None:
    """A private reply queue that is gone is replaced, for requests and for replies; a named one is made."""
    gone = desk.names.replies_for("gone")
    desk.fail(1, reply_to=gone)
    desk.bury(undeliverable(Outgoing(gone, Message(b"a reply", correlation_id="r")), time.time(), "gone"))
    done = desk.run("replay", "--all", "--yes", *flag)
    assert json.loads(done.stdout) == {"replayed": 2, "undeliverable": 0}, done.stderr
    assert desk.got(desk.names.requests)[0].reply_to == desk.names.replies + suffix
    assert desk.got(desk.names.replies + suffix)[0].body == b"a reply"


def test_a_reply_to_a_queue_that_is_gone_stays_a_letter(
    rabbit_server: RabbitServer, tmp_path: Path, valkey: ValkeyServer, model: Any, prefix: str
) -> None:
    """It is dead again, said, and exit 1; nothing is lost."""
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    desk = Desk(rig, tmp_path)
    gone = Outgoing(desk.names.replies_for("gone"), Message(b"a reply"))
    desk.bury(undeliverable(gone, time.time(), "gone"), undeliverable(gone, time.time(), "gone"))
    done = desk.run("replay", "--all", "--yes")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"replayed": 2, "undeliverable": 2}
    assert "2 could not be delivered and are dead letters again" in done.stderr
    assert [m.body for m in desk.got(desk.names.dead, 2)] == [b"a reply"] * 2
    desk.broker.close()
    rig.close()


@pytest.mark.parametrize("queue", ["celery", "{prefix}.dead", "other.requests", "{prefix}.replies.a\n", ""])
def test_a_hostile_letter_is_not_sent_where_it_wants(redis_desk: Desk, queue: str) -> None:
    """Only queues of our own prefix, never the queue of letters; the others still go."""
    desk = redis_desk
    wanted = queue.format(prefix=desk.names.prefix)
    desk.bury(dead_letter(Message(b"evil", queue=wanted), FAILED, time.time()))
    desk.fail(1)
    done = desk.run("replay", "--all", "--yes")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"replayed": 1, "undeliverable": 0}
    assert "expected" in done.stderr or "does not say which queue" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert desk.got(desk.names.requests)[0].correlation_id == "c0"
    assert desk.waiting() == 1


def test_what_could_not_be_read_is_not_sent_again(redis_desk: Desk) -> None:
    """An undecodable letter can be seen and dropped."""
    desk = redis_desk
    desk.bury(dead_letter(Message(b"\xff", queue=desk.names.requests), UNDECODABLE, time.time(), "no JSON"))
    done = desk.run("replay", "--all", "--yes")
    assert done.returncode == 1
    assert "its envelope could not be read" in done.stderr
    shown = desk.run("show", *desk.ids())
    assert shown.stdout.endswith("in base64: it is not text\n\n/w==\n\n")
    assert json.loads(desk.run("purge", "--all", "--yes").stdout) == {"purged": 1}


def test_ids_are_read_from_standard_input(desk: Desk) -> None:
    """`list -q | purge -`: exactly those; an unknown id is named, the others go, exit 1; no id is nothing."""
    desk.fail(4)
    ids = desk.ids()
    done = desk.run("purge", "--yes", "-", stdin=f"{ids[1]}\n{ids[2][:10]}\n\nfffff\n")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"purged": 2})
    assert "error: fffff: no letter has this id" in done.stderr
    assert desk.ids() == [ids[0], ids[3]]
    assert desk.run("purge", "--yes", "-", stdin="\n").returncode == 1
    assert desk.ids() == [ids[0], ids[3]]


def test_a_prefix_of_two_ids_is_refused(redis_desk: Desk) -> None:
    """More of the id is asked for; nothing happens to either."""
    desk = redis_desk
    desk.fail(17)
    first = [name[0] for name in desk.ids()]
    twice = next(char for char in first if first.count(char) > 1)
    done = desk.run("purge", "--yes", twice)
    assert done.returncode == 1
    assert f"{twice}: {first.count(twice)} letters begin so; give more of the id" in done.stderr
    assert desk.waiting() == 17


def test_nobody_to_ask_needs_yes_and_a_dry_run_does_nothing(redis_desk: Desk) -> None:
    """Off a terminal without --yes: usage, with the count; --dry-run says the same."""
    desk = redis_desk
    desk.fail(3)
    for action, said in (("replay", "send 3 letters (3 failed) back? say so"), ("purge", "drop 3 letters")):
        done = desk.run(action, "--all")
        assert done.returncode == 2
        assert said in done.stderr
    dry = desk.run("replay", "--all", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "")
    assert "3 letters (3 failed) would be sent back" in dry.stderr
    assert desk.waiting() == 3
    assert desk.waiting(desk.names.requests) == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 2), ("", 1, 2)])
def test_a_person_at_a_terminal_is_asked(redis_desk: Desk, answer: str, code: int, left: int) -> None:
    """The question says how many; only yes is yes; what arrives meanwhile is not touched."""
    desk = redis_desk
    desk.fail(2)
    ours, theirs = pty.openpty()
    words = ("worker", "dead", "purge", "--all")
    with start(desk.place, *words, settings=desk.rig.settings, stdin=theirs) as child:
        assert child.stderr is not None
        asked = ""
        while not asked.endswith("[y/N] "):
            asked += child.stderr.read(1)
        assert asked == "drop 2 letters (2 failed) for good? [y/N] "
        desk.bury(dead_letter(desk.request("late"), FAILED, time.time()))
        os.write(ours, f"{answer}\n".encode())
        child.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert child.returncode == code
    assert desk.waiting() == left + 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("purge",),
        ("purge", "--all", "abc"),
        ("purge", "--all", "--reason", "failed"),
        ("replay", "--all", "--reply-to", "no/name"),
        ("replay", "--all", "--reply-to", "x", "--no-reply-to"),
        ("purge", ""),
        ("show",),
        ("list", "--limit", "-1"),
        ("list", "abc"),
        ("bury",),
        (),
    ],
)
def test_wrong_usage_is_explained(redis_desk: Desk, arguments: Iterable[str]) -> None:
    """Exit 2 and a sentence."""
    done = redis_desk.run(*arguments, "--yes") if "replay" in arguments else redis_desk.run(*arguments)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("scheme", ["redis", "pyamqp"])
def test_a_broker_that_is_not_there_is_exit_3(redis_desk: Desk, scheme: str) -> None:
    """With its address."""
    port = free_port()
    done = redis_desk.run("list", BROKER_URL=f"{scheme}://127.0.0.1:{port}/0")
    assert done.returncode == 3
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_strangers_message_is_listed_shown_and_dropped(desk: Desk) -> None:
    """Without our headers its reason is unknown, and it cannot be replayed."""
    desk.bury(Message(b"who am i", "text/plain", headers={"reason": 7, "original": "junk"}))
    (letter,) = desk.listed()["letters"]
    assert (letter["reason"], letter["queue"], letter["bytes"]) == ("unknown", None, 8)
    assert desk.run("show", letter["id"]).stdout.endswith("\n\nwho am i\n\n")
    assert "does not say which queue" in desk.run("replay", letter["id"], "--yes").stderr
    assert json.loads(desk.run("purge", letter["id"], "--yes").stdout) == {"purged": 1}


def test_what_rabbitmq_set_aside_itself_is_replayed_to_where_it_died(
    rabbit_server: RabbitServer, tmp_path: Path, valkey: ValkeyServer, model: Any, prefix: str
) -> None:
    """x-death names reason and queue; the headers of the death are gone after the replay."""
    names = Names(prefix)
    policy = {"message-ttl": 1, "dead-letter-exchange": "", "dead-letter-routing-key": names.dead}
    rabbit_server.ctl(
        "set_policy", prefix, f"^{prefix}\\.requests$", json.dumps(policy), "--apply-to", "queues"
    )
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    desk = Desk(rig, tmp_path)
    desk.broker.send(names.requests, [Message(b'{"payload":1}', correlation_id="c", headers={"mine": 1})])
    until(lambda: desk.waiting() == 1, what="RabbitMQ's own dead letter")
    (letter,) = desk.listed()["letters"]
    assert (letter["reason"], letter["queue"]) == ("broker:expired", names.requests)
    assert time.time() - letter["dead_at"] < 3600
    rabbit_server.ctl("clear_policy", prefix)
    assert desk.run("replay", "--reason", "broker:expired", "--yes").returncode == 0
    (got,) = desk.got(names.requests)
    assert (got.body, got.correlation_id, got.headers) == (b'{"payload":1}', "c", {"mine": 1})
    desk.broker.close()
    rig.close()


def test_looking_often_wears_no_letter_out(rabbit_server: RabbitServer, prefix: str) -> None:
    """RabbitMQ counts every look; with its limit set, as from 4.0 on it is by itself, nothing is dropped."""
    names = Names(prefix)
    rabbit_server.ctl("set_policy", prefix, f"^{prefix}\\.dead$", '{"delivery-limit":20}')
    broker = open_broker(rabbit_server.url(), names)
    broker.connect()
    broker.send(names.dead, [dead_letter(Message(b"%d" % n), FAILED, 1.0 + n) for n in range(5)])
    seen: list[str] = []
    for _ in range(45):
        until(lambda: broker.depth()[names.dead] == 5, what="all letters")
        seen.clear()
        Letters(broker, names).walk(lambda letter: seen.append(letter.id))
        assert len(set(seen)) == len(seen) == 5
    rabbit_server.ctl("clear_policy", prefix)
    broker.close()


def test_a_replay_that_is_killed_loses_nothing(
    rabbit_server: RabbitServer, tmp_path: Path, valkey: ValkeyServer, model: Any, prefix: str
) -> None:
    """Every letter is still one, or its request is sent, or both."""
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    desk = Desk(rig, tmp_path)
    desk.fail(400)
    with start(tmp_path, "worker", "dead", "replay", "--all", "--yes", settings=rig.settings) as child:
        until(lambda: desk.waiting(desk.names.requests) > 5, what="the first requests")
        child.kill()
    until(lambda: desk.waiting() + desk.waiting(desk.names.requests) >= 400, what="everything back")
    requests = desk.got(desk.names.requests, desk.waiting(desk.names.requests))
    letters = desk.got(desk.names.dead, desk.waiting()) if desk.waiting() else []
    assert len({message.body for message in [*requests, *letters]}) == 400
    assert {message.headers.get("reason") for message in letters} <= {FAILED}
    desk.broker.close()
    rig.close()
