"""Loggers: selected by option or setting, written at each epoch; a failing one does not end the training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import DependencyError, UsageError
from yolopose.base.settings import load_settings, write_settings
from yolopose.train.loggers import LOGGERS, select_loggers

# libraries that record their calls; names of metrics are checked as MLflow does
FAKE = """
import json, re, sys
from pathlib import Path
CALLS = Path(__file__).with_name(__name__ + ".jsonl")
class Log:
    def __getattr__(self, name):
        def call(*args, **named):
            if name == "log_metrics":
                assert all(re.fullmatch(r"[\\w\\-. /:]+", key) for key in args[0])
            if FAIL and name.startswith("log"):
                raise OSError("no connection")
            with CALLS.open("a") as file:
                file.write(json.dumps([name, args, named]) + "\\n")
            return self
        return call
FAIL = False
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(Log(), name)
"""


@pytest.fixture
def fake_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "libraries"
    folder.mkdir()
    for name in ("wandb", "mlflow", "trackio"):
        (folder / f"{name}.py").write_text(FAKE)
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return folder


def run(tmp_path: Path, **options: Any) -> YOLO:
    data, model_yaml = make_world(tmp_path / "blocks")
    model = YOLO(model_yaml)
    model.train(data=data, **{**FAST, "project": tmp_path / "runs", **options})
    return model


def recorded_calls(folder: Path, name: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def test_each_epoch_is_logged(fake_libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    model = run(tmp_path, loggers="wandb, mlflow,trackio")
    rows = list(csv.DictReader(model.trainer.csv.open()))
    kinds = {"wandb": ("log", "init", "finish"), "mlflow": ("log_metrics", "start_run", "end_run")}
    for name in ("wandb", "mlflow", "trackio"):
        write, start, end = kinds.get(name, ("log", "init", "finish"))
        calls = recorded_calls(fake_libraries, name)
        assert [call[0] for call in calls].count(start) == 1
        assert calls[-1][0] == end
        written = [args[0] for call, args, _ in calls if call == write]
        assert len(written) == 2
        for row, numbers in zip(rows, written, strict=True):
            plain = {key.replace("(", "").replace(")", ""): value for key, value in numbers.items()}
            for key in ("train/box_loss", "metrics/mAP50(P)", "val/cls_loss", "lr/pg2"):
                assert plain[key.replace("(", "").replace(")", "")] == pytest.approx(float(row[key]), rel=1e-5)
    (init,) = (named for call, _, named in recorded_calls(fake_libraries, "wandb") if call == "init")
    assert (init["mode"], init["project"], init["name"], init["config"]["epochs"]) == ("offline", "runs", "train", 2)
    model.train(data=tmp_path / "blocks/blocks.yaml", **{**FAST, "project": tmp_path / "runs"})
    assert [call[0] for call in recorded_calls(fake_libraries, "wandb")].count(
        "init"
    ) == 1  # the next run has no logger


def test_a_failing_logger_does_not_end_the_run(
    fake_libraries: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fake_libraries / "wandb.py").write_text(FAKE.replace("FAIL = False", "FAIL = True"))
    model = run(tmp_path, loggers=["wandb"])
    assert model.trainer.epoch == 1
    assert capsys.readouterr().err.count("wandb failed and is closed (OSError: no connection)") == 1


def test_settings_select_installed_loggers(fake_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.train.loggers.callbacks._is_installed", lambda name: name != "tensorboard")
    assert select_loggers(None, load_settings()) == []
    write_settings({"wandb": "True", "tensorboard": "true", "mlflow": "False"})
    assert select_loggers(None, load_settings()) == ["wandb"]
    assert select_loggers("", load_settings()) == []
    with pytest.raises(DependencyError, match="pip install tensorboard"):
        select_loggers("tensorboard", load_settings())
    with pytest.raises(UsageError, match="Did you mean 'wandb'"):
        select_loggers("wandbb", load_settings())


def test_a_missing_library_is_an_error_before_files_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolopose.train.loggers.callbacks._is_installed", lambda name: False)
    for name in LOGGERS:
        with pytest.raises(DependencyError, match=name):
            run(tmp_path, loggers=name)
    assert not (tmp_path / "runs").exists()


def test_tensorboard_has_each_epoch_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = run(tmp_path, loggers="tensorboard")
    events = EventAccumulator(str(model.trainer.save_dir))
    events.Reload()
    rows = list(csv.DictReader(model.trainer.csv.open()))
    for key in ("train/pose_loss", "metrics/mAP50-95(P)", "lr/pg0"):
        found = [(event.step, event.value) for event in events.Scalars(key)]
        assert found == [(int(row["epoch"]), pytest.approx(float(row[key]), rel=1e-4)) for row in rows]
