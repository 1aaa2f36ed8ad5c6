"""Puts the page together from settings: for a worker, which has queues and a cache of its own at hand, and
for `python -m worker dashboard`, which has only what it asks for."""

import time
from collections.abc import Callable
from functools import partial

import redis

from broker.base import BrokerOptions
from broker.urls import mask, open_broker
from wire.names import Names
from worker.explain import Explainer
from worker.fleet.reader import FleetReader
from worker.logs import Log
from worker.models import build_catalog
from worker.page.actions import Actions
from worker.page.app import PageApp
from worker.page.view import View
from worker.queues import Queues
from worker.settings import Settings

Connect = Callable[[], "redis.Redis"]


def build_page(
    settings: Settings, connect: Connect, queues: Queues, options: BrokerOptions, version: str, log: Log
) -> PageApp:
    """The page, to be served at `worker.page.app.PATHS`. `connect` makes a client of the cache's server."""
    names = Names(settings.prefix)
    view = View(
        FleetReader(connect, names),
        queues,
        time.time,
        prefix=settings.prefix,
        version=version,
        urls={"broker": mask(settings.broker_url), "cache": mask(settings.cache_url)},
        dead=names.dead,
        allows_actions=settings.allow_actions,
    )
    actions = None
    if settings.allow_actions:
        actions = Actions(partial(open_broker, settings.broker_url, names, options), connect, names)
    lookup = Explainer(build_catalog(settings), connect, names, time.time)
    return PageApp(view, lookup, actions, log, settings.http_host)
