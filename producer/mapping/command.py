"""`map` on the command line: a reply for every row of a file, in a file."""

import argparse
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from producer.client import Producer
from producer.mapping.feed import Failed, Feed, keeper
from producer.mapping.plan import Plan, Wishes, plan
from producer.mapping.session import Session, opened
from producer.opening import directives, open_producer, prefix_of
from producer.progress import Progress, Tally
from producer.where import settings_file
from rows.cells import types_of
from rows.payload import names_of, picker
from wire.message import DIRECTIVES

OK, SOME_FAILED, INTERRUPTED = 0, 1, 130
_REFUSED_AT_ONCE = 8  # a refusal comes before the payload after the next is read


def map_file(arguments: argparse.Namespace) -> int:
    """Run it; the exit code. Raises ValueError, InvalidRequest, OSError, BrokerError."""
    wished = wishes_of(arguments)
    planned = plan(wished)
    tally = Tally()
    try:
        with opened(planned, _options(arguments, wished), tally.resume, restart=arguments.restart) as session:
            run = _Run(arguments, planned, session, tally)
            run.send()
            run.check()
            session.finish(tally.failed)
    except KeyboardInterrupt:
        print(f"error: interrupted after {tally.rows:,} rows{_kept(planned)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk does not say what it was that did not fit
        raise OSError(f"{error}, after {tally.rows:,} rows{_kept(planned) if tally.rows else ''}") from error
    return run.end()


def rows_of(arguments: argparse.Namespace) -> Feed:
    """The payloads of an input whose output is no file of ours. Raises ValueError, OSError."""
    payload = names_of(arguments.payload)
    wished = Wishes(arguments.input, "-", payload=payload, types=types_of(arguments.types))
    return Feed(plan(wished).source, picker(payload), recent=_REFUSED_AT_ONCE)


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """What the command line asks for. Raises ValueError."""
    payload, keep = names_of(arguments.payload), names_of(arguments.keep)
    if arguments.requests and (payload or keep):
        named = "--payload" if payload else "--keep"
        raise ValueError(f"{named} and --requests cannot both be set: a request is the whole line")
    return Wishes(
        input=arguments.input,
        output=arguments.output,
        errors=arguments.errors,
        only_failed=arguments.only_failed,
        report=arguments.report,
        payload=payload,
        keep=keep,
        types=types_of(arguments.types),
        flatten=arguments.flatten,
        ordered=arguments.ordered,
        whole_requests=arguments.requests,
    )


def _options(arguments: argparse.Namespace, wished: Wishes) -> dict[str, Any]:
    """A deadline counts from the start of each run, and is the same all the same."""
    asked = {name: getattr(arguments, name) for name in ("model", *DIRECTIVES)}
    return {**wished.fingerprint(), **asked, "prefix": prefix_of(arguments, settings_file())}


class _Run:
    """One run over a file; what an earlier one did is not done again."""

    def __init__(self, arguments: argparse.Namespace, planned: Plan, session: Session, tally: Tally) -> None:
        self._arguments, self._plan, self._session, self._tally = arguments, planned, session, tally
        wished = planned.wishes
        self._failed = Failed(wished.only_failed) if wished.only_failed else None
        keeps = keeper(wished.keep, keeps=planned.keeps and not planned.keeps_from_source)
        pick = picker(wished.payload)
        self._feed = Feed(planned.source, pick, keeps, self._wants)

    def send(self) -> None:
        """Ask for the rows that are not done, and write what comes of them."""
        total = self._plan.source.count() if self._failed is None else len(self._failed)
        form = "none" if self._arguments.quiet else self._arguments.progress
        progress = Progress(sys.stderr, self._tally, total, form)

        def on_idle() -> None:
            self._session.flush()
            progress.show()

        with closing(progress), open_producer(self._arguments, on_idle) as producer:
            for row in self._rows(producer):
                self._tally.add_row(row)
                self._session.write(row)
                progress.show()

    def _rows(self, producer: Producer) -> "map[dict[str, Any]]":
        arguments = self._arguments
        replies = producer.map(
            self._feed,
            model=arguments.model,
            in_flight=arguments.in_flight,
            ordered=bool(self._plan.wishes.fingerprint()["ordered"]),
            whole_requests=arguments.requests,
            reply_timeout=arguments.reply_timeout,
            priority=arguments.priority,
            rate=arguments.rate,
            queue_max=arguments.queue_max,
            **directives(arguments),
        )
        return map(self._feed.row, replies)

    def check(self) -> None:
        """Raises ValueError where not every row has exactly one output or error: nothing is renamed then."""
        if self._failed is not None:
            self._failed.check_all_found(self._feed.seen)
        wanted = self._feed.seen if self._failed is None else len(self._failed)
        if not wanted == self._session.done.count == self._tally.rows:
            raise ValueError(f"{self._tally.rows:,} replies came to {wanted:,} rows{_kept(self._plan)}")

    def end(self) -> int:
        """The summary and the report; the exit code."""
        tally, code = self._tally, SOME_FAILED if self._tally.failed else OK
        if not self._arguments.quiet:
            print("\n".join([*tally.summary(), *self._output()]), file=sys.stderr)
        if self._arguments.report:
            self._write_report(code)
        return code

    def _wants(self, index: int, read: Any) -> bool:
        return index not in self._session.done and (self._failed is None or self._failed.has(index, read))

    def _output(self) -> list[str]:
        tally, errors = self._tally, self._plan.errors
        if not tally.failed or errors is None:
            return []
        written = f"{self._plan.wishes.output} {tally.rows - tally.failed:,} rows"
        return [f"Output   {written} · {errors} {tally.failed:,} rows"]

    def _write_report(self, code: int) -> None:
        """The rows are there, whatever becomes of it: to fail would have them asked again."""
        try:
            Path(self._arguments.report).write_text(json.dumps(self._report(code), indent=2) + "\n", "utf-8")
        except OSError as error:
            print(f"warning: the report could not be written: {error}", file=sys.stderr)

    def _report(self, code: int) -> Mapping[str, Any]:
        wished, errors = self._plan.wishes, self._plan.errors
        files = {
            "input": wished.input,
            "output": wished.output,
            "errors": None if errors is None else str(errors),
        }
        return {**files, **self._tally.as_dict(), "exit_code": code}


def _kept(planned: Plan) -> str:
    if planned.target is None:
        return ""
    goes_on = "" if planned.source.is_stream else ": the same command goes on"
    return f"; kept in {planned.wishes.output}.partial{goes_on}"
