"""Settings: four layers, one object, and everything that is wrong said at once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from worker.settings import CacheableRule, ModelSettings, Settings
from worker.show import as_rows, as_text
from worker.sources import Loaded, SettingsError, load

URLS = {"BROKER_URL": "embedded:", "CACHE_URL": "embedded:"}
MODEL = {"MODELS__M__TARGET": "http://h/p"}


def read(place: Path, toml: str = "", flags: Mapping[str, Any] | None = None, **variables: str) -> Loaded:
    """What is in force with this file, these flags and these variables, besides both URLs and model `m`."""
    (place / "recollect.toml").write_text(toml)
    environ = {f"RECOLLECT_{name}": value for name, value in {**URLS, **MODEL, **variables}.items()}
    return load(flags or {}, environ, place)


def wrong(place: Path, toml: str = "", flags: Mapping[str, Any] | None = None, **variables: str) -> str:
    """What is said of these settings, which must be refused."""
    with pytest.raises(SettingsError) as caught:
        read(place, toml, flags, **variables)
    return str(caught.value)


def test_a_later_layer_wins_and_every_value_knows_its_origin(place: Path) -> None:
    """flag > environment > file > default."""
    toml = 'prefix = "file"\nnamespace = "file"\nhttp_host = "file"\n'
    loaded = read(place, toml, {"prefix": "flag"}, PREFIX="env", NAMESPACE="env")
    found = loaded.settings
    assert (found.prefix, found.namespace, found.http_host, found.in_flight) == ("flag", "env", "file", 256)
    assert loaded.origins["prefix"] == "flag --prefix"
    assert loaded.origins["namespace"] == "environment RECOLLECT_NAMESPACE"
    assert loaded.origins["http_host"] == "recollect.toml"
    assert "in_flight" not in loaded.origins


def test_one_model_is_made_of_all_layers(place: Path) -> None:
    """A variable changes one setting of a model that the file describes."""
    toml = '[models.m]\nversion = "7"\nattempts = 5\n'
    model = read(place, toml, MODELS__M__ATTEMPTS="2").settings.models["m"]
    assert (model.target, model.version, model.attempts) == ("http://h/p", "7", 2)


def test_names_of_models_are_lower_case_in_the_environment(place: Path) -> None:
    """Variables have no case of their own."""
    assert set(read(place, MODELS__SENTIMENT__TARGET="http://h/q").settings.models) == {"m", "sentiment"}


def test_variables_hold_every_type(place: Path) -> None:
    """Numbers and booleans as text; lists as JSON or with commas; objects as JSON or field by field."""
    loaded = read(
        place,
        IN_FLIGHT="7",
        DEAD_LETTER_FAILED="true",
        MODELS__M__KEY_INCLUDE='["a b", "c"]',
        MODELS__M__CACHEABLE='{"field": "status", "equals": [1]}',
        MODELS__M__HEADERS__X_TOKEN="t",
        MODELS__N__TARGET="python:a.b:c",
        MODELS__N__KEY_EXCLUDE="a, b",
        MODELS__N__HEADERS='{"A": "b"}',
    )
    settings, model, other = loaded.settings, loaded.settings.models["m"], loaded.settings.models["n"]
    assert (settings.in_flight, settings.dead_letter_failed) == (7, True)
    assert model.key_include == ("a b", "c")
    assert model.cacheable == CacheableRule(field="status", equals=[1])
    assert model.headers == {"x_token": "t"}
    assert (other.key_exclude, other.headers) == (("a", "b"), {"A": "b"})
    assert loaded.origins["models\x1fm\x1fheaders"] == "environment RECOLLECT_MODELS__M__HEADERS__X_TOKEN"


def test_a_named_file_must_be_there_and_the_usual_one_need_not(place: Path) -> None:
    """`--config` with a mistake in it must not quietly mean defaults."""
    environ = {f"RECOLLECT_{name}": value for name, value in URLS.items()}
    assert load({}, environ, place).settings.prefix == "recollect"
    with pytest.raises(SettingsError, match=r"other\.toml: there is no such file"):
        load({}, environ, place, place / "other.toml")
    (place / "other.toml").write_text('prefix = "other"\n')
    loaded = load({}, {**environ, "RECOLLECT_CONFIG": "ignored here"}, place, place / "other.toml")
    assert (loaded.settings.prefix, loaded.origins["prefix"]) == ("other", "other.toml")


@pytest.mark.parametrize("unset", [{}, {"RECOLLECT_BROKER_URL": "", "RECOLLECT_CACHE_URL": ""}])
def test_without_urls_the_choice_is_printed(place: Path, unset: dict[str, str]) -> None:
    """Not set and set to nothing are the same mistake."""
    with pytest.raises(SettingsError) as caught:
        load({}, unset, place)
    said = str(caught.value)
    for line in (
        "RECOLLECT_BROKER_URL=embedded:",
        "RECOLLECT_BROKER_URL=redis://host:6379/0",
        "pyamqp://",
        "RECOLLECT_CACHE_URL=embedded:",
        "RECOLLECT_CACHE_URL=redis://host:6379/1",
    ):
        assert line in said
    assert said.endswith("(2 problems; nothing was started)")


def test_everything_wrong_is_said_at_once(place: Path) -> None:
    """Unknown names with the nearest right word, values with what was expected, each where it is."""
    said = wrong(
        place,
        'prefix = "ok"\n\n[models."a b"]\n# target = "commented out"\ntarget = "gopher://x"\nretrys = 5\n',
        {"http_port": "99999"},
        DRAIN_SECOND="1",
        LOG_LEVEL="loud",
    )
    for expected in (
        "recollect.toml:5: `models.a b.target`: expected http://host/path",
        "recollect.toml:6: unknown setting `models.a b.retrys`; expected one of: attempts, batch_size",
        "flag --http-port: `http_port` is '99999': ",
        "environment RECOLLECT_DRAIN_SECOND: unknown setting `drain_second`; did you mean `drain_seconds`?",
        "environment RECOLLECT_LOG_LEVEL: `log_level` is 'loud': input should be 'debug', 'info'",
    ):
        assert expected in said
    assert said.endswith("(5 problems; nothing was started)")


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ('[models.a]\ntarget = "http://h/"\n[models.x]\n# target = ""\ntarget = "no"\n', 5),
        ('\n\nmodels.x.target = "no"\n', 3),
        ('\nmodels.x = { version = "1", target = "no" }\n', 2),
        ('[models]\n[models."x"] # quoted\n"target" = "no"\n', 3),
        ('\n[models.x]\nversion = "1"\n', 2),
    ],
)
def test_the_line_of_a_mistake_is_named_however_it_is_written(place: Path, toml: str, line: int) -> None:
    """Sections, dotted names, inline tables, quotes; a missing setting is at its section."""
    assert f"recollect.toml:{line}: `models.x.target`" in wrong(place, toml)


def test_a_file_that_is_not_toml_says_where(place: Path) -> None:
    """The parser's own position is kept."""
    assert "recollect.toml: not TOML: " in wrong(place, "prefix = \n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IN_FLIGHT", "0"),
        ("IN_FLIGHT", "many"),
        ("DRAIN_SECONDS", "nan"),
        ("DRAIN_SECONDS", "inf"),
        ("CACHE_DEADLINE_SECONDS", "-1"),
        ("REQUEST_MAX_BYTES", "1"),
        ("PREFIX", "Not Usable"),
        ("DEFAULT_MODEL", "nobody"),
        ("MODELS__M__CONCURRENCY", "1025"),
        ("MODELS__M__TTL_SECONDS", "0.5"),
        ("MODELS__M__STALE_MAX_SECONDS", "-1"),
        ("MODELS__M__STALE_IF_ERROR_SECONDS", "3601"),
        ("MODELS__M__STALE_WHILE_REVALIDATE_SECONDS", "nan"),
        ("MODELS__M__DIRECTIVES", "by_pass"),
        ("MODELS__M__BREAKER_FAILURES", "0"),
        ("MODELS__M__CACHEABLE", "status"),
        ("MODELS__M__CACHEABLE", "python:"),
        ("MODELS__M__CACHEABLE", '{"field": "status"}'),
        ("MODELS__M__KEY_EXCLUDE", ""),
        ("PREFIX__X", "1"),
        ("MODELS__X", "http://h/"),
        ("ZZZZ", "1"),
    ],
)
def test_bad_values_are_refused_and_named(place: Path, name: str, value: str) -> None:
    """One mistake is one problem, and its setting is in the text."""
    said = wrong(place, **{name: value})
    assert said.endswith("(1 problem; nothing was started)")
    assert name.split("__")[-1].lower() in said


