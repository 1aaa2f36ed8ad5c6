"""Files in and out: what was read is what is sent, and what was written stays."""

import contextlib
import os
import threading
from pathlib import Path

import pytest

from producer.files import Output
from wire.reply import Reply


def row(index: int = -1) -> Reply:
    return Reply("a", "ok", 1, None, "hit", "m", "1", "k", 1.0, 2.0, index)


def test_the_final_name_comes_last(tmp_path: Path) -> None:
    """An old output stays until the new one is complete."""
    path = tmp_path / "out"
    path.write_text("old")
    with Output(str(path)) as output:
        output.write(row(0))
        assert path.read_text() == "old"
        output.finish()
    assert path.read_text().startswith('{"index":0,"id":"a","status":"ok"')
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_what_arrived_and_leaves_nothing_empty(tmp_path: Path) -> None:
    """OUT.partial is there exactly when it holds a row."""
    for rows in (0, 1):
        with contextlib.suppress(RuntimeError), Output(str(tmp_path / f"{rows}")) as output:
            for _ in range(rows):
                output.write(row())
            raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["1.partial"]


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    """A pipe or a device is written to; renaming over /dev/null would take it from everybody."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    with Output(str(path)) as output:
        output.write(row())
        output.finish()
    reader.join()
    assert read[0].endswith(b"}\n")
    assert path.is_fifo()
    with pytest.raises(IsADirectoryError, match="expected the name of a file"):
        Output(str(tmp_path))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file that it names gets the rows, be it there already or not."""
    for name in ("there", "not there yet"):
        real, link = tmp_path / name, tmp_path / f"link to {name}"
        if name == "there":
            real.write_text("old")
        link.symlink_to(real)
        with Output(str(link)) as output:
            output.write(row())
            output.finish()
        assert link.is_symlink()
        assert real.read_text().startswith('{"id":"a"')


def test_rows_of_an_earlier_collect_stay(tmp_path: Path) -> None:
    """They were acknowledged, so they are nowhere else; a row cut short was not, so it comes again."""
    path = tmp_path / "out"
    partial = tmp_path / "out.partial"
    partial.write_bytes(b'{"id":"one"}\n{"id":"tw')
    with Output(str(path), go_on=True) as output:
        assert output.left == 1
        output.write(row())
        assert partial.read_bytes().count(b"\n") == 2, "a row must be out before it is acknowledged"
        output.finish()
    first, second = path.read_text().splitlines()
    assert first == '{"id":"one"}'
    assert second.startswith('{"id":"a"')
