"""Whether the server that carries the queue can keep it. What must lose messages is refused."""

import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import redis

from broker.embedded import join
from broker.redis.address import Address
from broker.redis.link import Link
from worker.probe import Line
from worker.server_holes import Hole, known_hole
from worker.settings import Settings

_SECONDS = 3.0
_OLDEST = (6, 2)
_WAITAOF = (7, 2)
_REDIS = ("redis", "rediss", "redis+socket", "unix", "redis+sentinel", "kombu+redis")
_NOT_STRICT = ("memory", "kombu+redis")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself; None where it does not tell."""

    name: str
    version: tuple[int, ...] | None
    role: str
    policy: str
    maxmemory: int
    appends: bool
    fsync: str | None
    snapshots: bool | None
    hole: Hole | None

    @classmethod
    def of(cls, info: Mapping[str, str], config: Mapping[str, str]) -> "Server":
        """From INFO, and what CONFIG GET would tell."""
        name = "Valkey" if "valkey_version" in info else "Redis"
        shown = info.get("valkey_version", info.get("redis_version", ""))
        # Valkey goes on telling the version of Redis that it is compatible with.
        numbers = re.findall(r"\d+", info.get("redis_version", ""))
        return cls(
            f"{name} {shown}".strip(),
            tuple(int(number) for number in numbers) or None,
            info.get("role", ""),
            info.get("maxmemory_policy", ""),
            int(info.get("maxmemory", "0")),
            info.get("aof_enabled") == "1",
            config.get("appendfsync"),
            bool(config["save"]) if "save" in config else None,
            known_hole(info),
        )

    @property
    def can_wait(self) -> bool:
        """Whether it can be asked to wait for its disk (WAITAOF)."""
        return self.appends and (self.name.startswith("Valkey") or (self.version or (0,)) >= _WAITAOF)


def audit_queue(settings: Settings) -> list[Line]:
    """Lines of `check` about the server that carries the queue; none for one that cannot be asked (AMQP).

    Raises redis.RedisError, OSError or BrokerError where it is not there.
    """
    scheme = settings.broker_url.partition(":")[0]
    if settings.durability == "strict" and scheme in _NOT_STRICT:
        said = f"durability is strict, and {scheme}: cannot wait for a disk"
        return [
            ("fail", "queue", said, "broker_url redis://…, embedded: or pyamqp://…, or durability normal")
        ]
    with ExitStack() as stack:
        if scheme == "embedded":
            server = join(settings.broker_url)
            stack.callback(server.close)
            url = server.redis_url
        elif scheme in _REDIS:
            # What only kombu understands in its URL would be an error here.
            url = settings.broker_url
            url = url if scheme != "kombu+redis" else url.removeprefix("kombu+").partition("?")[0]
        else:
            return []
        link = Link(Address(url), _SECONDS)
        stack.callback(link.close)
        return judge(_ask(link), settings)


def _ask(link: Link) -> Server:
    config: dict[str, str] = {}
    info = dict(line.partition(":")[::2] for line in link.ask("INFO").decode("utf-8", "replace").splitlines())
    for name in ("appendfsync", "save"):
        # Forbidden by an ACL, or renamed away by whoever hosts it.
        with suppress(redis.ResponseError):
            found = link.ask("CONFIG", "GET", name)
            pairs = found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
            config |= {key.decode(): value.decode() for key, value in pairs}
    return Server.of(info, config)


def judge(server: Server, settings: Settings) -> list[Line]:
    """What is wrong with it, and, at the end, what its confirmations are worth."""
    found = [
        *_of_its_kind(server),
        *_of_eviction(server, allowed=settings.allow_queue_eviction),
        *(_of_strictness(server) if settings.durability == "strict" else []),
    ]
    verdict, said, hint = _worth(server, strict=settings.durability == "strict" and server.can_wait)
    return [*found, (verdict, "queue", f"{server.name}, {server.policy or 'policy unknown'}: {said}", hint)]


def _of_its_kind(server: Server) -> list[Line]:
    lines: list[Line] = []
    if server.version is not None and server.version < _OLDEST:
        hint = "Redis 6.2 or newer, or any Valkey"
        lines.append(("fail", "queue", f"{server.name} is too old to carry a queue", hint))
    if server.role == "slave":
        said = "the server is a replica: it takes no writes, or forgets them when its primary speaks"
        lines.append(("fail", "queue", said, "broker_url must be the primary's address"))
    if server.hole is not None:
        lines.append(("warn", "queue", server.hole.said, server.hole.hint))
    return lines


def _of_eviction(server: Server, *, allowed: bool) -> list[Line]:
    if not server.policy.startswith("allkeys"):
        return []
    said = f"maxmemory-policy is {server.policy}: "
    hint = "CONFIG SET maxmemory-policy volatile-lfu (or noeviction)"
    if not server.maxmemory:
        return [("warn", "queue", f"{said}with a maxmemory the server would evict queues", hint)]
    said += "the server evicts queues when its memory is full"
    if allowed:
        return [("warn", "queue", f"{said}, and allow_queue_eviction lets it", hint)]
    return [("fail", "queue", said, f"{hint}; allow_queue_eviction = true starts all the same")]


def _of_strictness(server: Server) -> list[Line]:
    if server.can_wait or (server.appends and server.fsync == "always"):
        return []
    said = "durability is strict, and the server cannot say when a write is on disk"
    if not server.appends:
        return [("fail", "queue", f"{said}: it keeps no append-only file", "CONFIG SET appendonly yes")]
    known = "cannot be read" if server.fsync is None else f"is {server.fsync}"
    hint = "CONFIG SET appendfsync always, or Redis 7.2 or any Valkey (WAITAOF)"
    return [("fail", "queue", f"{said}: appendfsync {known}", hint)]


def _worth(server: Server, *, strict: bool) -> tuple[str, str, str]:
    if not server.appends:
        hint = "CONFIG SET appendonly yes"
        if server.snapshots:
            return "warn", "snapshots only: a restart loses what came since the last one", hint
        unsure = " (whether it takes snapshots cannot be read)" if server.snapshots is None else ""
        return "warn", f"nothing is written to disk: a restart of the server loses what waits{unsure}", hint
    if server.fsync == "always" or strict:
        return "ok", "confirmed means on disk", ""
    if server.fsync == "no":
        hint = "CONFIG SET appendfsync everysec"
        return "warn", "append-only file, fsync left to the system: a power loss costs about 30 s", hint
    if server.fsync is None:
        return "ok", "append-only file; appendfsync cannot be read, its default costs 1 s on power loss", ""
    return "ok", "append-only file, fsync every second: a power loss costs at most 1 s", ""
