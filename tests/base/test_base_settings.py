from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean
from yolopose.base.log import LOGGER, quiet, warn_once
from yolopose.base.progress import progress
from yolopose.base.settings import cache_dir, config_dir, load_settings, settings_file, write_settings
from yolopose.base.yamlfile import read_yaml


def test_reading_settings_writes_nothing() -> None:
    assert load_settings().runs_dir == "runs"
    assert not settings_file().exists()


def test_environment_wins_over_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_settings({"runs_dir": "from-file"}).runs_dir == "from-file"
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", "from-environment")
    assert load_settings().runs_dir == "from-environment"
    monkeypatch.delenv("YOLOPOSE_RUNS_DIR")
    assert load_settings().runs_dir == "from-file"


def test_unknown_setting_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'runs_dir'"):
        write_settings({"run_dir": "x"})
    assert not settings_file().exists()


@pytest.mark.parametrize("text", ["- a list", "a: [", "\udcff"])
def test_damaged_settings_file_is_named(text: str) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=r"settings\.yaml"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1,\nb: 2", "line 2"), (b"- 1", "holds list"), (b"", "holds NoneType"), (b"\xff\xfe\x00", "not UTF-8")],
)
def test_bad_yaml_names_file_and_line(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_yaml(file, "data YAML", DataError)
    assert str(file) in str(error.value)


def test_yaml_is_read_safely(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("a: !!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(DataError, match="could not determine a constructor"):
        read_yaml(file, "data YAML", DataError)
    with pytest.raises(NotFoundError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml", "data YAML", DataError)
    with pytest.raises(DataError, match="is a folder"):
        read_yaml(tmp_path, "data YAML", DataError)


def test_ignores_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("a: 1", encoding="utf-8-sig")
    assert read_yaml(file, "data YAML") == {"a": 1}


def test_errors_are_builtin_exceptions() -> None:
    assert isinstance(NotFoundError("x"), FileNotFoundError)
    assert str(NotFoundError("one paragraph")) == "one paragraph"
    assert did_you_mean("imgzs", ["imgsz", "conf"]) == " Did you mean 'imgsz'?"
    assert did_you_mean("qqqq", ["imgsz", "conf"]) == ""


def test_quiet_and_warn_once(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet():
        LOGGER.info("hidden")
    LOGGER.info("shown")
    warn_once("just once, for this test")
    warn_once("just once, for this test")
    captured = capsys.readouterr()
    assert captured.out == "shown\n"
    assert captured.err.count("just once") == 1
    assert LOGGER.level == logging.INFO


def test_progress_passes_items_through() -> None:
    assert list(progress(iter([3, 1, 2]), "counting")) == [3, 1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="folders of Windows")
@pytest.mark.parametrize(
    ("variables", "config", "cache", "data"),
    [
        ({"HOME": "/h"}, "/h/.config/yolopose", "/h/.cache/yolopose", "/h/.local/share/yolopose/weights"),
        (
            {"XDG_CONFIG_HOME": "/c", "XDG_CACHE_HOME": "/k", "XDG_DATA_HOME": "/d"},
            "/c/yolopose",
            "/k/yolopose",
            "/d/yolopose/weights",
        ),
        ({"YOLOPOSE_CONFIG_DIR": "/y", "HOME": "/h"}, "/y", "/y/cache", "/h/.local/share/yolopose/weights"),
    ],
)
def test_folders_of_settings_cache_and_data(
    variables: dict[str, str], config: str, cache: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("XDG_", "YOLOPOSE_")):
            monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (str(config_dir()), str(cache_dir()), load_settings().weights_dir) == (config, cache, data)
