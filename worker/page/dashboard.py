"""`python -m worker dashboard`: the page of a fleet, by a process that does no work."""

import argparse
import signal
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial

from prometheus_client import CollectorRegistry

from broker.base import BrokerError
from wire.names import Names
from worker.app import CLIENT_SECONDS, broker_options, build_lookout, cache_address, serve, version
from worker.cache_link import redis_client
from worker.console import OK, UsageError
from worker.exposed import say_exposures
from worker.health import health_app
from worker.logs import build_log, quiet_libraries
from worker.page.app import PATHS
from worker.page.build import build_page
from worker.queues import Queues
from worker.sources import Loaded


def dashboard(arguments: argparse.Namespace, loaded: Loaded) -> int:  # noqa: ARG001 - the shape of a command
    """Serve the page until SIGTERM or Ctrl-C. Broker and cache may come and go."""
    settings = loaded.settings
    log = build_log(sys.stderr, settings.log_format, settings.log_level)
    quiet_libraries()
    queues, is_over = Queues(Names(settings.prefix), time.time), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    try:
        with ExitStack() as stack:
            connect = partial(redis_client, cache_address(settings, stack), CLIENT_SECONDS)
            page = build_page(settings, connect, queues, broker_options(settings), version(), log)
            stack.callback(page.close)
            pages = dict.fromkeys(PATHS, page)
            app = health_app(CollectorRegistry(), lambda: None, lambda: None, pages)
            serve(settings, app, log, stack)
            say_exposures(settings, log)
            lookout = build_lookout(settings, queues)
            stack.callback(lookout.close)
            lookout.start()
            is_over.wait()
    except (OSError, ValueError, BrokerError) as error:
        raise UsageError(f"error: {error}\n(nothing was started)") from None
    return OK
