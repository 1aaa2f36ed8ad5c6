"""The decision tables of docs/contract.md: the document is the specification, and every cell of it is run."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from broker.base import JSON, NDJSON, Message
from tests.unit.test_handler import Store
from wire.errors import ErrorKind, Failure
from wire.message import Limits
from wire.names import Names
from worker.calls import Answered
from worker.catalog import Catalog, Model, Policy
from worker.entry import Entry
from worker.handler import Batch, Handler

NOW = 1_000_000.0
AGES = (None, 100.0, 650.0, 750.0, None)  # of the entry in each column; its time is over at 600
_PAGE = (Path(__file__).parents[2] / "docs/contract.md").read_text()
AWAY = Failure(ErrorKind.MODEL_UNAVAILABLE, "away", 3)
REJECTED = Failure(ErrorKind.MODEL_REJECTED, "no", 1)


class Cell(NamedTuple):
    """One cell, and where it stands."""

    policy: Policy
    says: str
    column: int
    outcome: str
    marks: str
    if_it_fails: str


def _policy(title: str) -> Policy:
    windows = dict(re.findall(r"`(stale_\w+)_seconds` (\d+)", title))
    return Policy(stale_max=200.0, **{name: float(value) for name, value in windows.items()})


def cells() -> Iterator[Cell]:
    """All of them."""
    section = _PAGE.partition("### What becomes of it")[2].partition("## A reply")[0]
    policy = Policy()
    for line in section.splitlines():
        if line.startswith("**"):
            policy = _policy(line)
        if not line.startswith("| ") or line.startswith("| request says"):
            continue
        says, *columns = (part.strip() for part in line.strip("|").split("|"))
        for column, text in enumerate(columns):
            found = re.fullmatch(r"`(\w+)`(?: ([CWR]+))?(?:, `(\w+)`)?", text)
            assert found is not None, text
            yield Cell(policy, says, column, found[1], found[2] or "", found[3] or "")


def request_of(says: str) -> dict[str, Any]:
    """What a row's request says."""
    request: dict[str, Any] = {"payload": "p"}
    for name, value in re.findall(r"`(\w+)`(?: (\d+))?", says):
        request[name] = int(value) if value else True
    if "deadline" in request:
        request["deadline"] = NOW - 1
    return request


class World:
    """One worker, and a cache with the entry of the column."""

    def __init__(self, cell: Cell) -> None:
        self.store = Store()
        self.model = Model("m", "1", policy=cell.policy)
        self.handler = Handler(
            Catalog({"m": self.model}), self.store, Names(), Limits(), lambda: NOW, lambda: None, self._fault
        )
        self.name = Names().entry("m", "1", self.model.key(b'"p"'))
        age = AGES[cell.column]
        if age is not None:
            entry = Entry(self.model.key(b'"p"'), NOW - age, NOW - age + 600, 50, b'"old"')
            self.store.values[self.name] = entry.encode()
        self.before = self.store.values.get(self.name)
        self.store.broken = cell.column == len(AGES) - 1

    @staticmethod
    def _fault(error: Exception) -> None:
        raise error

    def receive(self, request: dict[str, Any], *, packed: bool) -> Batch:
        line = orjson.dumps(request)
        body = line + b'\n{"payload":"neighbour"}' if packed else line
        return self.handler.handle([Message(body, NDJSON if packed else JSON, "c")], 0.0)

    def reply(self, batch: Batch) -> dict[str, Any]:
        (delivery,) = batch.deliveries
        assert delivery.is_answered
        (out,) = delivery.settlement(Names(), Limits(), NOW).outgoing
        return dict(orjson.loads(out.message.body.splitlines()[0]))

    def was_written(self) -> bool:
        return self.store.values.get(self.name) != self.before


def run(cell: Cell, *, packed: bool, failure: Failure | None) -> tuple[dict[str, Any], World, Batch]:
    """The first request's reply, where every call ends alike."""
    world = World(cell)
    batch = world.receive(request_of(cell.says), packed=packed)
    result = b'"new"' if failure is None else None
    world.handler.finish([Answered(job, result, failure, NOW - 1, 0.05) for job in batch.calls])
    return world.reply(batch), world, batch


