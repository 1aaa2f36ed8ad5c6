"""Every setting of a worker: its name, type, unit, bounds and default, in one frozen object."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from broker.urls import SCHEMES
from wire.message import DIRECTIVES
from wire.names import Names
from worker.setting_types import Bytes, Count, Directives, Fields, NotNegative, Number, Seconds

CACHE_SCHEMES = ("embedded", "redis", "rediss", "unix")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class CacheableRule(_Section):
    """A result is remembered when it is an object whose `field` equals `equals`."""

    field: str
    equals: Any


class ModelSettings(_Section):
    """One model: where it is, which version, what of a payload decides the answer, how long it is kept."""

    target: str = Field(description="http(s)://… or python:package.module:callable")
    version: str = Field("1", min_length=1, max_length=128, description="a new one is a clean miss")
    ttl_seconds: Seconds = Field(86_400.0, description="how long a result is remembered")
    ttl_min_seconds: Seconds = Field(1.0, description="the least a request's ttl can ask for")
    ttl_max_seconds: Seconds = Field(2_592_000.0, description="the most a request's ttl can ask for")
    stale_max_seconds: NotNegative = Field(
        3_600.0, description="how long entries are kept past their time, to be used as the next two say"
    )
    stale_if_error_seconds: NotNegative = Field(
        0.0, description="so long past its time an entry stands in where the model fails; requests may differ"
    )
    stale_while_revalidate_seconds: NotNegative = Field(
        0.0, description="so long past its time an entry answers at once while the model is asked again"
    )
    directives: Directives = Field(DIRECTIVES, description="what requests may ask for; others are refused")
    key_include: Fields | None = Field(None, description="only these top-level fields decide the answer")
    key_exclude: Fields | None = Field(None, description="all top-level fields but these decide it")
    cacheable: CacheableRule | str | None = Field(
        None, description="{field, equals} or python:module:callable; a result it refuses is not kept"
    )
    price_per_model_hour: NotNegative | None = Field(
        None, description="what an hour of it costs: `cache stats --since` then shows what hits saved"
    )
    timeout_seconds: Seconds = Field(30.0, description="of one attempt")
    attempts: Annotated[int, Number, Field(ge=1, le=100)] = Field(
        3, description="model calls per request at most"
    )
    budget_seconds: Seconds = Field(
        120.0,
        description="no retry starts later than this after the first call; "
        "and how long a request waits for a model that is down",
    )
    wait_initial_seconds: Seconds = Field(0.1, description="first back-off; doubles, with full jitter")
    wait_max_seconds: Seconds = Field(10.0, description="longest back-off")
    concurrency: Annotated[int, Number, Field(ge=1, le=1024)] = Field(
        8, description="calls at once in one worker"
    )
    batch_size: Annotated[int, Number, Field(ge=1, le=10_000)] = Field(
        1,
        description="above 1: the model is sent arrays of at most so many payloads, and answers with arrays",
    )
    batch_wait_ms: Annotated[float, Number, Field(ge=0, le=60_000)] = Field(
        5.0, description="how long the first payload of a batch waits for others"
    )
    breaker_failures: Count = Field(
        5, description="transient failures in a row after which the model is left alone"
    )
    breaker_seconds: Seconds = Field(5.0, description="between two probes of a model that is down")
    headers: dict[str, str] = Field(default_factory=dict, description="sent to an HTTP model; shown masked")
    headers_file: Path | None = Field(None, description="JSON object of headers, for secrets")
    ca_file: Path | None = Field(None, description="CA of an https:// target; without it the system's")
    cert_file: Path | None = Field(None, description="certificate shown to an https:// target that asks")
    key_file: Path | None = Field(None, description="its key, where cert_file does not hold it")

    @field_validator("target")
    @classmethod
    def _known_target(cls, value: str) -> str:
        if _is_http(value) or _is_python(value):
            return value
        raise ValueError("expected http://host/path, https://host/path or python:package.module:callable")

    @field_validator("cacheable", mode="before")
    @classmethod
    def _known_rule(cls, value: Any) -> Any:
        # Before the types: of a union each member would complain, and one mistake become three.
        if (
            value is None
            or isinstance(value, CacheableRule)
            or (isinstance(value, str) and _is_python(value))
        ):
            return value
        if (
            isinstance(value, dict)
            and value.keys() == {"field", "equals"}
            and isinstance(value["field"], str)
        ):
            return value
        raise ValueError('expected {field = "…", equals = …} or python:package.module:callable')

    @model_validator(mode="after")
    def _consistent(self) -> "ModelSettings":
        if self.key_include is not None and self.key_exclude is not None:
            raise ValueError("key_include and key_exclude cannot both be set")
        if not self.ttl_min_seconds <= self.ttl_seconds <= self.ttl_max_seconds:
            raise ValueError("expected ttl_min_seconds <= ttl_seconds <= ttl_max_seconds")
        for name in ("ca_file", "cert_file", "key_file"):
            if getattr(self, name) is not None and not self.target.startswith("https:"):
                raise ValueError(f"{name} needs a target that begins with https://")
        for name in ("stale_if_error_seconds", "stale_while_revalidate_seconds"):
            if getattr(self, name) > self.stale_max_seconds:
                raise ValueError(f"expected {name} <= stale_max_seconds, {self.stale_max_seconds:g}")
        return self


def _is_http(target: str) -> bool:
    try:
        parts = urlsplit(target)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_python(target: str) -> bool:
    scheme, _, rest = target.partition(":")
    module, _, name = rest.partition(":")
    return scheme == "python" and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])


def _has_scheme(url: str, known: tuple[str, ...]) -> bool:
    scheme, _, rest = url.partition(":")
    return scheme in known and (rest.startswith("//") or (scheme == "embedded" and ":" in url))


class Settings(_Section):
    """What a worker runs with."""

    broker_url: str = Field(description="where messages move: embedded:, redis://…, pyamqp://…")
    broker_url_file: Path | None = Field(None, description="a file that holds broker_url, for secrets")
    cache_url: str = Field(description="where results are remembered: embedded:, redis://…")
    cache_url_file: Path | None = Field(None, description="a file that holds cache_url, for secrets")
    prefix: str = Field("recollect", description="what every queue and key name begins with")
    namespace: str = Field("default", max_length=128, description="part of every key: keeps tenants apart")
    models: dict[str, ModelSettings] = Field(default_factory=dict, description="the models served, by name")
    default_model: str | None = Field(None, description="the model of requests that name none")
    in_flight: Count = Field(
        256,
        description="requests taken at once; four times as many, "
        "or four rounds of the models' calls, may be held for a model",
    )
    in_flight_bytes: Bytes = Field(64 << 20, description="bytes of messages held at once")
    request_max_bytes: Bytes = Field(1 << 20, description="a larger request gets an error reply")
    message_max_bytes: Bytes = Field(16 << 20, description="a larger message gets an error reply")
    reply_max_bytes: Bytes = Field(8 << 20, description="a larger reply message is sent in parts")
    message_max_requests: Count = Field(100_000, description="a message of more gets an error reply")
    result_max_bytes: Bytes = Field(4 << 20, description="a larger model answer is a bad_result")
    entry_max_bytes: Bytes = Field(1 << 20, description="a larger result is not remembered")
    cache_deadline_seconds: Seconds = Field(0.2, description="of each cache operation, all included")
    flight_lease_seconds: Annotated[float, Number, Field(ge=1, le=3600)] = Field(
        10.0,
        description="how long a worker that dies in a model call holds up the same requests; "
        "at most lease_seconds",
    )
    cache_breaker_failures: Count = Field(3, description="failures in a row after which it is left alone")
    cache_breaker_seconds: Seconds = Field(2.0, description="between two probes of a cache that is down")
    lease_seconds: Annotated[float, Number, Field(ge=1, le=86_400)] = Field(
        30.0, description="how long a worker may be silent before others take what it holds (Redis)"
    )
    durability: Literal["normal", "strict"] = Field("normal", description="strict: confirmed means on disk")
    drain_seconds: Seconds = Field(25.0, description="to finish what is held after SIGTERM")
    allow_queue_eviction: bool = Field(
        False, description="start although the server's policy lets it evict the queues (Redis)"
    )
    http_host: str = Field("127.0.0.1", description="where the page, /metrics, /livez and /readyz listen")
    http_port: Annotated[int, Number, Field(ge=0, le=65535)] = Field(
        0, description="0: any free one, printed"
    )
    allow_actions: bool = Field(
        False, description="whether the page may replay, purge and pause; whoever reaches it can, then"
    )
    log_format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least to log")
    dead_letter_failed: bool = Field(False, description="failed requests also become dead letters")

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str) -> str:
        if not _has_scheme(value, SCHEMES):
            raise ValueError(
                "expected embedded:, redis://host:6379/0, pyamqp://user:password@host:5672// "
                f"or another URL of: {', '.join(SCHEMES)}"
            )
        return value

    @field_validator("cache_url")
    @classmethod
    def _known_cache(cls, value: str) -> str:
        if not _has_scheme(value, CACHE_SCHEMES):
            raise ValueError("expected embedded:, redis://host:6379/1, rediss://host:6379/1 or unix:///path")
        return value

    @field_validator("prefix")
    @classmethod
    def _usable_prefix(cls, value: str) -> str:
        return Names(value).prefix

    @field_validator("models")
    @classmethod
    def _usable_names(cls, value: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in value:
            if not 1 <= len(name) <= 128 or not name.isprintable() or name == "none":
                raise ValueError(f"model name {name!r} must be 1 to 128 printable characters, and not `none`")
        return value

    @field_validator("default_model")
    @classmethod
    def _served_default(cls, value: str | None, info: ValidationInfo) -> str | None:
        models = info.data.get("models")  # absent where they are wrong themselves
        if value is not None and models is not None and value not in models:
            raise ValueError(f"expected one of the models: {', '.join(models) or 'there is none'}")
        return value
