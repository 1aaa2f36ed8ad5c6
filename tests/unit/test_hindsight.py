"""Why misses are misses, how payloads differ, how spans are said: what `cache` commands are made of."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base import Message
from wire.errors import Outcome
from wire.key import KeyMaker, Selection, canonical
from wire.message import Request
from wire.names import Names
from worker.catalog import Model
from worker.delivery import Delivery
from worker.differences import differences
from worker.durations import span, written
from worker.entry import Entry
from worker.fleet.misses import EVERY, MissSampler
from worker.job import Job

MODEL = Model("m", "1")
Missed = Callable[..., None]


def sampled() -> tuple[Missed, Counter[str]]:
    """A sampler without a server, and what it counted."""
    counted: Counter[str] = Counter()
    sampler = MissSampler(Names(), lambda model, reason: counted.update([f"{model} {reason}"]))

    def missed(entry: Entry | None = None, *, is_unreadable: bool = False, is_second: bool = False) -> None:
        delivery = Delivery(Message(b""), [request := Request(b"1")], 0.0)
        delivery.is_second = is_second
        job = Job((delivery, 0, request, MODEL), Outcome.MISS, "k")
        sampler.missed(job, entry, 1000.0, is_unreadable=is_unreadable)

    return missed, counted


def test_one_miss_in_a_hundred_is_looked_into() -> None:
    """The first, and every hundredth after it; one that has waited for its model is no other miss."""
    missed, counted = sampled()
    for _ in range(3 * EVERY):
        missed(is_unreadable=True)
        missed(is_unreadable=True, is_second=True)
    assert counted == {"m unreadable": 3}


def test_an_entry_that_is_of_no_use_is_expired_or_too_old_for_its_request() -> None:
    """Its soft expiry says which."""
    missed, counted = sampled()
    for expires in (999.0, 1001.0):
        missed(Entry("k", 900.0, expires, 1, b"1"))
        for _ in range(EVERY - 1):
            missed()
    assert counted == {"m expired": 1, "m too_old": 1}


_JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([1.0, 0.0, -0.0]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
_SELECTIONS = st.sampled_from([None, Selection.of(["a", "b"], None), Selection.of(None, ["a"])])


@given(_JSON, _JSON, _SELECTIONS)
def test_keys_differ_exactly_where_a_difference_is_part_of_them(
    first: Any, second: Any, selection: Selection | None
) -> None:
    """Whatever the payloads are: the explanation and the key cannot disagree."""
    keys = KeyMaker("default", "m", "1", 0, selection)
    found = differences(first, second, selection)
    assert (not found) == (canonical(first) == canonical(second))
    is_one_key = keys.digest(canonical(first)) == keys.digest(canonical(second))
    assert any(one.in_key for one in found) != is_one_key


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (2e-5, "under 1 ms"),
        (0.18, "180 ms"),
        (59.6, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (525_600, "6 d 2 h"),
    ],
)
def test_a_span_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    """As people would."""
    assert span(seconds) == said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90m", 5400),
        ("24h", 86_400),
        ("7d", 604_800),
        ("0h", None),
        ("1.5h", None),
        ("-1h", None),
        ("٣h", None),
    ],
)
def test_a_span_is_written_as_a_number_and_a_unit(text: str, seconds: int | None) -> None:
    """Anything else is none."""
    assert written(text) == seconds
