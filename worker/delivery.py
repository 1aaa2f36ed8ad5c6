"""A received message on its way through the worker: its requests, the replies so far, its settlement."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from broker.base import JSON, NDJSON, WHOLE, Message, Outgoing, Settlement
from broker.dead import FAILED, POISON, UNDECODABLE, dead_letter
from wire.errors import ErrorKind, Failure, InvalidRequest, Outcome
from wire.fields import deadline
from wire.message import Limits, Refused, Request, decode_requests, media_type, refused
from wire.names import Names
from wire.reply import PART_HEADER, pack_replies
from wire.trace import TRACEPARENT, traceparent_in

NO_MODEL = "none"
SUSPECT_DELIVERIES = 3
How = tuple[str, Outcome]  # the model's name (NO_MODEL where none was chosen), and how the reply came about
Hit = tuple[str, float, float]  # the model's name, the model time it saved, the age of its entry (seconds)

_WAITS_SINCE, _ATTEMPTS = "waits_since", "attempts"
WAITING_HEADERS = frozenset({_WAITS_SINCE, _ATTEMPTS})
_POSITIONS = re.compile(r"\d{1,6}:\d{1,3}(,\d{1,6}:\d{1,3}){0,9999}")


class Delivery:
    """A message until it is settled. `received` is monotonic seconds.

    `outcomes` has one for each request that is answered, `failures` the model's name with each; `hits` has
    one for each that was remembered. `is_second`: it was looked up before and has waited for its
    model, `waits_since` (Unix seconds), after `attempts` by position. `found_down`: because that is down.
    `is_interactive`: it goes before others.
    """

    __slots__ = (
        "_left",
        "_replies",
        "attempts",
        "failures",
        "found_down",
        "hits",
        "is_interactive",
        "is_postponed",
        "is_second",
        "message",
        "outcomes",
        "received",
        "requests",
        "waits_since",
    )

    def __init__(self, message: Message, requests: Sequence[Request | Refused], received: float) -> None:
        self.message, self.requests, self.received = message, requests, received
        self.outcomes: list[How] = []
        self.failures: list[tuple[str, Failure]] = []
        self.hits: list[Hit] = []
        self._replies: list[bytes] = [b""] * len(requests)
        self._left = len(requests)
        self.is_second = self.is_interactive = self.is_postponed = self.found_down = False
        self.waits_since: float | None = None
        self.attempts: dict[int, int] = {}

    @property
    def is_answered(self) -> bool:
        """Whether every request has its reply, or none will have one here."""
        return self._left == 0

    @property
    def is_suspect(self) -> bool:
        """Whether it was in flight at so many deaths that it may be their cause: it runs alone."""
        return self.message.deliveries >= SUSPECT_DELIVERIES

    @property
    def traceparent(self) -> str | None:
        """That of its message, where it is of the exact form."""
        return traceparent_in(self.message.headers)

    def answer(self, position: int, reply: bytes, how: How) -> None:
        """Put the reply of the request at `position`: once each."""
        self._replies[position] = reply
        self._left -= 1
        self.outcomes.append(how)

    def postpone(self) -> None:
        """Instead of one more reply: the message goes where it waits for the model, as it came. It is looked
        up again then, so whatever is answered by now is not sent."""
        self._left -= 1
        self.is_postponed = True

    def settlement(
        self, names: Names, limits: Limits, now: float, *, dead_letter_failed: bool = False
    ) -> Settlement:
        """What is sent because of this message, once it is answered. `now` is Unix seconds."""
        message = self.message
        if self.is_postponed:
            return Settlement(message, [Outgoing(names.misses, self._postponed(now))])
        if message.problem is not None:
            letter = dead_letter(message, UNDECODABLE, now, message.problem)
            return Settlement(message, [Outgoing(names.dead, letter)])
        outgoing: list[Outgoing] = []
        if self._wants_reply():
            queue = message.reply_to
            if queue is None or not names.is_reply_queue(queue):
                queue = names.replies
            outgoing = [Outgoing(queue, reply) for reply in self._reply_messages(limits)]
        if message.blamed:
            outgoing += [Outgoing(names.dead, self._poison(position, now)) for position in message.blamed]
        elif dead_letter_failed and self.failures:
            outgoing.append(Outgoing(names.dead, dead_letter(message, FAILED, now)))
        return Settlement(message, outgoing)

    def _postponed(self, now: float) -> Message:
        message = self.message
        headers = dict(message.headers)
        if self.found_down:
            headers[_WAITS_SINCE] = now if self.waits_since is None else self.waits_since
        if self.attempts:
            headers[_ATTEMPTS] = ",".join(f"{at}:{count}" for at, count in self.attempts.items())
        return Message(message.body, message.content_type, message.correlation_id, message.reply_to, headers)

    def _wants_reply(self) -> bool:
        # Position joins request and reply, so one that wants a reply brings those of its neighbours along.
        return self.requests[0].reply or any(request.reply for request in self.requests)

    def _poison(self, position: int, now: float) -> Message:
        """The dead letter of one request: without its neighbours, which have their answers."""
        message = self.message
        if position != WHOLE and self._is_packed:
            line = message.body.split(b"\n")[position]
            message = replace(message, body=line, content_type=JSON)
        return dead_letter(message, POISON, now, f"request {position}" if position != WHOLE else "decoding")

    def _reply_messages(self, limits: Limits) -> list[Message]:
        message = self.message
        traceparent = self.traceparent
        headers = {} if traceparent is None else {TRACEPARENT: traceparent}
        if message.content_type == JSON or not self._is_packed or self.requests_unread:
            return [Message(self._replies[0], JSON, message.correlation_id, None, headers)]
        bodies = list(pack_replies(self._replies, limits.reply_max_bytes))
        if len(bodies) == 1:
            return [Message(bodies[0], NDJSON, message.correlation_id, None, headers)]
        parts = [{**headers, PART_HEADER: f"{n}/{len(bodies)}"} for n in range(1, len(bodies) + 1)]
        return [
            Message(body, NDJSON, message.correlation_id, None, part)
            for body, part in zip(bodies, parts, strict=True)
        ]

    @property
    def _is_packed(self) -> bool:
        return media_type(self.message.content_type) == NDJSON

    @property
    def requests_unread(self) -> bool:
        """Whether the message was refused as a whole: it is then answered by a single JSON reply."""
        first = self.requests[0]
        return len(self.requests) == 1 and isinstance(first, Refused) and first.whole_message


def open_delivery(message: Message, names: Names, limits: Limits, received: float) -> Delivery:
    """The delivery of a received message. An undecodable one has no requests."""
    if message.problem is not None:
        return Delivery(message, (), received)
    if WHOLE in message.blamed:
        failure = Failure(ErrorKind.POISON, "workers died of decoding this message; it is a dead letter now")
        return Delivery(message, [Refused(failure, message.correlation_id, whole_message=True)], received)
    if "compression" in message.headers:
        return Delivery(message, [refused("compressed bodies are not taken", whole_message=True)], received)
    requests = decode_requests(message.body, message.content_type, message.correlation_id, limits)
    if message.reply_to is not None and not names.is_reply_queue(message.reply_to):
        wrong = (
            f"reply_to {(message.reply_to or '')[:80]!r} is not taken; "
            f"expected {names.replies} or {names.replies}.NAME"
        )
        requests = [refused(wrong, request.id) for request in requests]
    if "deadline" in message.headers:
        requests = _by_deadline(requests, message.headers)
    delivery = Delivery(message, requests, received)
    if message.queue == names.interactive:
        delivery.is_interactive = True
    elif message.queue == names.misses:
        delivery.is_second, delivery.waits_since = True, _waits_since(message)
        delivery.attempts = _attempts(message.headers.get(_ATTEMPTS))
    return delivery


def _by_deadline(requests: Sequence[Request | Refused], headers: dict[str, Any]) -> list[Request | Refused]:
    """The requests of a message with a deadline of its own: whichever is earlier counts."""
    try:
        latest = deadline(headers)
    except InvalidRequest as error:
        return [refused(f"header {error}", request.id) for request in requests]
    return [
        request._replace(deadline=min(latest or 0.0, request.deadline or math.inf))
        if isinstance(request, Request)
        else request
        for request in requests
    ]


def _waits_since(message: Message) -> float | None:
    value = message.headers.get(_WAITS_SINCE)
    return float(value) if isinstance(value, float) and math.isfinite(value) else None


def _attempts(value: Any) -> dict[int, int]:
    if not isinstance(value, str) or _POSITIONS.fullmatch(value) is None:
        return {}
    pairs = (pair.split(":") for pair in value.split(","))
    return {int(position): int(count) for position, count in pairs}
