"""Dead letters: what nobody could be answered for, set aside for a person."""

from dataclasses import replace

from broker.base import Message, Outgoing

UNDECODABLE = "undecodable"
UNDELIVERABLE = "undeliverable"
FAILED = "failed"
POISON = "poison"


def dead_letter(message: Message, reason: str, now: float, detail: str = "") -> Message:
    """`message` verbatim, with the reason, deliveries, time (Unix seconds) and its original properties."""
    original = {
        "queue": message.queue,
        "content_type": message.content_type,
        "correlation_id": message.correlation_id,
        "reply_to": message.reply_to,
        "headers": message.headers,
    }
    headers = {
        "reason": reason,
        "detail": detail[:500],
        "deliveries": message.deliveries,
        "dead_at": now,
        "original": original,
    }
    return Message(message.body, message.content_type, message.correlation_id, headers=headers)


def undeliverable(outgoing: Outgoing, now: float, detail: str) -> Message:
    """The dead letter of what no queue took."""
    return dead_letter(replace(outgoing.message, queue=outgoing.queue), UNDELIVERABLE, now, detail)
