from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import yolopose.model
from yolopose import __version__
from yolopose.base.settings import settings_file
from yolopose.cli import main
from yolopose.config import MODES, OptionSpec, check, make_options
from yolopose.config.check import check_value


class FakeYOLO:
    """Replace `YOLO` and record the calls."""

    calls: ClassVar[list[tuple[str, Any, dict[str, Any]]]] = []
    errors: ClassVar[list[str | None]] = [None]

    def __init__(self, model: str) -> None:
        self.model = model

    def _predict(self, source: Any, options: dict[str, Any]) -> Iterator[Any]:
        self.calls.append((self.model, source, options))
        yield from (SimpleNamespace(error=error) for error in self.errors)

    def _val(self, options: dict[str, Any]) -> None:
        self.calls.append((self.model, None, options))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    monkeypatch.setattr(yolopose.model, "YOLO", FakeYOLO)
    monkeypatch.setattr(FakeYOLO, "calls", [])
    return FakeYOLO.calls


def test_predict_saves_by_default_and_streams(
    calls: list[tuple[str, Any, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "source=a.jpg", "conf=0.5", "epochs=3", "stream=False"]) == 0
    assert calls == [("yolo11n-pose.pt", "a.jpg", {"save": True, "stream": False, "conf": 0.5})]
    shown = capsys.readouterr()
    assert "No model= given: using yolo11n-pose.pt." in shown.out
    assert shown.err.count("epochs=3 has no effect") == 1


def test_cfg_file_sets_model_source_and_save(
    calls: list[tuple[str, Any, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("model: a.pt\nsource: a.jpg\nsave: false\nconf: 0.5\niou: 0.4\ndata: d.yaml\n", encoding="utf-8")
    assert main(["predict", f"cfg={file}", "conf=0.6"]) == 0
    assert main(["val", f"cfg={file}"]) == 0
    assert calls == [
        ("a.pt", "a.jpg", {"save": False, "conf": 0.6, "iou": 0.4}),
        ("a.pt", None, {"data": "d.yaml", "conf": 0.5, "iou": 0.4}),
    ]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("line", ["predict source=a.jpg conf=0.5 iou=0.6 verbose=False", "val data=none.yaml conf=0.5"])
def test_each_option_is_checked_once(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def count(spec: OptionSpec, value: Any, where: str = "") -> Any:
        names.append(spec.name)
        return check_value(spec, value, where)

    monkeypatch.setattr(check, "check_value", count)
    assert main([*line.split(), "model=yolo11n-pose.yaml"]) == 1  # neither the image nor the data set exists
    assert sorted(names) == sorted([*(part.split("=")[0] for part in line.split()[1:]), "model"])


@pytest.mark.parametrize(
    ("errors", "status", "message"),
    [
        ([None, "damaged"], 0, "1 of 2 images could not be read"),
        (["damaged", "damaged"], 1, "None of the 2 images"),
        ([None], 0, ""),
        ([], 0, ""),
    ],
)
def test_status_of_unreadable_images(
    errors: list[str | None],
    status: int,
    message: str,
    calls: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(FakeYOLO, "errors", errors)
    assert main(["predict", "source=d"]) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (ZeroDivisionError("division by zero"), 1, "error: ZeroDivisionError: division by zero. YOLO_DEBUG=1"),
        (PermissionError(13, "Permission denied", "x.jpg"), 1, "Permission denied: 'x.jpg'"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_unexpected_errors_are_one_line(
    error: BaseException, status: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(yolopose.model, "YOLO", fail)
    assert main(["val", "data=d.yaml"]) == status
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == (1 if message else 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("predict source=a.jpg imgzs=3", "Did you mean 'imgsz'"),
        ("predict model=yolo11n-pose.yaml", "needs images"),
        ("predict model=none-such.pt source=a.jpg", "The weights file none-such.pt does not exist"),
        ("predict model=yolo11n-pose.pt source=a.jpg", "offline mode"),
        ("predict model=yolo11n-pose.yaml source=none-such.jpg", "none-such.jpg"),
        ("predict model=yolo11q-pose.yaml source=a.jpg", "no scale 'q'"),
        ("predict model=a.onnx source=a.jpg", "The exported file a.onnx does not exist"),
        ("val model=yolo11n-pose.yaml", "needs a data set"),
        ("val model=yolo11n-pose.yaml data=none-such.yaml", "none-such.yaml"),
        ("train model=yolo11n-pose.yaml data=none-such.yaml", "none-such.yaml"),
        ("train model=yolo11n-pose.yaml", "needs a data set"),
        ("train model=yolo11n-pose.yaml data=coco8-pose.yaml epoch=3", "Did you mean 'epochs'"),
        ("train resume=none-such.pt", "none-such.pt"),
        ("train resume=True model=yolo11n-pose.yaml", "last.pt of an interrupted run"),
        ("export model=yolo11n-pose.yaml format=onx", "Did you mean 'onnx'"),
        ("export model=yolo11n-pose.yaml format=pt", "model.save"),
        ("settings nosuch=1", "Unknown setting 'nosuch'"),
        ("copy-cfg conf=1", "takes no options; got conf"),
    ],
)
def test_errors_are_one_paragraph_and_exit_1(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 1
    shown = capsys.readouterr().err
    assert message in shown
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


def test_settings_are_printed_and_changed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "runs_dir=elsewhere"]) == 0
    assert "runs_dir: elsewhere" in capsys.readouterr().out
    assert main(["settings", "reset"]) == main(["settings", "reset"]) == 0
    assert "runs_dir: runs\n" in capsys.readouterr().out
    assert not settings_file().exists()


def test_a_damaged_settings_file_can_be_reset_and_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("- a list")
    assert main(["settings"]) == 1
    assert main(["checks"]) == 0
    assert "SETTINGS: The settings file" in capsys.readouterr().out
    assert main(["settings", "reset"]) == 0


def test_copy_cfg_is_usable_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["copy-cfg"]) == 0
    for mode in MODES:
        assert make_options(mode, {"cfg": "default_copy.yaml"}) == make_options(mode, {})
    assert main(["copy-cfg"]) == 1
    assert "already exists" in capsys.readouterr().err
    assert main(["predict", "cfg=default_copy.yaml", "source=none.jpg", "model=yolo11n-pose.yaml"]) == 1
    assert "none.jpg" in capsys.readouterr().err


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yolopose", "nosuch"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: 'nosuch'")


def test_help_on_an_ascii_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "yolopose", "help", "train"],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"epochs=100" in done.stdout


LOGS = """
import sys
from yolopose.base.log import LOGGER
from yolopose.cli import main
sys.modules["yolopose.cli.main"]._ACTIONS["version"] = lambda _: LOGGER.info("a line of a long run")
sys.exit(main(["version"]))
"""


@pytest.mark.parametrize("message", [["-m", "yolopose", "help"], ["-c", LOGS]])
def test_a_closed_pipe_ends_quietly(message: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)  # the reader has left before the first line
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run([sys.executable, *message], stdout=gone, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (141, b"")
