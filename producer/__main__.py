"""The producer's command line: `python -m producer`, or `recollect`."""

import argparse
import json
import math
import os
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from broker.base import BrokerError, BrokerUnreachable
from producer.client import Producer
from producer.files import BadLine, Output, count_lines, read_lines
from producer.lines import parse, refusal
from producer.progress import Progress, Tally
from wire.errors import InvalidRequest
from wire.reply import Reply

OK, SOME_FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_WAIT_MENTIONED_SECONDS = 30.0
_EXAMPLES = """examples:
  python -m producer map rows.jsonl -o out.jsonl --model sentiment
  cat rows.jsonl | python -m producer map - -o -
  python -m producer call '{"text":"what a day"}'
  python -m producer enqueue rows.jsonl --run nightly
  python -m producer collect --run nightly -o out.jsonl

IN holds one payload a line; with --requests a whole request of the contract (docs/contract.md).
broker: --broker-url > RECOLLECT_BROKER_URL > broker_url in recollect.toml
exit codes: 0 all ok, 1 some rows failed, 2 usage, 3 the broker is unreachable, 130 interrupted"""
_CHOICE = """error: no broker is set. Choose one:
    RECOLLECT_BROKER_URL=embedded:                 one machine, for trying out
    RECOLLECT_BROKER_URL=redis://host:6379/0       or pyamqp://user:password@host:5672//"""


class _UsageError(Exception):
    pass


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
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
    tally, rows = Tally(), _Rows(arguments.input)
    form = "none" if arguments.quiet else arguments.progress
    progress = Progress(sys.stderr, tally, count_lines(arguments.input), form)
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
    """The values of the input. A line that is none becomes NaN, which fails in its place."""

    def __init__(self, path: str) -> None:
        self._path, self._bad = path, dict[int, BadLine]()
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        for index, value in enumerate(read_lines(self._path)):
            self.read += 1
            if isinstance(value, BadLine):
                self._bad[index] = value
                yield math.nan
            else:
                yield value

    def named(self, reply: Reply) -> Reply:
        """`reply`, or what is really wrong with its line."""
        bad = self._bad.pop(reply.index, None)
        return reply if bad is None else refusal(bad, reply.index)


def _enqueue(arguments: argparse.Namespace) -> int:
    tally, rows = Tally(), _Rows(arguments.input)
    with _producer(arguments) as producer:
        try:
            count = producer.enqueue(
                rows,
                run=arguments.run,
                model=arguments.model,
                reply=not arguments.no_reply,
                whole_requests=arguments.requests,
                on_refused=lambda reply: tally.add(rows.named(reply)),
                **_directives(arguments),
            )
        except KeyboardInterrupt:
            return _interrupted(f"after {rows.read:,} rows were read; most of them are sent")
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
    url = arguments.broker_url or os.environ.get("RECOLLECT_BROKER_URL") or _file().get("broker_url")
    if not url:
        raise _UsageError(_CHOICE.removeprefix("error: "))
    prefix = arguments.prefix or os.environ.get("RECOLLECT_PREFIX") or _file().get("prefix") or "recollect"
    silent_until = 0.0

    def on_wait(error: Exception) -> None:
        nonlocal silent_until
        if time.monotonic() >= silent_until:
            silent_until = time.monotonic() + _WAIT_MENTIONED_SECONDS
            print(f"{error}; trying again (--no-retry gives up at once)", file=sys.stderr)

    producer = Producer(
        str(url), prefix=str(prefix), on_wait=on_wait, on_idle=progress.show if progress else lambda: None
    )
    try:
        producer.connect(retry=not arguments.no_retry)
    except BaseException:
        producer.close()
        raise
    return producer


def _file() -> dict[str, Any]:
    try:
        return tomllib.loads(Path("recollect.toml").read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _UsageError(f"recollect.toml: {error}") from None


def _directives(arguments: argparse.Namespace) -> dict[str, Any]:
    flags = {name: True for name in ("bypass", "refresh", "no_store") if getattr(arguments, name)}
    return flags if arguments.ttl is None else {**flags, "ttl": arguments.ttl}


def _complain(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Sends analysis requests to the workers and brings back their replies.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = parser.add_subparsers(required=True, metavar="COMMAND")
    mapping = sub.add_parser("map", help="a reply for every row of a file")
    mapping.add_argument("input", metavar="IN", help="JSON lines, or - for standard input")
    mapping.add_argument("-o", "--output", required=True, metavar="OUT", help="or - for standard output")
    mapping.add_argument("--in-flight", type=_positive, default=1000, metavar="N", help="requests ahead")
    mapping.add_argument("--ordered", action="store_true", help="rows in the order of the input")
    mapping.add_argument("--progress", choices=["auto", "bar", "lines", "none"], default="auto")
    mapping.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    mapping.add_argument("--reply-timeout", type=float, default=300.0, metavar="SECONDS")
    enqueue = sub.add_parser("enqueue", help="send a file and do not wait")
    enqueue.add_argument("input", metavar="IN")
    collect = sub.add_parser("collect", help="the replies to what was enqueued")
    collect.add_argument("-o", "--output", required=True, metavar="OUT")
    collect.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="of silence: done")
    call = sub.add_parser("call", help="one payload, one reply")
    call.add_argument("payload", metavar="PAYLOAD", help="JSON, or - for standard input")
    call.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    for command, function in ((mapping, _map), (enqueue, _enqueue), (collect, _collect), (call, _call)):
        _add_common(command)
        command.set_defaults(run_command=function)
    for command in (mapping, enqueue):
        command.add_argument("--requests", action="store_true", help="each line is a whole request")
    enqueue.add_argument("--no-reply", action="store_true", help="nobody collects: send no replies")
    for command in (enqueue, collect):
        command.add_argument("--run", metavar="NAME", help="keeps the replies of this run apart")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--broker-url", metavar="URL")
    command.add_argument("--prefix")
    command.add_argument("--no-retry", action="store_true", help="give up (3) if the broker is not there")
    command.add_argument("--model", metavar="NAME")
    command.add_argument("--bypass", action="store_true", help="neither read nor write the cache")
    command.add_argument("--refresh", action="store_true", help="call the model, replace the entry")
    command.add_argument("--no-store", action="store_true", help="do not remember the result")
    command.add_argument("--ttl", type=float, metavar="SECONDS", help="remember it so long")


if __name__ == "__main__":
    sys.exit(main())
