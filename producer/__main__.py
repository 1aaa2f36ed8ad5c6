"""The producer's command line: `python -m producer`, or `recollect`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from broker.base import BrokerError, BrokerUnreachable
from producer.arguments import build_parser
from producer.files import Output
from producer.mapping.command import map_file, rows_of
from producer.opening import connection, directives, open_producer, say
from producer.progress import Tally
from wire.errors import InvalidRequest
from wire.values import parse

OK, SOME_FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_HTTP_PACKAGES = ("starlette", "uvicorn")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    commands = {
        "map": map_file,
        "enqueue": _enqueue,
        "collect": _collect,
        "call": _call,
        "serve": _serve,
    }
    arguments = build_parser(commands).parse_args(argv)
    try:
        return int(arguments.run_command(arguments))
    except (InvalidRequest, ValueError) as error:
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


def _enqueue(arguments: argparse.Namespace) -> int:
    tally, rows, confirmed = Tally(), rows_of(arguments), 0

    def on_sent(count: int) -> None:
        nonlocal confirmed
        confirmed = count

    with open_producer(arguments) as producer:
        try:
            count = producer.enqueue(
                rows,
                run=arguments.run,
                model=arguments.model,
                reply=not arguments.no_reply,
                whole_requests=arguments.requests,
                on_refused=lambda reply: tally.add_row(rows.row(reply)),
                on_sent=on_sent,
                priority=arguments.priority,
                rate=arguments.rate,
                queue_max=arguments.queue_max,
                **directives(arguments),
            )
        except KeyboardInterrupt:
            return _interrupted(f"after {rows.seen:,} rows were read; {confirmed:,} are enqueued for certain")
    print(f"enqueued {count:,} requests", file=sys.stderr)
    if tally.failed:
        print("\n".join([f"not sent {tally.failed:,} rows", *tally.errors_shown()]), file=sys.stderr)
    return SOME_FAILED if tally.failed else OK


def _collect(arguments: argparse.Namespace) -> int:
    tally = Tally()
    with Output(arguments.output, go_on=True) as output, open_producer(arguments) as producer:
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
    with open_producer(arguments) as producer:
        try:
            reply = producer.call(
                payload,
                model=arguments.model,
                timeout=arguments.timeout,
                priority=arguments.priority,
                **directives(arguments),
            )
        except TimeoutError as error:
            return _complain(str(error), UNREACHABLE)
    print(json.dumps(reply.as_dict(), ensure_ascii=False, indent=2))
    return OK if reply.ok else SOME_FAILED


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from producer.front.serve import serve
    except ModuleNotFoundError as error:
        if error.name not in _HTTP_PACKAGES:
            raise
        raise ValueError(f"serve needs {error.name}: pip install 'recollect[http]'") from None
    return serve(arguments, connection(arguments), say)


def _complain(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
