"""A model behind HTTP: POST of the payload; a 2xx answer in JSON is the result."""

import email.utils
import ssl
import time
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeout
from urllib3.response import BaseHTTPResponse

from broker.tls import MODEL, explained
from wire.trace import TRACEPARENT
from worker.model import (
    BadResult,
    ModelError,
    Rejection,
    TimedOut,
    TransientFailure,
    result_from_json,
    results_from_json,
)

_CHUNK = 1 << 16
_TRANSIENT = frozenset({408, 425, 429})
_OF_THE_CALL = frozenset({401, 403, 404, 405})  # no row is to blame
_SHOWN_BYTES = 200
_BATCH_MAX_BYTES = 64 << 20  # of one answer to many


class HttpTarget:
    """One URL over a pool of kept-alive connections; `tls` says whom to trust where it is https://.

    No redirects and no proxies from the environment: the address in the settings is the one that is called.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_seconds: float,
        concurrency: int,
        max_bytes: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._is_secure = parts.scheme == "https"
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # urllib3's own default checks certificate and host name, too.
        own = {} if tls is None else {"ssl_context": tls}
        self._pool = urllib3.connection_from_url(url, maxsize=concurrency, block=False, retries=False, **own)
        self._timeout, self._max_bytes = timeout_seconds, max_bytes
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "recollect",
            **headers,
        }

    def warm(self) -> None:
        """Nothing to do: a model service may well come up after its workers."""

    def call(self, payload: bytes, traceparent: str | None = None) -> bytes:
        """See worker.model.Target. The traceparent is a header."""
        return result_from_json(self._post(payload, traceparent), self._max_bytes)

    def call_batch(
        self, payloads: Sequence[bytes], traceparent: str | None = None
    ) -> list[bytes | ModelError]:
        """See worker.model.Target. POST of a JSON array, answered by one of the same length."""
        body = self._post(b"[" + b",".join(payloads) + b"]", traceparent, len(payloads))
        return results_from_json(body, len(payloads), self._max_bytes)

    def _post(self, payload: bytes, traceparent: str | None, rows: int = 1) -> bytes:
        """The body of a 2xx answer, of at most as many bytes as so many results may have."""
        end = time.monotonic() + self._timeout
        try:
            response = self._pool.urlopen(
                "POST",
                self._path,
                body=payload,
                headers=self._traced(traceparent),
                timeout=urllib3.Timeout(total=self._timeout),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
            most = self._max_bytes if rows == 1 else min(rows * self._max_bytes, _BATCH_MAX_BYTES)
            return self._body(response, end, most)
        except NewConnectionError as error:  # which urllib3 counts among its timeouts
            raise _unreachable(error, is_secure=self._is_secure) from None
        except (HTTPTimeout, TimeoutError):
            raise TimedOut(self._timeout) from None
        except (HTTPError, OSError) as error:
            raise _unreachable(error, is_secure=self._is_secure) from None

    def _traced(self, traceparent: str | None) -> Mapping[str, str]:
        if traceparent is None:
            return self._headers
        headers = urllib3.HTTPHeaderDict(self._headers)
        headers[TRACEPARENT] = traceparent  # instead of one from the settings, however that is spelt
        return headers

    def _body(self, response: BaseHTTPResponse, end: float, most: int) -> bytes:
        status = response.status
        body = self._read(response, end, most)
        if 200 <= status < 300:
            if len(body) > most:
                raise BadResult(f"result has more than {most} bytes")
            return body
        said = body[:_SHOWN_BYTES].decode("utf-8", "replace").strip()
        message = f"model answered {status}" + (f": {said}" if said else "")
        if status in _TRANSIENT or status >= 500:
            raise TransientFailure(
                message, "status", retry_after_seconds(response.headers.get("Retry-After"))
            )
        if 300 <= status < 400:
            raise Rejection(f"{message}; redirects are not followed", splits=False)
        raise Rejection(message, splits=status not in _OF_THE_CALL)

    def _read(self, response: BaseHTTPResponse, end: float, most: int) -> bytes:
        """At most one byte over the limit. A timeout counts per recv, so the clock is read between them."""
        parts: list[bytes] = []
        left = most + 1
        try:
            while left > 0 and (chunk := response.read1(min(_CHUNK, left))):
                parts.append(chunk)
                left -= len(chunk)
                if time.monotonic() > end:
                    raise TimedOut(self._timeout)
        except BaseException:
            response.close()
            raise
        if left <= 0:
            response.close()
        response.release_conn()
        return b"".join(parts)


def retry_after_seconds(value: str | None) -> float | None:
    """The wait a Retry-After header asks for (RFC 9110, section 10.2.3); None where it cannot be read."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _unreachable(error: Exception, *, is_secure: bool) -> TransientFailure:
    # urllib3 puts the connection object in front: the cause is what a person can use.
    cause = str(getattr(error, "reason", None) or error).rpartition(": ")[2]
    if is_secure:
        cause = explained(error, MODEL, secure=True, said=cause)
    return TransientFailure(f"model not reachable: {cause or type(error).__name__}", "connection")
