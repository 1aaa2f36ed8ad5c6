"""`python -m producer serve`: the front on uvicorn, until SIGTERM or Ctrl-C."""

import argparse
import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from broker.base import BrokerUnreachable
from producer.aio import AsyncProducer
from producer.front.app import Front

Say = Callable[[str], None]
_BACKLOG = 2048
_RECONNECT_SECONDS = 5.0  # as long as a request waits for a broker that went away
_OPEN = "whoever reaches it can have the models called, and nobody is asked who they are"


def serve(arguments: argparse.Namespace, connection: dict[str, Any], say: Say) -> int:
    """Serve; what is under way at the end is answered. Raises what connecting raises, and OSError where the
    address cannot be had."""
    listener = _listen(arguments.host, arguments.port)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(arguments, connection, listener, say))
    finally:
        listener.close()
    return 0


async def _serve(
    arguments: argparse.Namespace, connection: dict[str, Any], listener: socket.socket, say: Say
) -> None:
    async with AsyncProducer(**connection, reconnect_seconds=_RECONNECT_SECONDS) as producer:
        try:
            await producer.connect(retry=False)
        except BrokerUnreachable as error:
            if arguments.no_retry:
                raise
            say(f"{error}; serving all the same, and trying again")
        front = Front(
            producer, model=arguments.model, timeout=arguments.timeout, in_flight=arguments.in_flight
        )
        config = uvicorn.Config(
            front.app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=int(arguments.timeout) + 1,
        )
        # uvicorn hands on what it was ended by, and the end is not over then.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        if not _is_local(arguments.host):
            say(f"warning: listening on {arguments.host}: {_OPEN}")
        say(f"serving {_url(arguments.host, listener)}/analysis")
        await uvicorn.Server(config).serve(sockets=[listener])


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        expected = "expected an address of this machine and a free port, or 0 for any"
        raise OSError(f"--host {host} --port {port}: {said}; {expected}") from None


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
