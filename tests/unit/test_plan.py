"""Counting without sending: exactly, in bounded memory; and what of a payload only seems to matter."""

import hashlib
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from wire.key import Selection, canonical
from worker.catalog import Model
from worker.fleet.figures import Figures
from worker.fleet.reader import Fleet, Step
from worker.plan.distinct import Distinct, Need
from worker.plan.speed import speed
from worker.plan.volatile import Volatile, Watcher

KEYS = 1000


def test_keys_are_counted_exactly_whether_or_not_they_fit_into_memory(tmp_path: Path, seed: int) -> None:
    """More than a place holds, in any order; a key that needs a call needs no renewal."""
    rng = random.Random(seed)
    rows: list[tuple[str, Need]] = []
    for number in range(KEYS):
        # All in one place, so that it has to be written.
        key = f"07{rng.getrandbits(248):062x}"
        rows += [(key, Need(number % 3))] * 4 + [(key, Need.NOTHING)]
        if number % 4 == 0:
            rows.append((key, Need.CALL))
    rng.shuffle(rows)
    distinct = Distinct(tmp_path)
    for key, need in rows:
        distinct.add(key, need)
    calls = {number for number in range(KEYS) if number % 3 == Need.CALL or number % 4 == 0}
    renewals = {number for number in range(KEYS) if number % 3 == Need.RENEWAL} - calls
    assert distinct.count() == (KEYS, len(calls), len(renewals))
    assert [path.name for path in tmp_path.iterdir()] == ["07"]


@pytest.mark.parametrize(
    ("needs", "calls"),
    [
        ((Need.OWN, Need.CALL, Need.CALL), 0),  # the refresh is remembered when the others come
        ((Need.CALL, Need.OWN, Need.CALL), 1),
        ((Need.UNSTORED, Need.UNSTORED), 2),
        ((Need.UNSTORED, Need.CALL, Need.UNSTORED), 2),
        ((Need.OWN, Need.UNSTORED), 0),
    ],
)
def test_a_call_counts_until_its_key_is_remembered(
    tmp_path: Path, needs: tuple[Need, ...], calls: int
) -> None:
    """In the order of the rows. Those of a row's own are counted with the rows."""
    distinct = Distinct(tmp_path)
    for need in needs:
        distinct.add("ab" * 32, need)
    assert distinct.count() == (1, calls, 0)


def judged(place: Path, rows: Iterable[Any], selection: Selection | None = None) -> Volatile | None:
    model = Model("m", "1", selection=selection)
    watcher, keys = Watcher(model, place), set[str]()
    for row in rows:
        watcher.add(canonical(row))
        keys.add(model.key(canonical(row)))
    return watcher.found(len(keys))


def test_a_field_that_tells_all_rows_apart_is_named_with_what_is_left(tmp_path: Path) -> None:
    """Also where equal rows are farther apart than the rows that are judged by."""
    found = judged(tmp_path, ({"text": n % 12_000, "at": n, "lang": "fr"} for n in range(24_000)))
    assert found == Volatile(("at",), 12_000, 10_000, 'key_exclude = ["at"]')


def test_two_fields_that_only_together_tell_rows_apart_are_both_named(tmp_path: Path) -> None:
    """Leaving out one of them alone would change nothing."""
    found = judged(tmp_path, ({"text": n % 100, "at": n, "id": -n} for n in range(1000)))
    assert found is not None
    assert (found.fields, found.distinct, found.setting) == (("at", "id"), 100, 'key_exclude = ["at","id"]')


@pytest.mark.parametrize("left", [3, 30])
def test_few_rows_that_are_left_are_named_all_the_same(tmp_path: Path, left: int) -> None:
    """A small table that is exported again and again is the common case."""
    rows = ({"text": f"one of a few {n % left}", "at": f"2026-11-21T10:00:{n:02}Z"} for n in range(10_000))
    found = judged(tmp_path, rows)
    assert found is not None
    assert (found.fields, found.distinct) == (("at",), left)


@pytest.mark.parametrize("many", [3, 4, 8])
def test_more_fields_than_two_are_named_where_it_takes_all_of_them(tmp_path: Path, many: int) -> None:
    """An export may stamp a row with a time, a number, an id and more."""
    stamps = [f"stamp{number}" for number in range(many)]
    found = judged(tmp_path, ({"text": f"row {n % 40}", **dict.fromkeys(stamps, n)} for n in range(400)))
    assert found is not None
    assert (found.fields, found.distinct) == (tuple(sorted(stamps)), 40)


@pytest.mark.parametrize(
    "made",
    [
        lambda n: n,
        lambda n: n / 7,
        lambda n: f"2026-11-21T10:00:{n / 100:09.6f}+01:00",
        lambda n: f"2026-11-21 {n // 60 % 24:02}:{n % 60:02}:{n // 1440:02}",
        lambda n: str(UUID(int=n << 64)),
        lambda n: hashlib.sha512(b"%d" % n).hexdigest(),
        lambda n: f"export-{n}",
        lambda n: None if n == 17 else n,
    ],
)
def test_numbers_times_ids_and_short_tokens_look_volatile(tmp_path: Path, made: Callable[[int], Any]) -> None:
    """Whatever there is one of for each row."""
    found = judged(tmp_path, ({"text": f"row {n % 40}", "at": made(n)} for n in range(1000)))
    assert found is not None
    assert found.fields == ("at",)


