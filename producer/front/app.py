"""The routes: thin ones, over `asked` and `answer`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from broker.base import BrokerError
from producer.aio import AsyncProducer
from producer.front.answer import Answer, Problem, answer
from producer.front.asked import BODY_MAX_BYTES, asked, check_headers, too_large
from producer.front.openapi import document
from wire.errors import ErrorKind, InvalidRequest

_BODY_SECONDS = 30.0
_DRAIN_SECONDS, _DRAINED_BYTES = 5.0, 16 << 20
_SOON, _LATER = {"Retry-After": "1"}, {"Retry-After": "5"}


class Front:
    """Answers HTTP by calls of `producer`, at most `in_flight` at once and each for `timeout` seconds."""

    def __init__(self, producer: AsyncProducer, *, model: str | None, timeout: float, in_flight: int) -> None:
        self._producer, self._model, self._timeout = producer, model, timeout
        self._room = in_flight
        self._document = orjson.dumps(document(version("recollect")))

    def app(self) -> Starlette:
        """The ASGI application."""
        app = Starlette(
            routes=[
                Route("/analysis", _Raw(self._analyse), methods=["POST"]),
                Route("/livez", self._livez),
                Route("/readyz", self._readyz),
                Route("/openapi.json", self._openapi),
            ],
            exception_handlers={HTTPException: _elsewhere, Exception: _fault},
        )
        app.router.redirect_slashes = False  # it would lead wherever the client's Host says
        return app

    async def _analyse(self, scope: Scope, receive: Receive) -> Answer:
        try:
            return await self._answer(scope, receive)
        except Problem as problem:
            return problem.answer()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        headers = _headers(scope)
        try:
            check_headers(headers)
        except Problem:
            await _drain(receive)
            raise
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            raise Problem(408, "no_body", f"the body did not come within {_BODY_SECONDS:g} s") from None
        payload, options = asked(body, headers, query, self._model)
        if self._room <= 0:
            raise Problem(503, "busy", "as much is under way as may be; try again soon", _SOON)
        self._room -= 1
        try:
            reply = await self._producer.call(payload, timeout=self._timeout, **options)
        except InvalidRequest as error:
            raise Problem(400, ErrorKind.INVALID_REQUEST.value, str(error)) from None
        except TimeoutError:
            raise Problem(504, "no_reply", f"no reply within {self._timeout:g} s") from None
        except BrokerError:
            # Its text has the address of the queue, which is no business of who asked.
            raise Problem(503, "queue_unreachable", "the queue cannot be reached", _LATER) from None
        finally:
            self._room += 1
        return answer(reply, options)

    async def _livez(self, _request: Request) -> Response:
        if self._producer.is_alive:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the thread that talks to the queue has ended\n", 503)

    async def _readyz(self, _request: Request) -> Response:
        if self._producer.is_ready:
            return PlainTextResponse("ok\n")
        return PlainTextResponse("the queue is not reached\n", 503)

    async def _openapi(self, _request: Request) -> Response:
        return Response(self._document, media_type="application/json")


class _Raw:
    """An endpoint without Starlette's wrapping of requests, which takes as long as all that we do."""

    def __init__(self, analyse: Callable[[Scope, Receive], Awaitable[Answer]]) -> None:
        self._analyse = analyse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _response(await self._analyse(scope, receive))(scope, receive, send)


def _headers(scope: Scope) -> dict[str, str]:
    """By name; one that comes in several lines is their list."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found


async def _body(receive: Receive) -> bytes:
    parts, size, goes_on = [], 0, True
    while goes_on:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, ErrorKind.INVALID_REQUEST.value, "the body broke off")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_MAX_BYTES:
            await _drain(receive)
            raise too_large()
        goes_on = message.get("more_body", False)
    return b"".join(parts)


async def _drain(receive: Receive) -> None:
    """Read on, a while: who still sends when the connection ends sees no answer but a broken pipe."""
    left, goes_on = _DRAINED_BYTES, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while goes_on and left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                goes_on = message.get("more_body", False)


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


async def _elsewhere(_request: Request, error: Exception) -> Response:
    """No such path, no such method."""
    assert isinstance(error, HTTPException)
    kind = "not_found" if error.status_code == 404 else "not_allowed"
    return _response(Problem(error.status_code, kind, error.detail, error.headers).answer())


async def _fault(_request: Request, error: Exception) -> Response:
    detail = f"{type(error).__name__}: see the log"
    return _response(Problem(500, ErrorKind.INTERNAL.value, detail).answer())
