"""The queue of dead letters, read without taking anything: which are wanted, and what becomes of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from broker.base import Broker, Message, Outgoing, Settlement
from broker.dead import UNDECODABLE, Letter
from wire.names import Names
from worker.delivery import WAITING_HEADERS

_BATCH = (8, 256)  # messages: the first, before we know how large they are, and the most
_BATCH_BYTES = 16 << 20
_PATIENCE_SECONDS = (10.0, 0.1)  # while more is known to wait, and after that
_RELEASED_AT_ONCE = 500
# A quorum queue counts a delivery each time it gets a message back, and RabbitMQ 4 drops one at the 21st.
_WORN = 10

Visit = Callable[[Letter], Sequence[Outgoing] | None]


@dataclass(slots=True)
class Walked:
    """What a walk came by: `waiting` when it began, `read` by it, `settled`, `undeliverable` (dead again).

    `renewed` are the ids of letters that were sent to the end of the queue, where they will be met again.
    """

    waiting: int
    read: int = 0
    settled: int = 0
    undeliverable: int = 0
    renewed: Counter[str] = field(default_factory=Counter)


class Letters:
    """The dead letters of one prefix."""

    def __init__(self, broker: Broker, names: Names) -> None:
        self._broker, self._names = broker, names
        self._batch = _BATCH[0]
        self._returned = 0

    def walk(
        self, visit: Visit, *, most: int | None = None, enough: Callable[[], bool] = lambda: False
    ) -> Walked:
        """Show `visit` each letter, oldest first, at most `most`, until `enough`.

        Where it returns None the letter stays where it was; otherwise what it returns is sent and the letter
        acknowledged, in one commit. What stays is held, without its body, until the end of the walk: a queue
        has no other way to see the next one. Raises BrokerLost; closing the broker gives back what is held.
        """
        # What an earlier walk gave back is there, though a broker may take its time to count and show it.
        waiting = max(self._broker.depth().get(self._names.dead, 0), self._returned)
        walked = Walked(waiting)
        held: list[Message] = []
        while not enough() and (messages := self._next(walked, most)):
            self._broker.keep_alive()
            held += self._settle(messages, visit, walked)
        self._give_back(held)
        self._returned = len(held)
        return walked

    def _next(self, walked: Walked, most: int | None) -> list[Message]:
        credit = self._batch if most is None else min(self._batch, most - walked.read)
        if credit <= 0:
            return []
        patience = _PATIENCE_SECONDS[0 if walked.read < walked.waiting else 1]
        messages = self._broker.receive({self._names.dead: credit}, patience)
        if messages:
            largest = max(len(message.body) for message in messages)
            self._batch = max(1, min(_BATCH[1], _BATCH_BYTES // max(1, largest)))
        return messages

    def _settle(self, messages: Sequence[Message], visit: Visit, walked: Walked) -> list[Message]:
        kept, settlements, renewals = [], [], []
        for message in messages:
            letter = Letter.read(message)
            is_met_again = message.deliveries < _WORN and walked.renewed[letter.id] > 0
            walked.renewed[letter.id] -= is_met_again
            walked.read += not is_met_again
            outgoing = None if is_met_again else visit(letter)
            if outgoing is not None:
                settlements.append(Settlement(message, outgoing))
            elif message.deliveries >= _WORN and message.problem is None:
                renewals.append(Settlement(message, [Outgoing(self._names.dead, _renewed(message))]))
                walked.renewed[letter.id] += 1
            else:
                # The broker knows it by its token; what it held may be large.
                message.body, message.headers = b"", {}
                kept.append(message)
        if settlements:
            committed = self._broker.commit(settlements)
            walked.settled += len(committed.settled)
            walked.undeliverable += len(committed.undeliverable)
        if renewals:
            self._broker.commit(renewals)
        return kept

    def _give_back(self, held: list[Message]) -> None:
        """From the last to the first: each goes to the front of the queue, and none comes to us again."""
        self._broker.receive({}, 0)
        for end in range(len(held), 0, -_RELEASED_AT_ONCE):
            self._broker.keep_alive()
            self._broker.release(held[max(0, end - _RELEASED_AT_ONCE) : end])


def _renewed(message: Message) -> Message:
    headers = {name: value for name, value in message.headers.items() if name != "x-delivery-count"}
    return replace(message, headers=headers, queue="", deliveries=1, token=None)


class Found(NamedTuple):
    """A letter that is wanted, in little memory."""

    reason: str
    refusal: str | None
    asks_private: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters are meant: by id or the beginning of one, by reason, or, with neither, all."""

    ids: Sequence[str] | None = None
    reason: str | None = None


