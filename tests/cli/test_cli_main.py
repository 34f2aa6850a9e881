from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from yolopose import __version__
from yolopose.cli import main


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict source=a.jpg imgzs=3", "Did you mean 'imgsz'"),
        ("predict model=yolo11n-pose.yaml", "needs pictures"),
        ("predict model=none-such.pt source=a.jpg", "There is no weights file"),
        ("predict model=yolo11n-pose.pt source=a.jpg", "public weights (AGPL-3.0)"),
        ("predict model=yolo11n-pose.yaml source=none-such.jpg", "none-such.jpg"),
        ("predict model=yolo11q-pose.yaml source=a.jpg", "no scale 'q'"),
        ("predict model=a.onnx source=a.jpg", "not in this version"),
        ("val model=yolo11n-pose.yaml", "needs a data set"),
        ("val model=yolo11n-pose.yaml data=none-such.yaml", "none-such.yaml"),
        ("train data=a.yaml", "not in this version"),
        ("export", "not in this version"),
        ("settings nosuch=1", "no setting 'nosuch'"),
    ],
)
def test_errors_are_one_paragraph_and_exit_1(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 1
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("YOLO_DEBUG", "1")
    assert main(["settings", "nosuch=1"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == main(["help"]) == main(["help", "predict"]) == main(["checks"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(__version__)
    assert "conf=" in shown
    assert len([line for line in shown.splitlines() if "yolo pose predict model=" in line]) == 1


def test_settings_are_shown_and_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "runs_dir=elsewhere"]) == 0
    assert "runs_dir: elsewhere" in capsys.readouterr().out


def test_copy_cfg_is_whole_usable_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["copy-cfg"]) == 0
    assert main(["copy-cfg"]) == 1
    assert "already there" in capsys.readouterr().err
    assert main(["predict", "cfg=default_copy.yaml", "source=none.jpg", "model=yolo11n-pose.yaml"]) == 1
    assert "none.jpg" in capsys.readouterr().err


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yolopose", "nosuch"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'nosuch'")
