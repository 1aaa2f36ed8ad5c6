"""`python -m worker cache`: why a payload is a miss, what a cache was good for, forgetting some of it."""

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.rig import Rig
from tests.support.shell import Done, Shell
from tests.support.stub_model import Answer, echo
from tests.support.waiting import until
from wire.key import KeyMaker, Selection, canonical
from worker.entry import Entry
from worker.forgetting import forget

DAY = 86_400


class Desk(Shell):
    """Where somebody asks about a cache, and fills it."""

    def cache(self, *arguments: str, stdin: str = "", **settings: str) -> Done:
        return self.run("worker", "cache", *arguments, stdin=stdin.encode(), **settings)

    def explained(self, payload: Any, **settings: str) -> dict[str, Any]:
        return dict(self.json("cache", "explain", json.dumps(payload), "--json", **settings))

    def store(
        self, payload: Any, *, age: float, ttl: float, raw: bytes | None = None, version: str = "1"
    ) -> str:
        """Have the cache remember a payload as a worker would have, some seconds ago; its key."""
        key = KeyMaker("default", "m", version).digest(canonical(payload))
        now = time.time()
        entry = Entry(key, now - age, now - age + ttl, 2000, b'"r"').encode()
        self.rig.cache.set(self.rig.names.entry("m", version, key), entry if raw is None else raw)
        return key


