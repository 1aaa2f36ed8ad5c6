"""The models a worker serves, as its handler sees them: names, keys, time to live, what may be kept."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from wire.errors import ErrorKind, Failure, Outcome
from wire.fields import nearest
from wire.key import KeyMaker, Selection
from wire.message import DIRECTIVES, Request
from wire.reply import encode_source

Cacheable = Callable[[bytes], bool]


class Policy(NamedTuple):
    """How long a model's results are used, and what its requests may ask for. All seconds.

    Entries are kept for `stale_max` past their time. Within it one may stand in where the model fails
    (`stale_if_error`: for how long, where a request does not say), or be given out at once while the model is
    asked again (`stale_while_revalidate`). `budget`: how long a request may wait for a model that is down.
    """

    ttl: float = 86_400.0
    ttl_bounds: tuple[float, float] = (1.0, 2_592_000.0)
    stale_max: float = 3_600.0
    stale_if_error: float = 0.0
    stale_while_revalidate: float = 0.0
    budget: float = 120.0
    directives: frozenset[str] = frozenset(DIRECTIVES)

    def ttl_for(self, asked: float | None) -> float:
        """The time to live for a request that asked for `asked` seconds, within the bounds."""
        low, high = self.ttl_bounds
        return min(max(self.ttl if asked is None else asked, low), high)

    def stale_if_error_for(self, asked: float | None) -> float:
        """How long past its time an entry may stand in, for a request that asked for `asked` seconds."""
        return min(self.stale_if_error if asked is None else asked, self.stale_max)


class Model:
    """One model's policy. Its generation is the one last seen in the cache; 0 until one is seen."""

    def __init__(
        self,
        name: str,
        version: str,
        *,
        namespace: str = "default",
        selection: Selection | None = None,
        policy: Policy | None = None,
        cacheable: Cacheable | None = None,
    ) -> None:
        self.name, self.version, self.policy = name, version, policy or Policy()
        self._namespace, self._selection = namespace, selection
        self._cacheable = cacheable
        self.takes_all = self.policy.directives >= frozenset(DIRECTIVES)
        """Whether requests may use every directive."""
        self.hit, self.hit_source = (name, Outcome.HIT), encode_source(Outcome.HIT, name, version)
        """How its hits are counted, and what their replies have in common."""
        self.generation = 0
        self.see_generation(0)

    def see_generation(self, generation: int) -> None:
        """Make keys of this generation from now on."""
        self.generation = generation
        self._keys = KeyMaker(self._namespace, self.name, self.version, generation, self._selection)
        self.key: Callable[[bytes], str] = self._keys.digest
        """The key of a canonical payload."""

    def under(self, version: str) -> "Model":
        """The same model of another version, at the same generation."""
        return self._other(version, self.generation, self._selection)

    def at(self, generation: int) -> "Model":
        """The same model at another generation."""
        return self._other(self.version, generation, self._selection)

    def leaving_out(self, fields: Sequence[str]) -> "Model":
        """The same model, whose keys these top-level fields are no part of."""
        selection = (self._selection or Selection()).without(fields)
        return self._other(self.version, self.generation, selection)

    def selection_line(self) -> str:
        """The line of its settings that says which fields decide; empty where all do."""
        tag = {} if self._selection is None else self._selection.tag()
        return "".join(f"key_{name} = {orjson.dumps(fields).decode()}" for name, fields in tag.items())

    def _other(self, version: str, generation: int, selection: Selection | None) -> "Model":
        other = Model(
            self.name,
            version,
            namespace=self._namespace,
            selection=selection,
            policy=self.policy,
            cacheable=self._cacheable,
        )
        other.see_generation(generation)
        return other

    @property
    def has_rule(self) -> bool:
        """Whether not every result is kept."""
        return self._cacheable is not None

    @property
    def selection(self) -> Selection | None:
        """Which fields decide the answer; None for all."""
        return self._selection

    def key_text(self, payload: bytes) -> bytes:
        """What is hashed, for people."""
        return self._keys.text(payload)

    def refusal_of(self, request: Request) -> Failure | None:
        """What a request is answered with that uses a directive which this model does not take."""
        allowed = self.policy.directives
        for name in request.directives():
            if name not in allowed:
                known = ", ".join(sorted(allowed)) or "none"
                said = f"model `{self.name}` takes no `{name}` from requests; it takes: {known}"
                return Failure(ErrorKind.INVALID_REQUEST, said)
        return None

    def may_keep(self, result: bytes) -> bool:
        """Whether the model's rule lets this result be remembered."""
        return self._cacheable is None or self._cacheable(result)


class Catalog:
    """All models of a worker by name."""

    def __init__(self, models: Mapping[str, Model], default: str | None = None) -> None:
        self._models = dict(models)
        default = default or (next(iter(models)) if len(models) == 1 else None)
        self._chosen: dict[str | None, Model] = {}
        self._chosen.update(models)
        if default is not None and default in models:
            self._chosen[None] = models[default]
        self.find = self._chosen.get
        """The model a request names; None where it names none that is served."""

    def models(self) -> Collection[Model]:
        """All of them."""
        return self._models.values()

    def unknown(self, name: str | None) -> Failure:
        """What a request for which none was found is answered with."""
        known = sorted(self._models)
        said = f"model is missing, and this worker serves several: {', '.join(known)}"
        if name is not None:
            said = f"model `{name[:64]}` is not served here{nearest(name, known)}"
        return Failure(ErrorKind.UNKNOWN_MODEL, said)


def field_equals(field: str, value: Any) -> Cacheable:
    """The rule `{field = …, equals = …}`: a result is kept when it is an object with that value there."""

    def rule(result: bytes) -> bool:
        found = orjson.loads(result)
        return isinstance(found, dict) and field in found and bool(found[field] == value)

    return rule


def predicate(function: Callable[[Any], Any]) -> Cacheable:
    """The rule of a Python predicate over the result. One that raises keeps nothing: a lost hit is cheap."""

    def rule(result: bytes) -> bool:
        try:
            return bool(function(orjson.loads(result)))
        except Exception:  # noqa: BLE001 - the user's code
            return False

    return rule
