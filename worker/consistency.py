"""What settings and servers must be for a worker to start: asked once, before anything is received."""

import redis

from broker.base import BrokerError
from worker.logs import Log
from worker.queue_audit import audit_queue
from worker.settings import Settings
from worker.timeline import timeline


class Refused(ValueError):
    """Settings and servers, each right by itself, that would lose messages together; with hints."""


def check_at_start(settings: Settings, log: Log) -> None:
    """Refuse what must lose messages, and say the rest. Raises Refused.

    A broker that is not there is left to the loop, which waits for it.
    """
    lines = timeline(settings)
    try:
        lines += audit_queue(settings)
    except (redis.RedisError, OSError, BrokerError, ValueError, TypeError) as error:
        log.warning("queue audit", asked=False, error=str(error))
    refused = [f"{said}\n  hint: {hint}" for verdict, _, said, hint in lines if verdict == "fail"]
    if refused:
        raise Refused("\nerror: ".join(refused))
    for verdict, what, said, hint in lines:
        event = f"{what} audit"
        if verdict == "warn":
            log.warning(event, wrong=said, hint=hint)
        else:
            log.info(event, wrong=None, said=said)
