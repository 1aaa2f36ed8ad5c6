"""A fleet that grows and shrinks under load, as an autoscaler has it do."""

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest

from tests.support.ledger import Ledger
from tests.support.processes import WorkerProcess
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

SIZES = (1, 4, 2, 6, 1, 3, 1)
EACH = 1500  # requests between two changes


class Scaled:
    """Workers of which the newest go first, by SIGTERM, as orchestrators end them."""

    def __init__(self, place: Path, settings: dict[str, str]) -> None:
        self._place, self._settings = place, settings
        self._started = 0
        self.workers: list[WorkerProcess] = []
        self.leaving: list[WorkerProcess] = []

    def to(self, count: int) -> None:
        """Have so many; who leaves may still be finishing afterwards."""
        while len(self.workers) < count:
            home = self._place / f"w{self._started}"
            self.workers.append(WorkerProcess(home, ready=False, **self._settings))
            self._started += 1
        while len(self.workers) > count:
            leaver = self.workers.pop()
            until(lambda w=leaver: w.events("broker connected"), what="a start that can be ended in order")
            leaver.child.terminate()
            self.leaving.append(leaver)

    def codes(self) -> list[int]:
        """How those ended that were told to."""
        return [worker.child.wait(60) for worker in self.leaving]

    def calls(self) -> int:
        """How often the model was asked."""
        return sum(path.read_bytes().count(b"\n") for path in self._place.glob("*/calls"))

    def close(self) -> None:
        for worker in (*self.workers, *self.leaving):
            worker.stop()


@pytest.fixture
def fleet(tmp_path: Path, real_broker_url: str, valkey: ValkeyServer, prefix: str) -> Iterator[Scaled]:
    settings = {
        "BROKER_URL": real_broker_url,
        "CACHE_URL": f"redis://127.0.0.1:{valkey.port}/1",
        "PREFIX": prefix,
        "MODELS__M__TARGET": "python:tests.support.python_models:tallied",
        "MODELS__M__CONCURRENCY": "4",
    }
    with closing(Scaled(tmp_path, settings)) as scaled:
        yield scaled


def test_a_fleet_that_grows_and_shrinks_under_load_loses_nothing(
    fleet: Scaled, real_broker_url: str, prefix: str, figures: Callable[[str], None]
) -> None:
    """One reply to each request, none twice; nothing is called for twice, nor left in a queue; who is told to
    leave does so in order."""
    names = Names(prefix)
    with closing(Ledger(real_broker_url, names)) as ledger:
        packs = cycle((1, 1, 7, 1, 20))
        for size in SIZES:
            fleet.to(size)
            goal = ledger.sent + EACH
            while ledger.sent < goal:
                ledger.send([next(packs) for _ in range(8)])
                ledger.listen(0.01)
        assert ledger.settle(30) == 0
        assert (ledger.duplicates, ledger.unexpected, ledger.wrong, dict(ledger.kinds)) == (0, [], [], {})
        assert set(fleet.codes()) == {0}
        assert fleet.calls() == ledger.sent
        until(lambda: not any(ledger.depth().values()), what="empty queues")
        kind = real_broker_url.partition(":")[0]
        counts = f"requests={ledger.sent} replies={len(ledger.replies)} lost={ledger.lost}"
        figures(f"scaling: broker={kind} workers={','.join(map(str, SIZES))} {counts}")
