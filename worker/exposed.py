"""Servers that others can use, said at the start and by `check`."""

import ipaddress

from broker.exposure import exposure
from worker.logs import Log
from worker.settings import Settings


def exposures(settings: Settings) -> dict[str, tuple[str, str]]:
    """By service (broker, cache): what is open, and what to change."""
    urls = {"broker": settings.broker_url, "cache": settings.cache_url}
    return {service: found for service, url in urls.items() if (found := exposure(url)) is not None}


def say_exposures(settings: Settings, log: Log) -> None:
    """One warning for each."""
    for service, (said, hint) in exposures(settings).items():
        log.warning("open server", service=service, said=said, hint=hint)


def is_own(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