@pytest.mark.parametrize(
    "made",
    [
        lambda n: f"unique {n}",
        lambda n: f"{n}" if n else "one row of free text is enough",
        lambda n: "".join(chr(97 + n // 26**place % 26) for place in range(3)),  # words
        lambda n: f"https://pictures.example/{n}.jpg",
        lambda n: f"\u6587\u7ae0{n}",  # a language without spaces
        lambda n: f"a{'-' * 64}{n}",
        lambda n: [n],
        lambda n: {"at": n},
    ],
)
@pytest.mark.parametrize("selection", [None, Selection.of(["text", "lang"], None)])
def test_what_a_model_may_read_is_not_named(
    tmp_path: Path, made: Callable[[int], Any], selection: Selection | None
) -> None:
    """Neither alone nor as one of two: a wrong hit for every row would be the price of the advice."""
    rows = [{"text": made(n), "lang": f"l{n % 30}"} for n in range(1000)]
    assert judged(tmp_path, rows, selection) is None
    place = tmp_path / "two"
    place.mkdir()
    assert judged(place, [{**row, "at": n} for n, row in enumerate(rows)]) is None


@pytest.mark.parametrize(
    ("selection", "setting"),
    [
        (Selection.of(None, ["lang"]), 'key_exclude = ["at","lang"]'),
        (Selection.of(["text", "at"], None), 'key_include = ["text"]'),
    ],
)
def test_the_line_to_paste_keeps_what_is_set(tmp_path: Path, selection: Selection, setting: str) -> None:
    """It replaces the one that is there."""
    found = judged(tmp_path, ({"text": n % 90, "at": n, "lang": n} for n in range(900)), selection)
    assert found is not None
    assert (found.fields, found.distinct, found.setting) == (("at",), 90, setting)


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": n} for n in range(100)],  # all there is
        [{"text": n, "lang": "fr" if n % 2 else "en"} for n in range(100)],  # what is left is next to nothing
        [{"text": n % 50, "at": n % 50} for n in range(100)],  # nothing differs from row to row
        [{"text": n, "at": -n} for n in range(100)],  # either is enough
        list(range(100)),
        [{"text": n % 3, "at": n} for n in range(9)],  # too few to tell
        [],
    ],
)
def test_what_may_well_matter_is_not_named(tmp_path: Path, rows: list[Any]) -> None:
    """No advice is better than a wrong one."""
    assert judged(tmp_path, rows) is None


def test_a_field_that_is_no_part_of_the_key_is_not_named(tmp_path: Path) -> None:
    """It costs nothing."""
    rows = ({"text": n % 90, "at": n} for n in range(900))
    assert judged(tmp_path, rows, Selection.of(None, ["at"])) is None


def fleet(*minutes: Figures, slots: int = 0, now: float = 1000.0) -> Fleet:
    steps = [Step(60.0 * number, figures) for number, figures in enumerate(minutes)]
    worker = {"seen": now, "models": {"m": {"version": "1", "slots": slots, "busy": 0}}}
    return Fleet(now, steps, 60, {}, {}, {"w": worker} if slots else {}, {}, {})


def calls(count: float, *, spent: float = 0.2) -> Figures:
    return {("calls", "m", "0.25"): count, ("spent", "m"): count * spent}


def test_the_speed_is_that_of_the_fastest_minute() -> None:
    """Not what so many calls at once could do, while the model was busy: it is slower then than it looks."""
    assert speed(fleet({}), "m", takes_arrays=False) is None
    seen = speed(fleet(calls(30), calls(60), calls(30)), "m", takes_arrays=False)
    assert seen == (1.0, "the fastest minute of the last hour", None, None)
    busy = speed(fleet(calls(600), calls(30), slots=2), "m", takes_arrays=False)
    assert busy == (10.0, "the fastest minute of the last hour", None, None)


@pytest.mark.parametrize(
    ("before", "elapsed", "per_second", "source"),
    [
        ({}, 20, 15.0, "the present minute, no whole minute yet"),
        (calls(60), 20, 15.0, "the present minute"),
        (calls(1200), 20, 20.0, "the fastest minute of the last hour"),
        ({}, 0.5, 30.0, "the present minute, no whole minute yet"),  # figures of seconds before may be in it
    ],
)
def test_the_present_minute_counts_by_what_has_passed_of_it(
    before: Figures, elapsed: float, per_second: float, source: str
) -> None:
    """Who has just started a worker wants to know, too."""
    found = speed(fleet(before, calls(300), now=60 + elapsed), "m", takes_arrays=False)
    assert found is not None
    assert (found.per_second, found.source) == (per_second, source)


def test_what_an_idle_model_may_do_is_said_beside_what_it_did() -> None:
    """One that was never busy has not shown what it can; nobody knows how full arrays were."""
    idle = fleet(calls(60), calls(30), slots=8)
    assert speed(idle, "m", takes_arrays=False) == (
        1.0, "the fastest minute of the last hour", 40.0, "8 calls at once of 200 ms each",
    )  # fmt: skip
    assert speed(idle, "m", takes_arrays=True) == (1.0, "the fastest minute of the last hour", None, None)