@pytest.mark.parametrize("name", ["none", "", "x" * 129, "a\nb"])
def test_names_that_no_model_can_have(name: str) -> None:
    """`none` is the label of requests whose model is unknown; the rest no person could tell apart."""
    with pytest.raises(ValidationError, match="1 to 128 printable characters"):
        Settings(
            broker_url="embedded:", cache_url="embedded:", models={name: ModelSettings(target="http://h")}
        )


def test_true_is_no_number(place: Path) -> None:
    """It would be taken for 1."""
    assert "recollect.toml:1: `in_flight` is True: expected a number" in wrong(place, "in_flight = true\n")


@pytest.mark.parametrize(
    "target",
    ["", "h/p", "gopher://h", "http:///p", "http://", "http://h:99999/", "python:", "python:a", "python::b"],
)
def test_targets_that_lead_nowhere_are_refused(target: str) -> None:
    """What was expected is said."""
    with pytest.raises(ValidationError, match="expected http://host/path"):
        ModelSettings(target=target)


@pytest.mark.parametrize("target", ["http://h", "https://u:p@[::1]:8443/p?q=1", "python:a.b:c"])
def test_targets_that_can_be_called(target: str) -> None:
    """HTTP, HTTPS and Python."""
    assert ModelSettings(target=target).target == target


