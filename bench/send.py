"""Sends to our own worker through the public Producer: `python -m bench.send fill|ask …`.

Prints one JSON object, as bench.peers.drive does for the peers. `fill` also says how many messages it made.
"""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

from bench.payloads import KEYS, payload
from producer.client import Producer


def main() -> None:
    """One command."""
    parser = argparse.ArgumentParser(prog="python -m bench.send", description=__doc__)
    parser.add_argument("action", choices=["fill", "ask"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--pack", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first payload")
    parser.add_argument("--keys", type=int, default=KEYS, help="distinct payloads")
    parser.add_argument("--no-reply", action="store_true")
    options = parser.parse_args()
    with Producer(options.url, prefix=options.prefix) as producer:
        print(json.dumps((_fill if options.action == "fill" else _ask)(producer, options)))


def _fill(producer: Producer, options: argparse.Namespace) -> dict[str, Any]:
    known = [payload(options.first + n, options.size) for n in range(min(options.keys, options.count))]
    requests = [known[number % len(known)] for number in range(options.count)]
    producer.connect()
    begun = time.perf_counter()
    sent = producer.enqueue(requests, pack=options.pack, reply=not options.no_reply)
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "count": sent, "messages": -(-sent // options.pack)}


def _ask(producer: Producer, options: argparse.Namespace) -> dict[str, Any]:
    producer.call(payload(0, options.size))  # connects, and makes the private reply queue
    return {"seconds": list(_asked(producer, options))}


def _asked(producer: Producer, options: argparse.Namespace) -> Iterator[float]:
    for number in range(options.count):
        asked = payload(number % options.keys, options.size)
        begun = time.perf_counter()
        producer.call(asked)
        yield time.perf_counter() - begun


if __name__ == "__main__":
    main()
