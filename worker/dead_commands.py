"""`python -m worker dead`: look at the dead letters, send them back, drop them."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from broker.base import Broker, BrokerError
from broker.dead import Letter
from broker.urls import mask
from wire.names import Names
from worker.console import (
    FAILED,
    OK,
    UsageError,
    agreed,
    connected,
    print_json,
    printable,
    say,
    unreachable,
)
from worker.letter_text import Listing, as_object, as_page, as_table, with_body
from worker.letters import Letters, Survey, Walked, Wanted, replay_refusal, replayed, settle, survey, taken
from worker.sources import Loaded

GROUPED = 10_000  # letters that a listing reads at least, to group them
_SAID = 20  # lines about single letters, before the rest is only counted


def dead(arguments: argparse.Namespace, loaded: Loaded) -> int:
    """Carry out one of them."""
    names = Names(loaded.settings.prefix)
    ready = _PREPARED[arguments.action](arguments, names)
    try:
        with connected(loaded) as broker:
            return ready(broker)
    except BrokerError as error:
        return unreachable("broker", mask(loaded.settings.broker_url), error)


Ready = Callable[[Broker], int]


def _list(arguments: argparse.Namespace, names: Names) -> Ready:
    def ready(broker: Broker) -> int:
        listing = Listing(arguments.reason, arguments.offset, arguments.limit)
        most = max(arguments.offset + arguments.limit, GROUPED) if arguments.limit else None
        walked = Letters(broker, names).walk(listing.add, most=most)
        _print_listing(arguments, listing, walked)
        return FAILED if arguments.reason is not None and not listing.matched else OK

    return ready


def _print_listing(arguments: argparse.Namespace, listing: Listing, walked: Walked) -> None:
    waiting, letters = max(walked.waiting, walked.read), listing.letters
    if arguments.quiet:
        for letter in letters:
            print(letter.id)
    elif arguments.json:
        print_json(as_object(listing, waiting, walked.read))
    elif walked.read:
        print(as_table(listing, time.time()))
    if not letters:
        say("no letter matches" if walked.read else "there are no dead letters")
    unread = waiting - walked.read
    if listing.left or unread:
        after = arguments.offset + len(letters)
        read = f", of which the first {walked.read:,} were read" if unread else ""
        say(f"{waiting:,} wait{read}; more: --offset {after}, or --limit 0 for all")


def _show(arguments: argparse.Namespace, names: Names) -> Ready:
    wanted = Wanted(ids=_ids(arguments.ids))

    def ready(broker: Broker) -> int:
        letters = Letters(broker, names)
        found = survey(letters, wanted, lambda _: None)
        pending = found.acceptable()

        def visit(letter: Letter) -> None:
            if taken(pending, letter):
                print(json.dumps(with_body(letter)) if arguments.json else as_page(letter) + "\n")

        if pending:
            letters.walk(visit, enough=lambda: not pending)
        return FAILED if _say_wrong(found) or not found.found else OK

    return ready


def _replay(arguments: argparse.Namespace, names: Names) -> Ready:
    wanted, reply_queue = _wanted(arguments), _reply_queue(arguments, names)

    def ready(broker: Broker) -> int:
        letters = Letters(broker, names)
        found = survey(letters, wanted, lambda letter: replay_refusal(letter, names))
        wrong, pending = _say_wrong(found), found.acceptable()
        what = _said(found, pending)
        if not pending or arguments.dry_run:
            say(f"{what} would be sent back" if pending else "nothing to send back")
            return FAILED if wrong or not pending else OK
        if reply_queue is None and (private := sum(found.found[name].asks_private for name in pending)):
            say(
                f"{private:,} ask for replies in a queue of their own, which may be gone: "
                f"--no-reply-to sends replies to {names.replies}, --reply-to NAME to {names.replies}.NAME"
            )
        if not _goes_on(broker, arguments, f"send {what} back?", "nothing was sent"):
            return FAILED
        if reply_queue not in (None, names.replies):
            broker.declare(str(reply_queue))
        sought = pending.total()
        walked = settle(letters, pending, lambda letter: [replayed(letter, names, reply_queue)])
        print_json({"replayed": walked.settled, "undeliverable": walked.undeliverable})
        return FAILED if _say_rest(sought, walked) or wrong else OK

    return ready


def _purge(arguments: argparse.Namespace, names: Names) -> Ready:
    wanted = _wanted(arguments)

    def ready(broker: Broker) -> int:
        letters = Letters(broker, names)
        found = survey(letters, wanted, lambda _: None)
        wrong, pending = _say_wrong(found), found.acceptable()
        if not pending:
            say("nothing to purge")
            return FAILED
        question = f"drop {_said(found, pending)} for good?"
        if not _goes_on(broker, arguments, question, "nothing was dropped"):
            return FAILED
        sought = pending.total()
        walked = settle(letters, pending, lambda _: [])
        print_json({"purged": walked.settled})
        return FAILED if _say_rest(sought, walked) or wrong else OK

    return ready


def _goes_on(broker: Broker, arguments: argparse.Namespace, question: str, otherwise: str) -> bool:
    if arguments.yes:
        return True
    if not agreed(question):
        say(otherwise)
        return False
    # A person may think for longer than a heartbeat or a lease lasts.
    broker.connect()
    return True


def _say_wrong(found: Survey) -> bool:
    """Say what is not done and why; whether there is any such thing."""
    refused = [f"{name}: {one.refusal}" for name, one in found.found.items() if one.refusal is not None]
    lines = [*found.wrong, *refused]
    for line in lines[:_SAID]:
        say(f"error: {printable(line)}")
    if len(lines) > _SAID:
        say(f"error: and {len(lines) - _SAID:,} more")
    return bool(lines)


def _say_rest(sought: int, walked: Walked) -> bool:
    gone = sought - walked.settled
    if gone > 0:
        say(f"error: {gone:,} were no longer there")
    if walked.undeliverable:
        say(f"error: {walked.undeliverable:,} could not be delivered and are dead letters again")
    return gone > 0 or walked.undeliverable > 0


def _said(found: Survey, ids: Counter[str]) -> str:
    reasons = ", ".join(f"{count:,} {printable(reason)}" for reason, count in found.by_reason(ids))
    return f"{ids.total():,} {'letter' if ids.total() == 1 else 'letters'} ({reasons})"


def _wanted(arguments: argparse.Namespace) -> Wanted:
    chosen = [bool(arguments.ids), arguments.all, arguments.reason is not None]
    if sum(chosen) != 1:
        raise UsageError("error: expected either ids (or -), or --all, or --reason REASON")
    return Wanted(_ids(arguments.ids) if arguments.ids else None, arguments.reason)


def _ids(given: Sequence[str]) -> tuple[str, ...]:
    ids = tuple(name for name in given if name != "-")
    if "-" in given:
        ids += tuple(word for line in sys.stdin for word in line.split())
    if not all(ids):
        raise UsageError("error: an id is empty; expected what `dead list` shows")
    return ids


def _reply_queue(arguments: argparse.Namespace, names: Names) -> str | None:
    if arguments.reply_to is None:
        return names.replies if arguments.no_reply_to else None
    try:
        return names.replies_for(arguments.reply_to)
    except ValueError as error:
        raise UsageError(f"error: --reply-to: {error}") from None


_PREPARED: dict[str, Callable[[argparse.Namespace, Names], Ready]] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "purge": _purge,
}
