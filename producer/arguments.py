"""What the producer's command line takes."""

import argparse
from collections.abc import Callable, Mapping

from wire.directives import add_directives
from wire.names import PRIORITIES

Command = Callable[[argparse.Namespace], int]
_EXAMPLES = """examples:
  python -m producer map rows.jsonl -o out.jsonl --model sentiment
  python -m producer map rows.parquet -o out.parquet --payload text,lang --keep id
  cat rows.jsonl | python -m producer map - -o -
  python -m producer call '{"text":"what a day"}'
  python -m producer enqueue rows.jsonl --run nightly
  python -m producer collect --run nightly -o out.jsonl
  python -m producer serve --port 8080 --model sentiment

IN is .jsonl, .csv, .tsv or .parquet, also .gz, or - for JSON lines on standard input. Each row is a payload,
or has it in the columns of --payload; with --requests each line is a whole request (docs/contract.md).
OUT is .jsonl, .csv, .tsv or .parquet. What fails goes to OUT.errors.jsonl. After a crash, or Ctrl-C, the same
command goes on where it stopped.
broker: --broker-url > RECOLLECT_BROKER_URL, or RECOLLECT_BROKER_URL_FILE that holds it > recollect.toml
trace: the W3C traceparent in TRACEPARENT, where there is one, goes with all requests
exit codes: 0 all ok, 1 some rows failed, 2 usage, 3 the broker is unreachable, 130 interrupted"""


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is not above 0, or no number of seconds")
    return value


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser; `run_command` of what it returns is that of `commands` which was named."""
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Sends analysis requests to the workers and brings back their replies.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub = parser.add_subparsers(required=True, metavar="COMMAND")
    mapping = sub.add_parser("map", help="a reply for every row of a file")
    _add_map(mapping)
    enqueue = sub.add_parser("enqueue", help="send a file and do not wait")
    enqueue.add_argument("input", metavar="IN")
    _add_input(enqueue)
    collect = sub.add_parser("collect", help="the replies to what was enqueued")
    collect.add_argument("-o", "--output", required=True, metavar="OUT")
    collect.add_argument("--timeout", type=float, default=10.0, metavar="SECONDS", help="of silence: done")
    call = sub.add_parser("call", help="one payload, one reply")
    call.add_argument("payload", metavar="PAYLOAD", help="JSON, or - for standard input")
    call.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    serve = sub.add_parser("serve", help="answer POST /analysis over HTTP (docs/http.md)")
    _add_serve(serve)
    serve.set_defaults(run_command=commands["serve"])
    named = {"map": mapping, "enqueue": enqueue, "collect": collect, "call": call}
    for name, command in named.items():
        _add_common(command)
        command.set_defaults(run_command=commands[name])
    enqueue.add_argument("--no-reply", action="store_true", help="nobody collects: send no replies")
    for command, usual in ((mapping, "bulk"), (enqueue, "bulk"), (call, "interactive")):
        what = f"interactive is served first (default: {usual})"
        command.add_argument("--priority", choices=PRIORITIES, default=usual, help=what)
    for command in (enqueue, collect):
        command.add_argument("--run", metavar="NAME", help="keeps the replies of this run apart")
    return parser


def _add_map(mapping: argparse.ArgumentParser) -> None:
    mapping.add_argument("input", metavar="IN", help="rows, or - for JSON lines on standard input")
    mapping.add_argument("-o", "--output", required=True, metavar="OUT", help="or - for standard output")
    _add_input(mapping)
    mapping.add_argument(
        "--keep", metavar="COLUMNS", help="carried into OUT; of a table, or with --payload: all, unless named"
    )
    mapping.add_argument("--flatten", action="store_true", help="a column for each field of the results")
    mapping.add_argument("--errors", metavar="FILE", help="what fails (beside OUT: …errors.jsonl)")
    mapping.add_argument("--only-failed", metavar="ERRORS", help="send only the rows of an errors file again")
    mapping.add_argument("--restart", action="store_true", help="forget what is in OUT.partial")
    mapping.add_argument("--report", metavar="FILE", help="the summary as JSON")
    mapping.add_argument(
        "--in-flight", type=_positive, default=1000, metavar="N", help="requests ahead (1000)"
    )
    mapping.add_argument("--ordered", action="store_true", help="rows in the order of the input")
    mapping.add_argument("--progress", choices=["auto", "bar", "lines", "none"], default="auto")
    mapping.add_argument("-q", "--quiet", action="store_true", help="no progress, no summary")
    mapping.add_argument(
        "--reply-timeout", type=_seconds, default=300.0, metavar="SECONDS", help="then ask again (300)"
    )


def _add_input(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rate", type=float, metavar="N", help="at most so many rows a second")
    command.add_argument("--queue-max", type=int, metavar="N", help="send none while N messages wait")
    command.add_argument("--payload", metavar="COLUMNS", help="which make the payload: text,lang")
    command.add_argument(
        "--types", metavar="TYPES", help="of CSV columns: n:integer (or number, boolean, json),…"
    )
    command.add_argument("--requests", action="store_true", help="each line is a whole request")


def _add_serve(command: argparse.ArgumentParser) -> None:
    _add_connection(command)
    command.add_argument("--host", default="localhost", help="localhost unless given")
    command.add_argument("--port", type=int, default=8080, help="8080; 0 is any free one, and is printed")
    command.add_argument("--timeout", type=_seconds, default=60.0, metavar="SECONDS", help="of an answer")
    command.add_argument(
        "--in-flight", type=_positive, default=1000, metavar="N", help="requests at once; more get 503"
    )


def _add_connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--broker-url", metavar="URL")
    command.add_argument("--prefix")
    command.add_argument("--no-retry", action="store_true", help="give up (3) if the broker is not there")
    command.add_argument("--model", metavar="NAME")


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_connection(command)
    add_directives(command)
