"""Recipe k1: the published vectors, and what must never share a key."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.key import KeyMaker, Selection, canonical

VECTORS = [
    (
        '{"b":1,"a":2}',
        "1",
        0,
        None,
        "79d757679fcf87551d78111f04e737662b4bd84b7506ab67c0ee5bcc707c359f",
    ),
    (
        '{"a":9,"b":1,"a":2}',
        "1",
        0,
        None,
        "79d757679fcf87551d78111f04e737662b4bd84b7506ab67c0ee5bcc707c359f",
    ),
    (
        '{"\\u0061":2,"b":1}',
        "1",
        0,
        None,
        "79d757679fcf87551d78111f04e737662b4bd84b7506ab67c0ee5bcc707c359f",
    ),
    ('{"a":2.0,"b":1}', "1", 0, None, "38cbbf54d70c6b9a9ef16a9aa040e2e9b523b26353e0d2e056ff5b17e082add4"),
    ('{"t":"caf\\u00e9"}', "1", 0, None, "ca355bad5b0a23fde816ec99b43c4b6549f7990a4ad95c18d906aa589c6e21b8"),
    ('{"t":"cafe\\u0301"}', "1", 0, None, "8b0e19552af1fc0e7c9746a06a3109a5fd48b160fd546f740ee5299feeb68545"),
    (
        '{"id":9007199254740993}',
        "1",
        0,
        None,
        "a172a60c6dbe01dda75f78c775996cd1c30fa794f837cc8d29fe944859fadcb9",
    ),
    (
        '{"id":9007199254740992}',
        "1",
        0,
        None,
        "620ce51258852e4ba9d7df12eaeddc9c9419393091c017a355ef2dcb9bed1785",
    ),
    ('{"x":0}', "1", 0, None, "13694e81d65a1b6ab042f966f19382ad53fd93e5a43c6fe9827f6d7fdd95379a"),
    ('{"x":0.0}', "1", 0, None, "80bc7573025571e8aacdb9c82d49b69537c3d0ff393727de986f3cb62c00a6f8"),
    ('{"x":-0.0}', "1", 0, None, "90389ccbb689c27c037b2618dcdf529f369ff868aac11b921e2328c7c6af9f2b"),
    ("{}", "1", 0, None, "0c6277ab5721017dde51bf9efc283da681ce092d99730af3827967ac356f6660"),
    ("null", "1", 0, None, "a7cc52f220e7b36b53332cc456a61494877f8e13c8542e02aa8360141db4a840"),
    ("{}", "2", 0, None, "c1c69e33a1a081ef563656d69c1f767b999198f1470f434ab3291ac4c7d9ba00"),
    ("{}", "1", 1, None, "407e9631d657931fcc82be861a27eb6bf92200be62c8c6929d9714d4703f6049"),
    (
        '{"lang":"fr","text":"a"}',
        "1",
        0,
        Selection.of(["text"], None),
        "67436fe78e0eb8292e21a6c4f507db78f7fcf4ab84d112fb90b32b29a6a4ed92",
    ),
]


@pytest.mark.parametrize(("payload", "version", "generation", "selection", "digest"), VECTORS)
def test_published_vectors(
    payload: str, version: str, generation: int, selection: Selection | None, digest: str
) -> None:
    """The digests of docs/contract.md, so that a producer in any language can check itself."""
    keys = KeyMaker("default", "sentiment", version, generation, selection)
    assert keys.digest(canonical(orjson.loads(payload))) == digest


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(json_values, json_values)
def test_two_payloads_share_a_key_only_if_they_are_one(one: object, other: object) -> None:
    """A wrong hit is a bug: 1 and 1.0, 0.0 and -0.0, null and absent all stay apart."""
    keys = KeyMaker("default", "m", "1")
    first, second = canonical(one), canonical(other)
    assert (keys.digest(first) == keys.digest(second)) == (first == second)


@given(json_values)
def test_member_order_does_not_matter(value: object) -> None:
    """The same object written in another order has the same key."""
    keys = KeyMaker("default", "m", "1")
    again = {"z": value, "a": 1}
    assert keys.digest(canonical({"a": 1, "z": value})) == keys.digest(canonical(again))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc", "1", 0), ("ab", "c", "1", 0)),
        (("default", "m", "11", 0), ("default", "m1", "1", 0)),
        (("default", "m", "1", 0), ("default", "m", "1", 1)),
        (("a", "m", "1", 0), ("b", "m", "1", 0)),
    ],
)
def test_fields_cannot_run_into_each_other(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    """Namespace, model, version and generation each have a place of their own."""
    assert KeyMaker(*one).digest(b"{}") != KeyMaker(*other).digest(b"{}")


def test_a_changed_selection_never_meets_old_entries() -> None:
    """Including all fields, excluding none and naming them differ, whatever is picked."""
    payload = b'{"a":1,"b":2}'
    selections = [
        None,
        Selection.of(["a", "b"], None),
        Selection.of(None, []),
        Selection.of(None, ["c"]),
        Selection.of([], None),
    ]
    digests = {KeyMaker("d", "m", "1", 0, selection).digest(payload) for selection in selections}
    assert len(digests) == len(selections)


def test_selection_ignores_order_and_repetition_of_names() -> None:
    """The same fields are the same selection."""
    assert Selection.of(["b", "a", "b"], None) == Selection.of(["a", "b"], None)


def test_payloads_that_are_no_objects_count_whole() -> None:
    """There is nothing to pick from an array."""
    selection = Selection.of(["a"], None)
    assert selection is not None
    assert selection.pick([1]) == [1]


def test_both_lists_are_refused() -> None:
    """Include and exclude together have no meaning."""
    with pytest.raises(ValueError, match="cannot both"):
        Selection.of(["a"], ["b"])
