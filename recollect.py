"""recollect: a queue and a memory in front of a slow model. `from recollect import Producer`."""

from producer.aio import AsyncProducer
from producer.client import Producer
from producer.frames import map_frame
from wire.errors import TransientError
from wire.reply import Reply

__all__ = ["AsyncProducer", "Producer", "Reply", "TransientError", "map_frame"]