def test_a_selection_cannot_be_empty(place: Path) -> None:
    """No field at all would give every payload one key, and so the answer of another."""
    assert "models.m.key_include" in wrong(place, MODELS__M__KEY_INCLUDE="")


def test_include_and_exclude_exclude_each_other(place: Path) -> None:
    """Which of both would win is nothing to guess."""
    assert "cannot both be set" in wrong(place, MODELS__M__KEY_INCLUDE="a", MODELS__M__KEY_EXCLUDE="b")


@pytest.mark.parametrize("url", ["foo", "http://h", "embedded", "redis:h"])
def test_urls_of_unknown_services_are_refused(place: Path, url: str) -> None:
    """Before anything is started, with what would do."""
    assert "`broker_url`: expected embedded:, redis://host:6379/0" in wrong(place, BROKER_URL=url)
    assert "`cache_url`: expected embedded:, redis://host:6379/1" in wrong(place, CACHE_URL=url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "foo://u:canary@h"),
        ("CACHE_URL", "foo://u:canary@h"),
        ("BROKER_URL__X", "redis://:canary@h"),
        ("MODELS", '{"m": {"headers": {"A": "canary"}}}'),
        ("MODELS__X", "http://u:canary@h"),
        ("MODELS__M__TARGET", "gopher://u:canary@h"),
        ("MODELS__M__HEADERS", '{"A": "canary"'),
        ("MODELS__M__HEADERS", '{"A": ["canary"]}'),
        ("MODELS__M__HEADER", "canary"),
    ],
)
def test_no_secret_is_in_an_error(place: Path, name: str, value: str) -> None:
    """Errors end in logs."""
    assert "canary" not in wrong(place, **{name: value})


def test_what_is_shown_is_complete_and_masked(place: Path) -> None:
    """Every setting with value and origin; passwords and headers as `***`."""
    loaded = read(
        place,
        '[models.m.headers]\nAuthorization = "canary"\n',
        BROKER_URL="pyamqp://u:canary@h//",
        CACHE_URL="rediss://:canary@h/1",
        MODELS__M__TARGET="https://u:canary@h/p",
    )
    rows = {name: (value, origin) for name, value, origin in as_rows(loaded)}
    assert rows["broker_url"] == ("pyamqp://u:***@h//", "environment RECOLLECT_BROKER_URL")
    assert rows["models.m.headers"] == ({"Authorization": "***"}, "recollect.toml")
    assert rows["in_flight"] == (256, "default")
    names = {*Settings.model_fields, *(f"models.m.{name}" for name in ModelSettings.model_fields)} - {
        "models"
    }
    assert rows.keys() == names
    text = as_text(loaded)
    assert "canary" not in text + repr(rows)
    assert len(text.splitlines()) == len(names)


def test_settings_do_not_change() -> None:
    """One object for the life of a worker."""
    settings = Settings(broker_url="embedded:", cache_url="embedded:")
    with pytest.raises(ValidationError, match="frozen"):
        settings.prefix = "other"


def test_every_setting_is_explained_and_names_its_unit() -> None:
    """A number is a count, or ends in its unit."""
    counts = {
        "in_flight",
        "cache_breaker_failures",
        "breaker_failures",
        "http_port",
        "attempts",
        "concurrency",
        "batch_size",
        "message_max_requests",
    }
    for section in (Settings, ModelSettings):
        for name, field in section.model_fields.items():
            assert field.description, name
            if field.annotation in (int, float) and name not in counts:
                assert re.search(r"_(seconds|bytes|ms)$", name), name
