"""The producer's command line: `python -m producer`, or `recollect`."""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from broker.base import BrokerError, BrokerUnreachable
from broker.exposure import UNVERIFIED, is_unverified
from broker.urls import mask
from producer.arguments import build_parser
from producer.client import Producer
from producer.files import Output
from producer.lines import refusal
from producer.progress import Progress, Tally
from producer.where import broker_url, settings_file
from rows.row import BadRow
from rows.source import Source, open_source
from wire.errors import InvalidRequest
from wire.message import DIRECTIVES
from wire.reply import Reply
from wire.trace import TRACEPARENT, is_traceparent
from wire.values import parse

OK, SOME_FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_WAIT_MENTIONED_SECONDS = 30.0


class _UsageError(Exception):
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    commands = {"map": _map, "enqueue": _enqueue, "collect": _collect, "call": _call}
    arguments = build_parser(commands).parse_args(argv)
    try:
        return int(arguments.run_command(arguments))
    except (_UsageError, InvalidRequest, ValueError) as error:
        return _complain(str(error), USAGE)
    except BrokerUnreachable as error:
        return _complain(f"{error}; nothing is lost: the same command again goes on", UNREACHABLE)
    except BrokerError as error:
        return _complain(str(error), USAGE)
    except BrokenPipeError:
        # The reader has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        return _complain(str(error), USAGE)
    except KeyboardInterrupt:
        return _interrupted("before anything was done")


def _map(arguments: argparse.Namespace) -> int:
    source = open_source(arguments.input)
    tally, rows = Tally(), _Rows(source)
    form = "none" if arguments.quiet else arguments.progress
    progress = Progress(sys.stderr, tally, source.count(), form)
    with Output(arguments.output) as output:
        try:
            with closing(progress), _producer(arguments, progress) as producer:
                for reply in _replies(producer, arguments, rows):
                    tally.add(reply)
                    output.write(reply)
                    progress.show()
        except KeyboardInterrupt:
            return _interrupted(f"after {tally.rows:,} rows", output)
        if tally.rows != rows.read:
            where = "" if output.partial is None else f"; they are in {output.partial}"
            return _complain(f"{tally.rows:,} replies came to {rows.read:,} rows{where}", SOME_FAILED)
        output.finish()
    return _end(tally, arguments.quiet)


def _replies(producer: Producer, arguments: argparse.Namespace, rows: "_Rows") -> Iterator[Reply]:
    replies = producer.map(
        rows,
        model=arguments.model,
        in_flight=arguments.in_flight,
        ordered=arguments.ordered,
        whole_requests=arguments.requests,
        reply_timeout=arguments.reply_timeout,
        **_directives(arguments),
    )
    return (rows.named(reply) for reply in replies)


class _Rows:
    """The payloads of the input. A row that has none becomes NaN, which fails in its place."""

    def __init__(self, source: Source) -> None:
        self._source, self._bad = source, dict[int, BadRow]()
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for index, row in enumerate(self._source.rows()):
            self.read += 1
            if isinstance(row, BadRow):
                self._bad[index] = row
                yield math.nan
            else:
                yield row.value

    def named(self, reply: Reply) -> Reply:
        """`reply`, or what is really wrong with its row."""
        bad = self._bad.pop(reply.index, None)
        return reply if bad is None else refusal(bad.problem, reply.index)


def _enqueue(arguments: argparse.Namespace) -> int:
    tally, rows, confirmed = Tally(), _Rows(open_source(arguments.input)), 0

    def on_sent(count: int) -> None:
        nonlocal confirmed
        confirmed = count

    with _producer(arguments) as producer:
        try:
            count = producer.enqueue(
                rows,
                run=arguments.run,
                model=arguments.model,
                reply=not arguments.no_reply,
                whole_requests=arguments.requests,
                on_refused=lambda reply: tally.add(rows.named(reply)),
                on_sent=on_sent,
                **_directives(arguments),
            )
        except KeyboardInterrupt:
            return _interrupted(f"after {rows.read:,} rows were read; {confirmed:,} are enqueued for certain")
    print(f"enqueued {count:,} requests", file=sys.stderr)
    if tally.failed:
        print("\n".join([f"not sent {tally.failed:,} rows", *tally.errors_shown()]), file=sys.stderr)
    return SOME_FAILED if tally.failed else OK


def _collect(arguments: argparse.Namespace) -> int:
    tally = Tally()
    with Output(arguments.output, go_on=True) as output, _producer(arguments) as producer:
        if output.left:
            print(f"{output.left:,} rows of {output.partial} stay, and more are added", file=sys.stderr)
        try:
            for reply in producer.collect(run=arguments.run, timeout=arguments.timeout):
                # Out of this process before the next is asked for: asking acknowledges it.
                output.write(reply)
                tally.add(reply)
        except KeyboardInterrupt:
            return _interrupted(f"after {tally.rows:,} rows", output)
        output.finish()
    return _end(tally, quiet=False)


def _end(tally: Tally, quiet: bool) -> int:
    if not quiet:
        print("\n".join(tally.summary()), file=sys.stderr)
    return SOME_FAILED if tally.failed else OK


def _interrupted(when: str, output: Output | None = None) -> int:
    where = "" if output is None or output.partial is None else f"; kept in {output.partial}"
    return _complain(f"interrupted {when}{where}", INTERRUPTED)


def _call(arguments: argparse.Namespace) -> int:
    text = sys.stdin.buffer.read() if arguments.payload == "-" else os.fsencode(arguments.payload)
    payload = parse(text, "PAYLOAD")
    with _producer(arguments) as producer:
        try:
            reply = producer.call(
                payload, model=arguments.model, timeout=arguments.timeout, **_directives(arguments)
            )
        except TimeoutError as error:
            return _complain(str(error), UNREACHABLE)
    print(json.dumps(reply.as_dict(), ensure_ascii=False, indent=2))
    return OK if reply.ok else SOME_FAILED


def _producer(arguments: argparse.Namespace, progress: Progress | None = None) -> Producer:
    file = settings_file()
    url = broker_url(arguments, file)
    prefix = arguments.prefix or os.environ.get("RECOLLECT_PREFIX") or file.get("prefix") or "recollect"
    durability = os.environ.get("RECOLLECT_DURABILITY") or file.get("durability") or "normal"
    if durability not in ("normal", "strict"):
        raise _UsageError(f"durability is {durability!r}; expected normal or strict")
    silent_until = 0.0

    def on_wait(error: Exception) -> None:
        nonlocal silent_until
        if time.monotonic() >= silent_until:
            silent_until = time.monotonic() + _WAIT_MENTIONED_SECONDS
            print(f"{error}; trying again (--no-retry gives up at once)", file=sys.stderr)

    if is_unverified(url):
        print(f"warning: {mask(url)}: {UNVERIFIED}", file=sys.stderr)
    producer = Producer(
        url,
        prefix=str(prefix),
        durability="strict" if durability == "strict" else "normal",
        on_wait=on_wait,
        on_idle=progress.show if progress else lambda: None,
    )
    try:
        producer.connect(retry=not arguments.no_retry)
    except BaseException:
        producer.close()
        raise
    return producer


def _directives(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name in DIRECTIVES}
    if given["deadline"] is not None:
        given["deadline"] += time.time()
    traceparent = os.environ.get("TRACEPARENT")
    if is_traceparent(traceparent):  # else it is the mistake of who started us, and no reason to stop
        given[TRACEPARENT] = traceparent
    return {name: value for name, value in given.items() if value is not None and value is not False}


def _complain(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
