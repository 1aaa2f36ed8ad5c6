"""TLS: whether its files are there, and what its failures mean to whoever set it up."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from broker.secret_file import reason

# OpenSSL's numbers of what is wrong with a certificate.
_TIMES = {9: "is not valid yet", 10: "has expired"}
_OTHER_HOST = (62, 64)
_NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
_NONE_SHOWN = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_OURS_REFUSED = (
    "UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REVOKED",
    "UNSUPPORTED_CERTIFICATE", "DECRYPT_ERROR", "ACCESS_DENIED",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """What the options are called where a connection is described, and how to ask for TLS or for none."""

    ca: str
    certificate: str
    key: str
    host: str
    secure: str
    plain: str


AMQP = Words("ca_certs", "certfile", "keyfile", "server_hostname", "amqps://", "pyamqp://")
REDIS = Words("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "", "rediss://", "redis://")
MODEL = Words("ca_file", "cert_file", "key_file", "", "https://", "http://")


def context_of(
    words: Words, ca: str | None, certificate: str | None, key: str | None, password: str | None = None
) -> ssl.SSLContext:
    """A client's context that checks certificate and host name. Raises ValueError, which names the option.

    Made where settings are read: a path that leads nowhere would otherwise look like a server that is down.
    """
    if key and not certificate:
        raise ValueError(f"{words.key} is set without {words.certificate}")
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as error:
        raise ValueError(f"{words.ca}={ca}: {_of_file(error, 'no certificate in PEM form')}") from None
    if certificate:
        shown = f"{words.certificate}={certificate}" + (f", {words.key}={key}" if key else "")
        try:
            # A password that is not given is empty: OpenSSL would ask for it at the terminal.
            context.load_cert_chain(certificate, key, password or "")
        except (OSError, ValueError) as error:
            wrong = "not a certificate and its own key, in PEM form"
            raise ValueError(f"{shown}: {_of_file(error, wrong)}") from None
    return context


def explained(error: BaseException, words: Words, *, secure: bool, said: str = "") -> str:
    """What went wrong while connecting, and, where that is TLS, which setting to change.

    `said` stands for the error's own words, where they are of no use to a person.
    """
    for found in _chain(error):
        if isinstance(found, ssl.SSLCertVerificationError):
            return _of_certificate(found, words)
        if isinstance(found, ssl.SSLError) and (meant := _of_handshake(found, words)):
            return meant
    said = (said or str(error)).rstrip(".") or type(error).__name__
    if _is_hang_up(error):
        if secure:
            return f"{said}; does it want a certificate that it trusts ({words.certificate}, {words.key})?"
        return f"{said}; does this port speak TLS ({words.secure})?"
    if secure and "time" in said.lower():  # a server that speaks no TLS may wait for the rest of a question
        return f"{said}; is this the server's TLS port?"
    return said


def _of_certificate(error: ssl.SSLCertVerificationError, words: Words) -> str:
    if error.verify_code in _TIMES:
        said = f"the server's certificate {_TIMES[error.verify_code]}: renew it on the server"
    elif error.verify_code in _OTHER_HOST:
        other = f", or say by {words.host}= what it is called there" if words.host else ""
        said = (
            f"the server's certificate is of another host ({error.verify_message.strip().rstrip('.')}): "
            f"use a host name that it holds{other}"
        )
    else:
        said = (
            f"the server's certificate is not trusted ({error.verify_message.strip().rstrip('.')}): "
            f"name the CA that signed it by {words.ca}"
        )
    return f"TLS: {said} [{error.reason}]"


def _of_handshake(error: ssl.SSLError, words: Words) -> str:
    reason = error.reason or ""
    if reason in _NO_TLS_THERE:
        said = f"this port does not speak TLS: use the server's TLS port, or {words.plain} for plain text"
    elif reason.endswith(_NONE_SHOWN):
        said = f"the server asks for a certificate: {words.certificate} and {words.key} name ours"
    elif "ALERT" in reason and reason.endswith(_OURS_REFUSED):
        said = f"the server refuses our certificate: is it of a CA that it trusts ({words.certificate})?"
    else:
        return ""
    return f"TLS: {said} [{reason}]"


def _is_hang_up(error: BaseException) -> bool:
    """Whether the other end left without a word, or with one that is no answer."""
    if any(isinstance(found, ConnectionResetError | BrokenPipeError | EOFError) for found in _chain(error)):
        return True
    said = str(error).lower()
    return any(word in said for word in ("closed", "eof occurred", "protocol error", "\\x15\\x03"))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: client libraries wrap what OpenSSL says."""
    seen: set[int] = set()
    left = [error]
    while left:
        found = left.pop(0)
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        left += [found.__cause__, found.__context__]
        left += [
            part for part in (*found.args, getattr(found, "reason", None)) if isinstance(part, Exception)
        ]


def _of_file(error: Exception, otherwise: str) -> str:
    return otherwise if isinstance(error, ssl.SSLError | ValueError) else reason(error)
