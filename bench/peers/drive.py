"""Sends to a peer's worker, in the peers' environment: `python -m bench.peers.drive MODULE ACTION …`.

Prints one JSON object. `fill`: seconds until so many requests are enqueued. `ask`: seconds of each of so
many requests, one in flight at a time. `remember`: writes the entries, as the task would.
"""

import argparse
import importlib
import json
import time
from typing import Any

import orjson
import redis

from bench.payloads import KEYS, analyse, payload
from bench.peers.common import CACHE_URL, REPLIES, TTL_SECONDS, cache_key

_REPLY_SECONDS = 30


def main() -> None:
    """One command."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.drive", description=__doc__)
    parser.add_argument("module")
    parser.add_argument("action", choices=["fill", "ask", "remember"])
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    options = parser.parse_args()
    if options.action == "remember":
        _remember(options)
        return
    module: Any = importlib.import_module(options.module)
    send = module.sender() if hasattr(module, "sender") else module.send
    requests = [
        {"id": f"{number:032x}", "payload": payload(number % KEYS, options.size)}
        for number in range(options.count)
    ]
    if options.action == "fill":
        send(requests[:1])  # connects
        begun = time.perf_counter()
        send(requests[1:])
        print(json.dumps({"seconds": time.perf_counter() - begun, "count": options.count - 1}))
    else:
        print(json.dumps({"seconds": [_ask(send, request) for request in requests]}))


def _remember(options: argparse.Namespace) -> None:
    for number in range(options.count):
        known = payload(number, options.size)
        _client().setex(cache_key(known), TTL_SECONDS, orjson.dumps(analyse(known)))
    print(json.dumps({"count": options.count}))


def _ask(send: Any, request: dict[str, Any]) -> float:
    begun = time.perf_counter()
    send([request])
    if _client().blpop([REPLIES], _REPLY_SECONDS) is None:
        raise SystemExit(f"no reply within {_REPLY_SECONDS} s")
    return time.perf_counter() - begun


def _client(cached: list["redis.Redis"] = []) -> "redis.Redis":  # noqa: B006
    if not cached:
        cached.append(redis.Redis.from_url(CACHE_URL))
    return cached[0]


if __name__ == "__main__":
    main()