@pytest.mark.parametrize("packed", [False, True], ids=["single", "packed"])
def test_every_cell(packed: bool) -> None:
    """Outcome, call, write and renewal, where the model answers, fails for a while, and rejects."""
    seen = 0
    for cell in cells():
        called, renewed = "C" in cell.marks, "R" in cell.marks
        reply, world, batch = run(cell, packed=packed, failure=None)
        first = [job for job in batch.calls if job.position == 0]
        assert (reply["outcome"], bool(first)) == (cell.outcome, called), cell
        assert (len(batch.renewals), world.was_written()) == (renewed, "W" in cell.marks), cell
        old = AGES[cell.column] is not None and not called and reply["status"] == "ok"
        assert reply["result"] == ("new" if called else "old" if old else None), cell
        away, world, _ = run(cell, packed=packed, failure=AWAY)
        assert away["outcome"] == (cell.if_it_fails or cell.outcome), cell
        assert (away["result"] == "old") == (old or cell.if_it_fails == "stale"), cell
        assert not world.was_written(), cell
        rejected, _, _ = run(cell, packed=packed, failure=REJECTED)
        assert rejected["outcome"] == ("failed" if called else cell.outcome), cell
        seen += 1
    assert seen == 5 * (21 + 11 + 8), "a row that is not read is a row that is not tested"


def test_a_renewal_writes_the_entry_anew_and_answers_nobody() -> None:
    """It has the ttl of the request that set it off, and no other directive of it."""
    cell = next(cell for cell in cells() if cell.marks == "R" and cell.says == "`ttl` 60")
    world = World(cell)
    batch = world.receive({"payload": "p", "ttl": 60, "id": "x"}, packed=False)
    assert world.reply(batch)["ttl_seconds"] < 0
    (job,) = batch.renewals
    world.handler.finish([Answered(job, b'"new"', None, NOW - 1, 0.05)])
    entry = Entry.decode(world.store.values[world.name], job.key or "")
    assert (entry.body, entry.expires <= NOW + 66) == (b'"new"', True)
    assert batch.deliveries[0].outcomes == [("m", "stale")]
    failing = world.receive({"payload": "p"}, packed=False)
    assert [world.reply(failing)["outcome"], failing.renewals] == ["hit", []]


def test_what_a_model_does_not_take_is_refused_by_name() -> None:
    """Never silently ignored: neither a flag nor a number of 0."""
    policy = Policy(directives=frozenset({"ttl", "refresh"}))
    world = World(Cell(policy, "", 1, "", "", ""))
    for request, name in (({"bypass": True}, "bypass"), ({"max_age": 0}, "max_age")):
        reply = world.reply(world.receive({"payload": "p", **request}, packed=False))
        assert (reply["outcome"], reply["error"]["kind"]) == ("invalid", "invalid_request")
        assert (
            reply["error"]["message"] == f"model `m` takes no `{name}` from requests; it takes: refresh, ttl"
        )
    assert world.reply(world.receive({"payload": "p", "bypass": False}, packed=False))["outcome"] == "hit"


def test_a_deadline_of_the_message_counts_for_all_that_have_no_earlier_one() -> None:
    """And one that is no Unix time is refused, not ignored."""
    world = World(Cell(Policy(), "", 1, "", "", ""))

    def outcomes(header: Any, *requests: dict[str, Any]) -> list[str]:
        body = b"\n".join(orjson.dumps({"payload": "p", **request}) for request in requests)
        message = Message(body, NDJSON, "c", None, {"deadline": header})
        (delivery,) = world.handler.handle([message], 0.0).deliveries
        return sorted(outcome.value for _, outcome in delivery.outcomes)

    assert outcomes(NOW + 5, {}, {"deadline": NOW - 1}) == ["expired", "hit"]
    assert outcomes(NOW - 1, {}, {"deadline": NOW + 5}) == ["expired", "expired"]
    for wrong in ("soon", 1.8e12, -1, True, None, math.nan, math.inf, 10**400):
        assert outcomes(wrong, {}, {}) == ["invalid", "invalid"], wrong
