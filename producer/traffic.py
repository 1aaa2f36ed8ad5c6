"""What is under way on a connection: windows that wait for their replies, boxes that collect any."""

import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from broker.base import Message
from producer.courier import Courier
from producer.lines import replies_in
from producer.window import Pack, Window
from wire.names import Names
from wire.reply import BadReply, Reply

POLL_SECONDS = 0.5
_WINDOW_MESSAGES, _BOX_MESSAGES = 64, 16


class Box:
    """Messages that came to a queue of replies and are not settled yet; they came by one `connection`."""

    def __init__(self, queue: str) -> None:
        self.queue, self.connection = queue, 0
        self.messages: deque[Message] = deque()

    @property
    def has_landed(self) -> bool:
        """Whether there is something to take."""
        return bool(self.messages)


class Wait(NamedTuple):
    """What a verb says where it can go no further: until something has landed in `place`, one more of its
    payloads is there, or so many `seconds` have passed."""

    seconds: float
    place: Window | Box | None = None


class Traffic:
    """Sends packs to the workers and lands what comes back, in whichever window or box waits for it.
    `clock` is monotonic."""

    def __init__(self, courier: Courier, names: Names, clock: Callable[[], float]) -> None:
        self._courier, self._names, self._clock = courier, names, clock
        self._windows: dict[str, Window] = {}
        self._boxes: list[Box] = []
        self._inbox: str | None = None

    @contextlib.contextmanager
    def expecting(self, stem: str, window: Window) -> Iterator[None]:
        """Meanwhile `window` gets the replies to its packs, whose ids begin with `stem`; an abandoned one has
        nothing more to ask."""
        self._windows[stem] = window
        try:
            yield
        finally:
            del self._windows[stem]

    @contextlib.contextmanager
    def collecting(self, queue: str) -> Iterator[Box]:
        """Meanwhile a box gets what comes to `queue`. What is in it at the end goes back."""
        box = Box(queue)
        self._boxes.append(box)
        try:
            yield box
        finally:
            self._boxes.remove(box)
            self.give_back(box)

    def collected(self, queue: str, timeout: float) -> Iterator[Reply | Wait]:
        """The replies that come to `queue`, until none came for `timeout` seconds."""
        self._courier.declare(queue)
        end = self._clock() + timeout
        with self.collecting(queue) as box:
            while True:
                yield Wait(max(0.0, min(POLL_SECONDS, end - self._clock())), box)
                while box.messages and box.connection == self._courier.connections:
                    yield from replies_in(box.messages[0])
                    self._courier.settle([box.messages.popleft()])
                    end = self._clock() + timeout
                self.give_back(box)
                if self._clock() >= end:
                    return

    def waiting(self) -> int:
        """How many messages wait for the workers."""
        depth = self._courier.depth()
        return sum(depth[queue] for queue in self._names.worked)

    def give_back(self, box: Box) -> None:
        """What is in it goes back to its queue."""
        messages = list(box.messages)
        box.messages.clear()
        self._courier.release(messages)

    def dispatch(self, packs: Sequence[Pack]) -> None:
        """Send, confirmed, in one go."""
        inbox = self._own_inbox()
        for queue in dict.fromkeys(pack.queue for pack in packs):
            its = [pack for pack in packs if pack.queue == queue]
            self._courier.send(queue, [pack.message(inbox, time.time()) for pack in its])
        now = self._clock()
        for pack in packs:
            pack.connection, pack.sent_at = self._courier.connections, now

    def listen(self, timeout: float) -> None:
        """Send what is not sent, or was on an earlier connection; wait for the first to come, and land it."""
        here = self._courier.connections
        packs = [pack for window in self._windows.values() for pack in window.unanswered()]
        if unsent := [pack for pack in packs if pack.connection != here]:
            self.dispatch(unsent)
        messages = self._courier.receive(self._credit(), timeout)
        ours = [message for message in messages if not self._is_boxed(message)]
        for message in ours:
            self._land(message)
        if ours:
            self._courier.settle(ours)

    def _credit(self) -> dict[str, int]:
        credit = {box.queue: _BOX_MESSAGES for box in self._boxes if not box.messages}
        if self._windows or self._inbox is not None:
            credit[self._own_inbox()] = _WINDOW_MESSAGES
        return credit

    def _is_boxed(self, message: Message) -> bool:
        """Whether it went into a box."""
        here = self._courier.connections
        for box in self._boxes:
            if box.queue == message.queue and (not box.messages or box.connection == here):
                box.messages.append(message)
                box.connection = here
                return True
        return False

    def _land(self, message: Message) -> None:
        window = self._windows.get((message.correlation_id or "").partition("-")[0])
        # A BadReply is not from a worker of this contract; the request is still unanswered.
        with contextlib.suppress(BadReply):
            if window is not None:
                window.answered(message)

    def _own_inbox(self) -> str:
        if self._inbox is None:
            self._inbox = self._names.replies_for(uuid.uuid4().hex)
            self._courier.own(self._inbox)
        return self._inbox