@dataclass(slots=True)
class Survey:
    """What was found: letters by id, how many bear each (copies share one), and the ids that are no use."""

    found: dict[str, Found] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def acceptable(self) -> Counter[str]:
        """The ids of what is not refused, each as often as it is there."""
        return Counter(
            {name: count for name, count in self.counts.items() if self.found[name].refusal is None}
        )

    def by_reason(self, ids: Iterable[str]) -> list[tuple[str, int]]:
        """How many of `ids` died of what, most common first."""
        reasons: Counter[str] = Counter()
        for name in ids:
            reasons[self.found[name].reason] += self.counts[name]
        return reasons.most_common()


def settle(
    letters: Letters, pending: Counter[str], settled: Callable[[Letter], Sequence[Outgoing]]
) -> Walked:
    """Settle the letters of `pending`, and none that came since it was made."""
    return letters.walk(
        lambda letter: settled(letter) if taken(pending, letter) else None, enough=lambda: not pending
    )


def taken(pending: Counter[str], letter: Letter) -> bool:
    """Whether it is one of them; it is then crossed off."""
    if letter.id not in pending:
        return False
    pending[letter.id] -= 1
    if not pending[letter.id]:
        del pending[letter.id]
    return True


def survey(letters: Letters, wanted: Wanted, refusal: Callable[[Letter], str | None]) -> Survey:
    """Find the letters that are wanted; nothing is held afterwards, so a person may think about it."""
    found = Survey()
    beginnings = {name.lower(): set[str]() for name in wanted.ids or ()}
    lengths = sorted({len(beginning) for beginning in beginnings})

    def visit(letter: Letter) -> None:
        if wanted.ids is not None:
            begun = [part for n in lengths if (part := letter.id[:n]) in beginnings]
            for part in begun:
                beginnings[part].add(letter.id)
            is_wanted = bool(begun)
        else:
            is_wanted = wanted.reason is None or letter.reason == wanted.reason
        if is_wanted:
            found.counts[letter.id] += 1
            found.found[letter.id] = Found(letter.reason, refusal(letter), _asks_private(letter))

    if wanted.ids is None or wanted.ids:
        letters.walk(visit)
        _resolve(beginnings, found)
    return found


def _resolve(beginnings: dict[str, set[str]], found: Survey) -> None:
    """Say which ids match nothing or too much, and leave the latter's letters alone."""
    meant: set[str] = set()
    for beginning, ids in beginnings.items():
        if not ids:
            found.wrong.append(f"{beginning}: no letter has this id")
        elif len(ids) > 1:
            found.wrong.append(f"{beginning}: {len(ids)} letters begin so; give more of the id")
        else:
            meant |= ids
    if beginnings:
        for name in found.found.keys() - meant:
            del found.found[name], found.counts[name]


def _asks_private(letter: Letter) -> bool:
    # recollect.replies.NAME: no prefix holds a dot.
    original = letter.original
    return original.queue.count(".") > 1 or (original.reply_to or "").count(".") > 1


def replay_refusal(letter: Letter, names: Names) -> str | None:
    """Why a letter cannot be sent back, or None: what it says of itself is a stranger's word."""
    queue = letter.original.queue
    if letter.reason == UNDECODABLE:
        return "its envelope could not be read, so what was in it cannot be sent again as it was"
    if not queue:
        return "it does not say which queue it came from"
    if queue not in names.worked and not names.is_reply_queue(queue):
        return (
            f"it says that it came from {queue[:80]!r}; "
            f"expected {', '.join(names.worked)} or a reply queue of {names.prefix}"
        )
    return None


def replayed(letter: Letter, names: Names, reply_queue: str | None) -> Outgoing:
    """The original message as it is sent back; where `reply_queue` is given, replies go to that instead. How
    long it has waited for its model, and tried it, is forgotten."""
    headers = {name: value for name, value in letter.original.headers.items() if name not in WAITING_HEADERS}
    original, queue = replace(letter.original, headers=headers), letter.original.queue
    if names.is_reply_queue(queue):
        return Outgoing(reply_queue or queue, replace(original, queue=""))
    reply_to = original.reply_to if reply_queue is None else reply_queue
    return Outgoing(queue, replace(original, reply_to=reply_to, queue=""))