@pytest.fixture
def desk(
    redis_rig: Rig,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    monkeypatch.chdir(place)
    return Desk(redis_rig, monkeypatch, capsys)


def test_an_entry_is_explained_by_what_the_server_shows_of_it(desk: Desk) -> None:
    """Remembered, expired, unreadable, called for, never seen: each by its name, and a sentence."""
    key = desk.store("fresh", age=7200, ttl=DAY)
    fresh = desk.explained("fresh")
    assert (fresh["key"], fresh["is_hit"], fresh["model"], fresh["version"]) == (key, True, "m", "1")
    assert 7200 <= fresh["age_seconds"] < 7300
    assert "result" not in fresh
    text = desk.cache("explain", '"fresh"').stdout
    assert text.startswith(f"HIT    {key}")
    assert "stored 2 h" in text
    desk.store("old", age=3 * 3600, ttl=60)
    assert desk.explained("old")["reason"] == "expired"
    assert "it expired 2 h 59 min ago" in desk.cache("explain", '"old"').stdout
    desk.store("torn", age=1, ttl=DAY, raw=b"\x00")
    assert desk.explained("torn")["reason"] == "unreadable"
    unseen = desk.explained("unseen")
    assert (unseen["is_hit"], unseen["reason"]) == (False, "unseen")
    rig = desk.rig
    rig.cache.set(rig.names.flight("m", "1", unseen["key"]), "somebody")
    assert "asking the model for it now" in desk.explained("unseen")["why"]
    assert desk.explained("fresh", CACHE_URL=rig.settings["CACHE_URL"])["key"] == key
    by_key = desk.json("cache", "explain", key, "--json")
    assert (by_key["is_hit"], by_key["key"]) == (True, key)


def test_another_version_and_a_purge_are_told_as_far_as_they_can_be_known(desk: Desk) -> None:
    """An entry under another version is found there; of what a purge took nothing is left but its time."""
    desk.store("p", age=60, ttl=DAY)
    rig = desk.rig
    rig.cache.hset(rig.names.versions, json.dumps(["m", "1"]).replace(" ", ""), time.time())
    newer = desk.explained("p", MODELS__M__VERSION="2")
    assert newer["reason"] == "version"
    assert "version 1" in newer["why"]
    left = rig.cache.get(rig.names.entry("m", "1", desk.store("p", age=60, ttl=DAY)))
    assert forget(rig.cache, rig.names, "m") == 1
    gone = desk.explained("p")
    assert (gone["reason"], gone["generation"] > 10**15) == ("unseen", True)
    assert "purged (of 20" in gone["why"]
    assert left is not None
    desk.store("p", age=60, ttl=DAY)  # what a purge that was cut short left behind
    assert desk.explained("p")["reason"] == "purged"


def test_two_payloads_are_compared_as_the_key_sees_them(desk: Desk) -> None:
    """Nested differences are paths; what is not part of the key is said; the line to paste is."""
    first = {"text": "ok", "at": "11-21", "meta": {"n": [1, 2], "a.b": True}}
    second = {"text": "ok", "at": "11-20", "meta": {"n": [1, 2.0], "a.b": 1}, "extra": None}
    found = desk.json("cache", "explain", json.dumps(first), json.dumps(second), "--json")
    assert [one["path"] for one in found["differ"]] == ["at", "extra", 'meta["a.b"]', "meta.n[1]"]
    assert found["differ"][1]["first"] is None
    assert found["differ"][3] == {
        "path": "meta.n[1]", "first": "2", "second": "2.0", "field": "meta", "in_key": True,
    }  # fmt: skip
    assert (found["same"], found["same_key"]) == (["text"], False)
    assert found["hint"] == 'key_exclude = ["at","extra","meta"]'
    settings = {"MODELS__M__KEY_EXCLUDE": "at,extra,meta"}
    done = desk.cache("explain", "-", "-", stdin=f"{json.dumps(first)}\n{json.dumps(second)}\n", **settings)
    assert "these have one key" in done.stdout
    assert "(not part of the key)" in done.stdout
    assert "key_exclude =" not in done.stdout
    keys = KeyMaker("default", "m", "1", 0, Selection.of(None, ["at", "extra", "meta"]))
    assert keys.digest(canonical(first)) in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("explain", "nope"), "expected a key"),
        (("explain", '{"a":NaN}'), "expected a key"),
        (("explain", "18446744073709551616"), "64 bits"),
        (("explain", "1", "--model", "other"), "--model other: expected one of: m"),
        (("explain", "1", "--model", ""), "--model (empty): expected one of: m"),
        (("stats", "--model", "other"), "--model other: expected one of: m"),
        (("stats", "--since", "1h", "--model", "other"), "--model other: expected one of: m"),
        (("stats", "--since", "1h", "--model", ""), "--model (empty): expected one of: m"),
        (("purge", "--model", "other", "--yes"), "--model other: expected one of: m"),
        (("purge", "--model", "", "--yes"), "--model (empty): expected one of: m"),
        (("purge", "--key", "a" * 64, "--version", ""), "--version is empty"),
        (("purge", "--key", "a" * 64, "--model", ""), "--model (empty): expected one of: m"),
        (("explain", "1", "f" * 64), "expected two JSON payloads"),
        (("explain", "-", "-"), "two lines on standard input"),
        *(
            (("stats", "--since", span), "expected a span such as 90m, 24h or 7d")
            for span in ("", "24", "0h", "1w", "1.5h", "8d", "999999d", "last")
        ),
        (("purge",), "needs --model"),
        (("purge", "--model", "m", "--version", ""), "--version is empty"),
        (("purge", "--key", "abc"), "expected 64 hexadecimal digits"),
        (("purge", "--payload", "nope"), "expected a key"),
        (("purge", "--key", "a" * 64, "--model", "other"), "--model other: expected one of: m"),
        (("purge", "--model", "m"), "--yes"),
    ],
)
def test_what_cannot_be_answered_is_a_usage_error(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    """Exit 2 and what was expected; nothing is done, no traceback."""
    done = desk.cache(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_cache_was_good_for(desk: Desk) -> None:
    """Outcomes, why misses were misses, ages of hits, model hours and money, from the fleet's figures; they
    outlive the worker."""
    rig = desk.rig
    for number in range(4):
        desk.store(number, age=(30, 30, 2 * 3600, 5 * DAY)[number], ttl=9 * DAY)
    desk.store("late", age=600, ttl=60)
    worker = rig.work(MODELS__M__TTL_SECONDS=str(9 * DAY))
    assert rig.call("late").outcome == "miss"
    assert [rig.call(number).outcome for number in range(4)] == ["hit"] * 4
    rig.call("new")
    worker.stop()
    price = {"MODELS__M__PRICE_PER_MODEL_HOUR": "900"}
    found = desk.json("cache", "stats", "--since", "1h", "--json", **price)["models"]["m"]
    assert (found["requests"], found["outcomes"]) == (6, {"hit": 4, "miss": 2})
    assert found["misses"] == {"one_in": 100, "sampled": 1, "reasons": {"expired": 1}}
    shares = {row["age_seconds"]: row["share_up_to"] for row in found["hits_by_age"]}
    assert (shares[60], shares[6 * 3600], shares[3 * DAY], shares[5 * DAY + 2 * DAY]) == (0.5, 0.75, 0.75, 1)
    assert found["saved_hours"] == pytest.approx(8 / 3600)
    assert found["saved_money"] == pytest.approx(2)
    text = desk.cache("stats", "--since", "7d", **price).stdout
    assert "66.67%" in text
    assert "1 min 50%" in text
    assert "expired 100.0%" in text
    assert "about 2.00" in text


def test_a_sampled_miss_is_looked_for_under_other_versions(desk: Desk) -> None:
    """By the thread that reports: the answer does not wait for it."""
    rig = desk.rig
    rig.work().stop()
    rig.work(MODELS__M__VERSION="2").stop()
    desk.store("p", age=60, ttl=DAY, version="2")
    desk.store("q", age=60, ttl=DAY)
    rig.work(MODELS__M__VERSION="3")
    assert rig.call("q").outcome == "miss"

    def reasons() -> Any:
        return desk.json("cache", "stats", "--since", "1h", "--json")["models"]["m"]["misses"]["reasons"]

    until(lambda: reasons() == {"version": 1}, 30, "the sample")


def test_a_purge_says_how_much_and_wants_to_be_meant(desk: Desk) -> None:
    """Entries and bytes first; a dry run and a missing --yes forget nothing."""
    rig = desk.rig
    for number in range(3):
        desk.store(number, age=1, ttl=DAY)
    size = sum(len(value) for value in rig.entries().values())
    said = f"3 results ({size:,} bytes) of m"
    refused = desk.cache("purge", "--model", "m")
    assert (refused.returncode, f"forget {said}? say so with --yes" in refused.stderr) == (2, True)
    dry = desk.cache("purge", "--model", "m", "--dry-run")
    assert (dry.returncode, dry.stdout, dry.stderr) == (0, "", f"{said} would be forgotten\n")
    assert len(rig.entries()) == 3
    assert rig.cache.get(rig.names.generation("m")) is None
    assert desk.json("cache", "purge", "--model", "m", "--yes") == {"model": "m", "purged": 3}
    assert rig.entries() == {}


def test_a_model_that_is_served_no_more_can_be_asked_about_and_purged(desk: Desk) -> None:
    """It is known by its entries, or by what its workers wrote down."""
    rig = desk.rig
    rig.cache.set(rig.names.entry("left", "1", "a" * 64), b"x")
    assert desk.json("cache", "purge", "--model", "left", "--yes")["purged"] == 1
    refused = desk.cache("purge", "--model", "left", "--yes")
    assert (refused.returncode, "expected one of: m" in refused.stderr) == (2, True)
    rig.cache.hset(rig.names.versions, '["left","1"]', time.time())
    assert desk.json("cache", "purge", "--model", "left", "--yes")["purged"] == 0
    assert desk.json("cache", "stats", "--json")["entries"] == {"m": 0, "left": 0}
    assert desk.json("cache", "stats", "--since", "1h", "--json")["models"]["left"]["requests"] == 0


def test_a_key_of_another_version_is_found_there(desk: Desk) -> None:
    """A reply's key outlives the version that made it."""
    rig = desk.rig
    key = desk.store("p", age=60, ttl=DAY)
    rig.cache.hset(rig.names.versions, '["m","1"]', time.time())
    newer = {"MODELS__M__VERSION": "2"}
    found = desk.json("cache", "explain", key, "--json", **newer)
    assert (found["reason"], "remembered under version 1" in found["why"]) == ("version", True)
    done = desk.cache("purge", "--key", key, "--yes", **newer)
    assert json.loads(done.stdout) == {"model": "m", "version": "1", "key": key, "purged": 1}
    assert "stored under version 1" in done.stderr
    gone = desk.json("cache", "explain", key, "--json", **newer)
    assert gone["reason"] == "unseen"
    assert "or was remembered under other key settings (key_include, key_exclude, namespace)" in gone["why"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8_gets_what_it_can_show(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Text with what it lacks replaced, and JSON that is whole; the cache is not to blame."""
    for asked, more in (('{"\u6587":1}', ()), ('{"\u6587":2}', ("--json",))):
        written = io.BytesIO()
        terminal = io.TextIOWrapper(written, encoding, write_through=True)
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", terminal)
            done = desk.cache("explain", asked, '{"\u6587":7}', *more)
        assert (done.returncode, done.stderr) == (0, "")
        if more:
            assert json.loads(written.getvalue())["differ"][0]["field"] == "\u6587"
        else:
            assert "differ ?" in written.getvalue().decode(encoding)


def test_one_entry_is_forgotten_by_key_or_payload(desk: Desk) -> None:
    """Its neighbours stay; no generation moves."""
    rig = desk.rig
    first, second, _ = (desk.store(number, age=1, ttl=DAY) for number in range(3))
    assert desk.json("cache", "purge", "--key", first, "--yes")["purged"] == 1
    done = desk.cache("purge", "--payload", "-", "--yes", stdin="1")
    assert json.loads(done.stdout) == {"model": "m", "version": "1", "key": second, "purged": 1}
    assert "forgetting 1 result (" in done.stderr
    assert desk.json("cache", "purge", "--key", first, "--yes")["purged"] == 0
    assert len(rig.entries()) == 1
    rig.work()
    assert (rig.call(0).outcome, rig.call(2).outcome) == ("miss", "hit")


def test_a_purged_version_does_not_come_back_with_a_call_that_was_under_way(desk: Desk) -> None:
    """Other versions keep theirs; what the call brings is answered, and not found again."""
    rig = desk.rig
    kept = desk.store("kept", age=1, ttl=DAY, version="2")

    def behave(payload: Any) -> Answer:
        rig.model.released.wait(60)
        return echo(payload)

    rig.model.behave = behave
    rig.work()
    desk.store("old", age=1, ttl=DAY)
    assert rig.call("old").outcome == "hit"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(rig.call, "slow")
        until(lambda: rig.model.calls == 1, what="the call")
        assert desk.json("cache", "purge", "--model", "m", "--version", "1", "--yes") == {
            "model": "m", "version": "1", "purged": 1,
        }  # fmt: skip
        rig.model.released.set()
        assert waiting.result(60).outcome == "miss"
    assert (rig.call("slow").outcome, rig.call("old").outcome) == ("miss", "miss")
    assert rig.call("slow").outcome == "hit"
    assert any(kept.encode() in name for name in rig.entries())
    assert desk.explained("slow")["is_hit"]
