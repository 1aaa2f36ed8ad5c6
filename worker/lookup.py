"""Looking up: the keys of a batch, and what is remembered under them."""

from collections.abc import Callable, Collection, Iterable, Sequence

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
        self._generations = {m: generation_names(names, m) for m in catalog.models()}
        self.unreadable: set[str] = set()
        """The keys among those read last whose entry could not be read."""

    def name(self, model: Model, key: str) -> str:
        """Where the entry of a key is."""
        return self._entry_name[model](key)

    def read(self, models: Collection[Model], asks: Sequence[Ask]) -> list[tuple[str, Entry | None]]:
        """The key of each and its entry. One MGET for generations and entries; a second one only where a
        generation has moved. Raises CacheDown."""
        self.unreadable.clear()
        keys, names = self._keys(asks)
        generations = [name for model in models for name in self._generations[model]]
        values = self._cache.read([*generations, *names])
        moved = [model for at, model in enumerate(models) if _moved(model, values[2 * at : 2 * at + 2])]
        values = values[len(generations) :]
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
            self.unreadable.add(key)
            self._on_bad_entry()
        return entry


def generation_names(names: Names, model: Model) -> tuple[str, str]:
    """Where the generations are that count for a model: its own, and its version's."""
    return names.generation(model.name), names.generation(model.name, model.version)


def latest(generations: Iterable[bytes | None]) -> int:
    """The generation that counts; 0 where none was ever set, or is no number of ours. They are times, so a
    later purge is a larger number, whatever it was of."""
    numbers = (
        int(value) for value in generations if value is not None and value.isdigit() and len(value) < 19
    )
    return max(numbers, default=0)


def _moved(model: Model, generations: Iterable[bytes | None]) -> bool:
    """Whether a model's generation is another than the one last seen; it is then the one last seen."""
    generation = latest(generations)
    if generation == model.generation:
        return False
    model.see_generation(generation)
    return True
