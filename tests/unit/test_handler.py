"""The handler alone: what a fault of our own and a moved generation do."""

from collections.abc import Sequence

import orjson

from broker.base import NDJSON, Message
from wire.message import Limits
from wire.names import Names
from worker.audit import same_server
from worker.cache import CacheDown, Taken, Wanted, Write
from worker.calls import Answered
from worker.catalog import Catalog, Model
from worker.handler import Handler


class Store:
    """A cache in memory that counts its look-ups."""

    is_down = False

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.reads: list[int] = []
        self.broken = False

    def read(self, names: Sequence[str]) -> list[bytes | None]:
        if self.broken:
            raise CacheDown("off")
        self.reads.append(len(names))
        return [self.values.get(name) for name in names]

    def write(self, writes: Sequence[Write]) -> int:
        if self.broken:
            raise CacheDown("off")
        self.values.update({write.name: write.value for write in writes})
        return 0

    def take(self, wanted: Sequence[Wanted], token: str, seconds: float) -> list[Taken]:
        raise CacheDown("not in memory")

    def renew(self, leases: Sequence[str], token: str, seconds: float) -> None:
        raise CacheDown("not in memory")

    def give_up(self, leases: Sequence[str], token: str, seconds: float, *, failed: bool) -> None:
        raise CacheDown("not in memory")


def build(store: Store, limits: Limits | None = None) -> tuple[Handler, list[Exception]]:
    faults: list[Exception] = []
    catalog = Catalog({"m": Model("m", "1")})
    handler = Handler(
        catalog, store, Names(), limits or Limits(), lambda: 1000.0, lambda: None, faults.append
    )
    return handler, faults


def replies(handler: Handler, *bodies: bytes) -> list[dict[str, object]]:
    """Handle one packed message, let the model answer 1 to all, return the replies."""
    batch = handler.handle([Message(b"\n".join(bodies), NDJSON, "c")], 0.0)
    handler.finish([Answered(job, b"1", None, 999.0, 0.25) for job in batch.calls])
    (delivery,) = batch.deliveries
    assert delivery.is_answered
    settlement = delivery.settlement(Names(), Limits(), 1000.0)
    return [orjson.loads(line) for out in settlement.outgoing for line in out.message.body.splitlines()]


def test_a_batch_is_looked_up_at_once() -> None:
    """One read for generations and entries of many requests; a second batch finds what the first wrote."""
    store = Store()
    handler, _ = build(store)
    bodies = [b'{"payload":%d}' % n for n in range(20)]
    assert {row["outcome"] for row in replies(handler, *bodies)} == {"miss"}
    assert {row["outcome"] for row in replies(handler, *bodies)} == {"hit"}
    assert store.reads == [22, 22]


def test_a_moved_generation_is_asked_again_and_only_then() -> None:
    """The keys are rebuilt, the entries of the old generation are not found."""
    store = Store()
    handler, _ = build(store)
    replies(handler, b'{"payload":1}')
    store.values[Names().generation("m")] = b"77"
    assert replies(handler, b'{"payload":1}')[0]["outcome"] == "miss"
    assert replies(handler, b'{"payload":1}')[0]["outcome"] == "hit"
    assert store.reads == [3, 3, 1, 3]


def test_a_cache_that_is_down_is_unavailable_for_all_but_bypass() -> None:
    """bypass never asked; refresh cannot keep its promise."""
    store = Store()
    store.broken = True
    handler, _ = build(store)
    rows = replies(handler, b'{"payload":1}', b'{"payload":1,"refresh":true}', b'{"payload":1,"bypass":true}')
    assert [row["outcome"] for row in rows] == ["unavailable", "unavailable", "bypass"]
    assert all(row["status"] == "ok" for row in rows)


def test_a_fault_of_our_own_is_an_internal_error_not_a_crash() -> None:
    """The message is answered, the fault is reported with its traceback."""
    handler, faults = build(Store(), Limits(message_max_bytes="many"))  # type: ignore[arg-type]
    (row,) = replies(handler, b'{"payload":1}')
    assert row["error"] == {
        "kind": "internal",
        "message": "TypeError while decoding",
        "retryable": True,
        "attempts": 0,
    }
    assert row["outcome"] == "failed"
    assert isinstance(faults[0], TypeError)


def test_one_server_is_recognised_by_its_address() -> None:
    """Another database or password is the same server."""
    assert same_server("redis://a:1/0", "redis://:pw@a:1/5")
    assert same_server("embedded:", "embedded:")
    assert not same_server("redis://a:1/0", "redis://b:1/0")
    assert not same_server("embedded:", "redis://b:1/0")
