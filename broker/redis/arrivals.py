"""Receiving: what is there, and what comes while one waits."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from redis.exceptions import NoScriptError

from broker.base import BrokerLost, Message
from broker.redis.address import Address
from broker.redis.caller import Caller
from broker.redis.claims import Claims, share_of
from broker.redis.inbox import Inbox
from broker.redis.waiter import SLICE_SECONDS, Wait, Waiter


class Arrivals:
    """Takes from shared queues by claims, and from private ones by popping.

    A queue that gave less than it was asked for is empty, and is waited for without asking again. A question
    stands until it is answered, also when its user has stopped waiting; `asks_more_than` says whether it may
    take what its user has no room for by now. `finish` awaits the end of what is under way, and says whether
    anything was.
    """

    def __init__(
        self,
        address: Address,
        timeout: float,
        claims: Claims,
        inbox: Inbox,
        caller: Caller,
        waiter: Waiter,
        finish: Callable[[], bool],
    ) -> None:
        self._address, self._timeout = address, timeout
        self._claims, self._inbox, self._caller, self._waiter = claims, inbox, caller, waiter
        self._finish = finish
        self._waits: dict[str, Wait] = {}
        self._empty: set[str] = set()

    def receive(
        self, credit: Mapping[str, int], timeout: float, ahead: Sequence[Message] = ()
    ) -> list[Message]:
        """What is there within the credit, or comes first; or, where something was claimed `ahead` of one
        queue, that, and what is there of the others. Raises BrokerLost."""
        if ahead:
            return self._besides(ahead, credit)
        end, left = time.monotonic() + timeout, timeout
        if left > 0 and len(credit) > 1:  # else one that always gives would keep us from the others
            self._ask_of_empty(credit)
        while True:
            messages = _gathered(self._there(credit, at_once=left <= 0))
            if messages or left <= 0:
                return messages
            messages, woken = self._come(credit, min(left, SLICE_SECONDS))
            if messages or woken:
                return messages
            left = end - time.monotonic()

    def asks_more_than(self, credit: Mapping[str, int]) -> bool:
        """Whether a claim that waits could take more than this."""
        asked = [(queue, wait.question.most) for queue, wait in self._waits.items() if wait.question]
        return any(most > credit.get(queue, 0) for queue, most in asked if queue not in self._inbox)

    def stop_claims(self) -> None:
        """Hang up on shared queues. What is claimed by these questions all the same, a join has to find."""
        for queue, wait in self._waits.items():
            if queue not in self._inbox:
                wait.close()

    def forget(self) -> None:
        """Hang up on all: nothing is known any more."""
        for wait in self._waits.values():
            wait.close()
        self._waits.clear()
        self._empty.clear()

    def _besides(self, ahead: Sequence[Message], credit: Mapping[str, int]) -> list[Message]:
        others = {queue: most for queue, most in credit.items() if queue != ahead[0].queue}
        found: list[Message] = []
        if others:
            with contextlib.suppress(BrokerLost):  # `ahead` is in the books, and must reach its user
                self._ask_of_empty(others)
                found = _gathered(self._there(others, at_once=False))
        return [*found, *ahead]

    def _ask_of_empty(self, credit: Mapping[str, int]) -> None:
        for queue, most in credit.items():
            if queue in self._empty and not self._is_asked(queue):
                self._ask(queue, most)

    def _there(self, credit: Mapping[str, int], *, at_once: bool) -> Iterator[list[Message]]:
        """What is there, of queues that are not known to be empty; with `at_once`, of all."""
        shared: dict[str, int] = {}
        for queue, most in credit.items():
            is_private = queue in self._inbox
            if is_private and (kept := self._inbox.kept(queue, most)):
                yield kept
                continue
            if self._is_asked(queue) and self._waits[queue].has_answer():
                yield self._answered(queue, most)
            if self._is_taken_from(queue):
                if at_once:
                    yield self._answered_by_now(queue, most)
            elif at_once or queue not in self._empty:
                if is_private:
                    yield self._popped(queue, most)
                else:
                    shared[queue] = most
        if shared:
            yield self._claimed(shared)
        elif not credit:
            with self._caller.asking():
                pass

    def _come(self, credit: Mapping[str, int], seconds: float) -> tuple[list[Message], bool]:
        """What comes to queues that are empty, and whether the wait was ended: by a wake, or because there is
        something to report of what was under way. Nothing is any more while one waits."""
        for queue, most in credit.items():
            if not self._is_asked(queue):
                self._ask(queue, most)
        asked = {queue: self._waits[queue] for queue in credit if self._is_asked(queue)}
        has_news = self._finish()
        ready, woken = self._waiter.wait(asked, 0.0 if has_news else seconds)
        if not ready:
            self._see_that_none_is_overdue(asked.values())
        return _gathered(self._answered(queue, credit[queue]) for queue in ready), woken or has_news

    def _see_that_none_is_overdue(self, waits: Iterable[Wait]) -> None:
        with self._caller.asking():
            if any(wait.is_overdue for wait in waits):
                raise TimeoutError("no answer on the connection that waits")

    def _popped(self, queue: str, most: int) -> list[Message]:
        messages = self._inbox.take(queue, most)
        self._learn(queue, most, len(messages))
        return messages

    def _claimed(self, credit: Mapping[str, int]) -> list[Message]:
        messages = self._claims.take(credit)
        counts = Counter(message.queue for message in messages)
        for queue, most in credit.items():
            self._learn(queue, share_of(most), counts[queue])
        return messages

    def _learn(self, queue: str, asked: int, found: int) -> None:
        (self._empty.add if found < asked else self._empty.discard)(queue)

    def _is_asked(self, queue: str) -> bool:
        return queue in self._waits and self._waits[queue].question is not None

    def _is_taken_from(self, queue: str) -> bool:
        question = self._waits[queue].question if queue in self._waits else None
        return question is not None and question.most > 0

    def _ask(self, queue: str, most: int) -> None:
        """Ask, where that is possible; elsewhere a look at the queue now and then has to do."""
        if queue not in self._waits:
            self._waits[queue] = Wait(self._address, self._timeout)
        wait = self._waits[queue]
        if not wait.opened():
            self._empty.discard(queue)
            return
        question = (self._inbox if queue in self._inbox else self._claims).question(queue, most)
        with self._caller.asking():  # from here on something may be taken: an error is a lost connection
            wait.ask(question)

    def _answered(self, queue: str, most: int) -> list[Message]:
        wait = self._waits[queue]
        question = wait.question
        assert question is not None
        with self._caller.asking():
            answers = wait.answers()
            try:
                messages = question.read(answers)
            except NoScriptError:  # the server forgot it; a claim makes it known again
                messages = []
                self._empty.discard(queue)
            else:
                self._learn(queue, question.most, len(messages))
        if len(messages) > most:
            self._inbox.keep(queue, messages[most:])
        return messages[:most]

    def _answered_by_now(self, queue: str, most: int) -> list[Message]:
        with self._caller.asking() as link:
            link.ask("PING")  # whatever was there before has been taken, and is on its way
        if self._waits[queue].has_answer():
            return self._answered(queue, most)
        self._see_that_none_is_overdue([self._waits[queue]])
        return []


def _gathered(parts: Iterator[list[Message]]) -> list[Message]:
    """All of them. What the first took has to reach its user although the next fails."""
    messages: list[Message] = []
    try:
        for part in parts:
            messages += part
    except BrokerLost:
        if not messages:
            raise
    return messages
