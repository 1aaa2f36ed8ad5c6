"""Looking up: the keys of a batch, and what is remembered under them."""

from collections.abc import Callable, Collection, Sequence

from wire.names import Names
from worker.cache import Cache
from worker.catalog import Catalog, Model
from worker.entry import Entry
from worker.job import Ask, Job


class Lookup:
    """Reads entries. `on_bad_entry` is told of each that cannot be read: it counts as none."""

    def __init__(
        self, catalog: Catalog, cache: Cache, names: Names, on_bad_entry: Callable[[], None]
    ) -> None:
        self._cache, self._names, self._on_bad_entry = cache, names, on_bad_entry
        self._entry_name = {m: names.entry_maker(m.name, m.version) for m in catalog.models()}

    def name(self, model: Model, key: str) -> str:
        """Where the entry of a key is."""
        return self._entry_name[model](key)

    def read(self, models: Collection[Model], asks: Sequence[Ask]) -> list[tuple[str, Entry | None]]:
        """The key of each and its entry. One MGET for generations and entries; a second one only where a
        generation has moved. Raises CacheDown."""
        keys, names = self._keys(asks)
        values = self._cache.read([*(self._names.generation(model.name) for model in models), *names])
        moved = [model for model, value in zip(models, values, strict=False) if _moved(model, value)]
        values = values[len(models) :]
        if moved:
            keys, names = self._keys(asks)
            values = self._cache.read(names)
        return [(key, self._entry(value, key)) for key, value in zip(keys, values, strict=True)]

    def read_again(self, jobs: Sequence[Job]) -> list[Entry | None]:
        """What is there by now for jobs with a key. Raises CacheDown."""
        keys = [(job.model, job.key or "") for job in jobs]
        values = self._cache.read([self.name(*pair) for pair in keys])
        return [self._entry(value, key) for value, (_, key) in zip(values, keys, strict=True)]

    def _keys(self, asks: Sequence[Ask]) -> tuple[list[str], list[str]]:
        keys = [model.key(request.payload) for _, _, request, model in asks]
        name = self._entry_name
        return keys, [name[ask[3]](key) for ask, key in zip(asks, keys, strict=True)]

    def _entry(self, stored: bytes | None, key: str) -> Entry | None:
        if stored is None:
            return None
        if (entry := Entry.found(stored, key)) is None:
            self._on_bad_entry()
        return entry


def _moved(model: Model, value: bytes | None) -> bool:
    """Whether a model's generation is another than the one last seen; it is then the one last seen."""
    generation = int(value) if value is not None and value.isdigit() and len(value) < 19 else 0
    if generation == model.generation:
        return False
    model.see_generation(generation)
    return True
