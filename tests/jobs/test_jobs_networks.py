"""Networks of other packages and of four channels in jobs: rows equal what `predict` returns."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from job_worlds import FakePredictor, FakeYOLO

import foreign_graphs
from fake_runtime import SPEC
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.config import BatchOptions
from yolopose.jobs import read_rows, run_job
from yolopose.jobs.entries import Entry
from yolopose.jobs.job import _RESULT_OPTIONS, _find_model
from yolopose.results import Results

# options of `batch` that decide where and how a job runs, not what is in its rows
_RUN_OPTIONS = {
    "model", "device", "verbose", "source", "output", "engine", "shard", "workers", "threads", "gpus", "address",
    "task", "verify", "update", "retry_errors",
}  # fmt: skip


def make_photos(folder: Path) -> list[Path]:
    """JPEGs of different sizes, one large enough to be decoded at a reduced scale."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    files: list[Path] = []
    for number, (height, width) in enumerate([(120, 160), (90, 70), (600, 800)]):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        files.append(folder / f"{number}.jpg")
        cv2.imwrite(str(files[-1]), cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    return files


def test_every_option_is_stored_with_the_job_or_only_about_its_run() -> None:
    names = {field.name for field in fields(BatchOptions)}
    assert set(_RESULT_OPTIONS) | _RUN_OPTIONS == names
    assert not set(_RESULT_OPTIONS) & _RUN_OPTIONS


@pytest.mark.parametrize(
    ("graph", "options"),
    [
        ("rtmo", {}),
        ("rtmo", {"fast_decode": True, "batch": 2}),
        ("simcc", {"detector": "image"}),
        ("simcc", {"detector": "detector.onnx"}),
        ("heat_maps", {"given_boxes": "boxes.json"}),
    ],
)
def test_networks_of_other_packages(
    graph: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    model = getattr(foreign_graphs, graph)(tmp_path / f"{graph}.onnx")
    foreign_graphs.rtmo(tmp_path / "detector.onnx", seed=1)
    files = make_photos(tmp_path / "photos")
    boxes = [{"image_id": int(file.stem), "bbox": [5, 6, 50, 60], "score": 0.9, "category_id": 1} for file in files]
    Path("boxes.json").write_text(json.dumps(boxes))
    options = {"device": "cpu", "conf": 0.1, "verbose": False, **options}
    result = run_job("photos", "job", model=str(model), workers=1, **options)
    assert (result.rows, result.errors) == (3, 0)
    expected = YOLO(model).predict([str(file) for file in files], **options)
    assert sum(map(len, expected)) > 0
    for row, other in zip(read_rows("job"), expected, strict=True):
        np.testing.assert_allclose(row["boxes"].reshape(-1, 4), other.boxes.xyxy, atol=1e-3)
        np.testing.assert_allclose(row["keypoints"].reshape(-1, 17, 3), other.keypoints.data, atol=1e-3)


def test_a_job_cannot_continue_with_another_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    model = str(foreign_graphs.simcc(tmp_path / "simcc.onnx"))
    make_photos(tmp_path / "photos")
    run_job("photos", "job", model=model, detector="image", workers=1, device="cpu", verbose=False)
    with pytest.raises(UsageError, match="detector"):
        run_job("photos", "job", model=model, detector="rtmo.onnx", workers=1, device="cpu", verbose=False)


def test_names_of_networks_of_other_packages_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rtmo-s.onnx"
    monkeypatch.setattr("yolopose.model.foreign_models.foreign_file", lambda row: file)
    monkeypatch.chdir(tmp_path)
    assert _find_model("rtmo-s") == str(file)


class FourChannels(FakeYOLO):
    spec = replace(SPEC, channels=4)

    def predict(self, parts: list[Any], stream: bool, **options: Any) -> list[Results]:
        return [part.load() for part in parts]


class FourChannelPredictor(FakePredictor):
    def _open(self, model: str) -> Any:
        return FourChannels()


@pytest.mark.parametrize("fast_decode", [False, True])
def test_networks_for_four_channels_receive_the_fourth_channel_of_the_file(fast_decode: bool, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 4), dtype=np.uint8)
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), image)
    predictor = FourChannelPredictor("four.onnx", {"fast_decode": fast_decode}, "cpu")
    (loaded,) = list(predictor.images([Entry(str(file))]))
    np.testing.assert_array_equal(loaded.image, image)
