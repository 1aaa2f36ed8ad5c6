"""URLs out of files: as settings of a worker and on the producer's command line."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from producer.where import broker_url
from worker.show import as_text
from worker.sources import Loaded, SettingsError, load

CANARY = "redis://:canary-word@127.0.0.1:6379/0"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """With the newline that an editor leaves."""
    path = tmp_path / "secret"
    path.write_text(CANARY + "\n")
    return path


def read(
    place: Path, toml: str = "", flags: Mapping[str, Any] | None = None, **variables: str | Path
) -> Loaded:
    (place / "recollect.toml").write_text(toml)
    return load(flags or {}, {f"RECOLLECT_{name}": str(value) for name, value in variables.items()}, place)


def wrong(place: Path, toml: str = "", **variables: str | Path) -> str:
    with pytest.raises(SettingsError) as caught:
        read(place, toml, **variables)
    assert "canary" not in str(caught.value)
    return str(caught.value)


def test_a_url_comes_out_of_its_file(tmp_path: Path, secret: Path) -> None:
    """`config` shows it masked, with the file and who named it."""
    loaded = read(tmp_path, BROKER_URL_FILE=secret, CACHE_URL_FILE=secret)
    assert (loaded.settings.broker_url, loaded.settings.cache_url) == (CANARY, CANARY)
    assert loaded.origins["broker_url"] == f"{secret} (environment RECOLLECT_BROKER_URL_FILE)"
    shown = as_text(loaded)
    assert "redis://:***@127.0.0.1:6379/0" in shown
    assert str(secret) in shown
    assert "canary" not in shown


def test_a_file_may_be_named_in_every_layer(tmp_path: Path, secret: Path) -> None:
    """As a flag and in recollect.toml, too."""
    toml = f'broker_url_file = "{secret}"\ncache_url = "embedded:"\n'
    assert read(tmp_path, toml).settings.broker_url == CANARY
    loaded = read(tmp_path, flags={"broker_url_file": str(secret)}, CACHE_URL="embedded:")
    assert loaded.settings.broker_url == CANARY
    assert "flag --broker-url-file" in loaded.origins["broker_url"]


def test_the_later_layer_wins_whichever_way_it_is_written(tmp_path: Path, secret: Path) -> None:
    """recollect.toml says embedded:, a deployment names a file, a person types a flag."""
    both = 'broker_url = "embedded:"\ncache_url = "embedded:"\n'
    assert read(tmp_path, both, BROKER_URL_FILE=secret).settings.broker_url == CANARY
    flags = {"broker_url": "embedded:"}
    assert read(tmp_path, both, flags, BROKER_URL_FILE=secret).settings.broker_url == "embedded:"
    empty = read(tmp_path, both, BROKER_URL_FILE=secret, BROKER_URL="")
    assert empty.settings.broker_url == CANARY
    assert read(tmp_path, both, BROKER_URL_FILE="").settings.broker_url == "embedded:"


def test_a_file_that_does_not_hold_one_line_is_named(tmp_path: Path, secret: Path) -> None:
    """Missing, empty, a directory, of two lines, not text; nothing of it is shown."""
    cases = {"empty": b" \n", "two": b"redis://:canary@h/0\nx\n", "binary": b"\xff\xfecanary"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    said = {
        name: wrong(tmp_path, CACHE_URL="embedded:", BROKER_URL_FILE=tmp_path / name)
        for name in ("absent", "empty", "two", "binary", ".")
    }
    assert "no such file" in said["absent"]
    assert "is empty" in said["empty"]
    assert "more than one line" in said["two"]
    assert "not UTF-8" in said["binary"]
    assert "is a directory" in said["."]
    for text in said.values():
        assert text.startswith("error: environment RECOLLECT_BROKER_URL_FILE: `broker_url_file`: ")
        assert "1 problem" in text, text
    assert "which of them?" in wrong(tmp_path, CACHE_URL="embedded:", BROKER_URL="x:", BROKER_URL_FILE=secret)


def test_what_is_in_the_file_is_checked_like_any_url(tmp_path: Path, secret: Path) -> None:
    """And not quoted."""
    secret.write_text("kafka://:canary@h")
    assert str(secret) in wrong(tmp_path, CACHE_URL="embedded:", BROKER_URL_FILE=secret)


def test_a_file_of_a_layer_that_does_not_count_is_still_read(tmp_path: Path) -> None:
    """A path that leads nowhere is a mistake wherever it is written."""
    toml = f'broker_url_file = "{tmp_path}/absent"\ncache_url = "embedded:"\n'
    assert "recollect.toml: `broker_url_file`" in wrong(tmp_path, toml, BROKER_URL="embedded:")


def test_the_producer_finds_its_url_alike(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """flag > environment > file, and a secret file in either of the latter."""
    flag, none = argparse.Namespace(broker_url="embedded:"), argparse.Namespace(broker_url=None)
    monkeypatch.delenv("RECOLLECT_BROKER_URL", raising=False)
    monkeypatch.setenv("RECOLLECT_BROKER_URL_FILE", str(secret))
    assert broker_url(none, {"broker_url": "memory://"}) == CANARY
    assert broker_url(flag, {}) == "embedded:"
    monkeypatch.setenv("RECOLLECT_BROKER_URL", "memory://")
    with pytest.raises(ValueError, match="which of them"):
        broker_url(none, {})
    monkeypatch.delenv("RECOLLECT_BROKER_URL")
    monkeypatch.setenv("RECOLLECT_BROKER_URL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"environment: broker_url_file: .*absent.* no such file"):
        broker_url(none, {})
    monkeypatch.delenv("RECOLLECT_BROKER_URL_FILE")
    assert broker_url(none, {"broker_url_file": str(secret)}) == CANARY
    with pytest.raises(ValueError, match="RECOLLECT_BROKER_URL_FILE"):
        broker_url(none, {})
