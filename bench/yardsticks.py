"""What the machine can do without a queue: `python -m bench.yardsticks bare|echo|swap …`. Prints JSON.

`bare`: requests/s of a loop that parses a request, hashes its payload, looks 256 up in one MGET and builds
the replies. `echo`: seconds of each round trip through two Redis lists and an echoing process. `swap`: of a
push and a pop by one process. No code of ours: what any Python program would need at the least.
"""

import argparse
import json
import time
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import orjson
import redis

from bench.payloads import KEYS, analyse, payload

_BATCH = 256
_SECONDS = 30


def main() -> None:
    """One yardstick."""
    parser = argparse.ArgumentParser(prog="python -m bench.yardsticks", description=__doc__)
    parser.add_argument("action", choices=["bare", "echo", "echo-server", "swap"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--size", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    with redis.Redis.from_url(options.url, retry=None) as client:
        if options.action == "echo-server":
            _serve(client)
        said = _bare(client, options) if options.action == "bare" else _round_trips(client, options)
    print(json.dumps(said))


def _bare(client: "redis.Redis", options: argparse.Namespace) -> dict[str, Any]:
    known = [payload(number, options.size) for number in range(KEYS)]
    bodies = [orjson.dumps({"payload": one, "id": f"{number:032x}"}) for number, one in enumerate(known)]
    head = b"%.3f %.3f\n" % (time.time(), time.time() + 86_400)
    client.mset({f"bare:{_key(one)}": head + orjson.dumps(analyse(one)) for one in known})
    batches = [[bodies[(start + n) % KEYS] for n in range(_BATCH)] for start in range(0, KEYS, _BATCH)]
    for batch in batches:
        _answer(client, batch)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < options.seconds:
        for batch in batches:
            done += len(_answer(client, batch))
    return {"rate": done / (time.perf_counter() - begun)}


def _answer(client: "redis.Redis", batch: list[bytes]) -> list[bytes]:
    requests = [orjson.loads(body) for body in batch]
    keys = [_key(request["payload"]) for request in requests]
    values: Any = client.mget([f"bare:{key}" for key in keys])
    now = time.time()
    return [
        _reply(request["id"], key, value, now)
        for request, key, value in zip(requests, keys, values, strict=True)
    ]


def _reply(request_id: str, key: str, value: bytes, now: float) -> bytes:
    """All that a reply of ours says, the remembered bytes spliced in."""
    times, _, result = value.partition(b"\n")
    created, expires = times.split()
    return (
        b'{"id":"%b","status":"ok","result":%b,"outcome":"hit","model":"m","version":"1","key":"%b",'
        b'"age_seconds":%.3f,"ttl_seconds":%.3f}'
    ) % (request_id.encode(), result, key.encode(), now - float(created), float(expires) - now)


def _key(value: Any) -> str:
    return blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=32).hexdigest()


def _round_trips(client: "redis.Redis", options: argparse.Namespace) -> dict[str, Any]:
    body = orjson.dumps({"payload": payload(0, options.size), "id": f"{0:032x}"})
    there, back = ("bare.ask", "bare.answer") if options.action == "echo" else ("bare.swap", "bare.swap")
    client.delete("bare.answer", "bare.swap")
    seconds = list(_trips(client, there, back, body, options.count + 20))[20:]
    return {"seconds": seconds}


def _trips(client: "redis.Redis", there: str, back: str, body: bytes, count: int) -> Iterator[float]:
    for _ in range(count):
        begun = time.perf_counter()
        client.lpush(there, body)
        if client.brpop([back], _SECONDS) is None:
            raise SystemExit("the echo does not answer")
        yield time.perf_counter() - begun


def _serve(client: "redis.Redis") -> None:
    client.delete("bare.ask")
    print("ready", flush=True)
    while True:
        taken: Any = client.brpop(["bare.ask"], 0)
        client.lpush("bare.answer", taken[1])


if __name__ == "__main__":
    main()
