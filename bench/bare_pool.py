"""The miss path without a queue: urllib3 and a pool of threads. `python -m bench.bare_pool …` prints JSON."""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import urllib3

from bench.payloads import payload


def main() -> None:
    """Call the model for every payload; how long all of it took."""
    parser = argparse.ArgumentParser(prog="python -m bench.bare_pool", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    parts = urllib3.util.parse_url(options.url)
    client = urllib3.connection_from_url(options.url, maxsize=options.concurrency, block=False, retries=False)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}

    def call(body: bytes) -> bytes:
        response = client.urlopen("POST", parts.path or "/", body=body, headers=headers, timeout=30.0)
        return orjson.dumps(orjson.loads(response.data))

    bodies = [orjson.dumps(payload(options.first + number, 400)) for number in range(options.count)]
    with ThreadPoolExecutor(options.concurrency) as pool:
        list(pool.map(call, bodies[: options.concurrency]))  # opens the connections
        begun = time.perf_counter()
        answered = sum(1 for _ in pool.map(call, bodies))
        seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "count": answered}))


if __name__ == "__main__":
    main()
