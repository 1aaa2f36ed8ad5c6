"""The cache's audit at the start of a worker, in one line of its log."""

import redis

from broker.tls import REDIS, explained
from broker.urls import mask
from worker.audit import audit, same_server
from worker.logs import Log
from worker.settings import Settings


def say_audit(settings: Settings, client: "redis.Redis", log: Log) -> None:
    """Ask, and say what is wrong; a cache that cannot be asked is no reason to stop."""
    shown = mask(settings.cache_url)
    try:
        with client:
            said = audit(client, carries_queue=same_server(settings.cache_url, settings.broker_url))
    except (redis.RedisError, OSError) as error:
        log.warning("cache down", cache=shown, error=why(settings, error))
        return
    if said:
        log.warning("cache audit", cache=shown, wrong="; ".join(said))
    else:
        log.info("cache audit", cache=shown, wrong=None)


def why(settings: Settings, error: Exception) -> str:
    """What kept us from the cache, in words that name what to change."""
    return explained(error, REDIS, secure=settings.cache_url.startswith("rediss:"))
