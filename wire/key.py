"""The key of a request: recipe `k1`.

blake2b (RFC 7693; 32 bytes, personalised `recollect.k1`) over the JSON array
`["k1", namespace, model, version, generation, picked]`, keys sorted, as orjson writes it. An array is
injective: no two lists of fields can run into each other. A changed recipe is a new tag, never an edit.

Rejected: RFC 8785, which makes 1.0 into 1 and cannot tell integers above 2^53 apart. An extra miss is cheap,
a wrong hit is a bug.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

RECIPE = "k1"
_PERSON = b"recollect.k1"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which top-level fields of a payload decide the answer: only `include`, or all but `exclude`.

    Raises ValueError when both are given. A payload that is no object counts whole.
    """

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.include is not None and self.exclude is not None:
            raise ValueError("key_include and key_exclude cannot both be set")

    @classmethod
    def of(cls, include: Sequence[str] | None, exclude: Sequence[str] | None) -> "Selection | None":
        """The selection for two optional lists of names; None where neither is given."""
        if include is None and exclude is None:
            return None
        return cls(_sorted(include), _sorted(exclude))

    def without(self, names: Sequence[str]) -> "Selection":
        """This selection, but that these fields do not decide."""
        if self.include is not None:
            return Selection(tuple(name for name in self.include if name not in names))
        return Selection(exclude=_sorted([*(self.exclude or ()), *names]))

    def pick(self, payload: Any) -> Any:
        """The part of `payload` that decides the answer."""
        if not isinstance(payload, dict):
            return payload
        if self.include is not None:
            return {name: payload[name] for name in self.include if name in payload}
        return {name: value for name, value in payload.items() if name not in (self.exclude or ())}

    def tag(self) -> dict[str, list[str]]:
        """The seventh element of the array, so that a changed selection never meets old entries."""
        if self.include is not None:
            return {"include": list(self.include)}
        return {"exclude": list(self.exclude or ())}


def _sorted(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(set(names)))


class KeyMaker:
    """Makes the keys of one model at one generation.

    Takes payloads as the canonical JSON that `canonical` writes, so that a payload is written once for the
    key and for the model. The hash of the array's beginning is kept and copied for each payload.
    """

    def __init__(
        self,
        namespace: str,
        model: str,
        version: str,
        generation: int = 0,
        selection: Selection | None = None,
    ) -> None:
        self.generation = generation
        self._selection = selection
        self._head = orjson.dumps([RECIPE, namespace, model, version, generation])[:-1] + b","
        self._tail = b"]" if selection is None else b"," + canonical(selection.tag()) + b"]"
        self._begun = blake2b(self._head, digest_size=32, person=_PERSON)

    def text(self, payload: bytes) -> bytes:
        """The whole array that is hashed, for people who want to see why two keys differ."""
        return self._head + self._picked(payload) + self._tail

    def digest(self, payload: bytes) -> str:
        """The key: 64 lower-case hexadecimal digits."""
        state = self._begun.copy()
        state.update((payload if self._selection is None else self._picked(payload)) + self._tail)
        return state.hexdigest()

    def _picked(self, payload: bytes) -> bytes:
        if self._selection is None:
            return payload
        return canonical(self._selection.pick(orjson.loads(payload)))


def canonical(value: Any) -> bytes:
    """`value`, which must come from orjson.loads, as JSON with sorted keys.

    Raises TypeError where it nests deeper than orjson writes (254 levels). Values from elsewhere must not
    come here: orjson writes NaN as null.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
