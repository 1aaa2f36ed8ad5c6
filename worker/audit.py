"""What is wrong with the server that remembers, said in one line at the start."""

from typing import Any
from urllib.parse import urlsplit

import redis

from worker.server_holes import known_hole

_CACHE_POLICY = "allkeys-lfu"


def audit(client: "redis.Redis", *, carries_queue: bool) -> list[str]:
    """What an operator should change, each with the setting to change it by; empty where all is well.

    Raises redis.RedisError or OSError where the server cannot be asked.
    """
    info: dict[str, Any] = client.info("memory")
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory", 0))
    said = []
    hole = None if carries_queue else known_hole(client.info("server"))
    if hole is not None:
        said.append(f"{hole.said}; hint: {hole.hint}")
    if carries_queue and policy.startswith("allkeys"):
        said.append(
            f"maxmemory-policy is {policy}, and the queue is on this server: it may be evicted; "
            "hint: CONFIG SET maxmemory-policy volatile-lfu, or a cache_url of its own"
        )
    if limit == 0:
        said.append(
            "maxmemory is not set: the cache grows without bound; "
            "hint: CONFIG SET maxmemory to 70-75 % of the server's memory"
        )
    elif policy == "noeviction" and not carries_queue:
        said.append(
            "maxmemory-policy is noeviction: a full cache refuses what is new; "
            f"hint: CONFIG SET maxmemory-policy {_CACHE_POLICY}"
        )
    return said


def same_server(one: str, other: str) -> bool:
    """Whether two URLs name one server: another database, user or password on it changes nothing."""
    try:
        first, second = urlsplit(one), urlsplit(other)
    except ValueError:  # neither can be asked, which is said elsewhere
        return one == other
    if not first.netloc or not second.netloc:
        return one == other
    return first.netloc.rpartition("@")[2] == second.netloc.rpartition("@")[2]
