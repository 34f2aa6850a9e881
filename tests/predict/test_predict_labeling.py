from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from fake_runtime import FakeRuntime
from yolopose.base.errors import NotFoundError, OutputError, SourceError, UsageError
from yolopose.config import LabelOptions
from yolopose.data.convert.conversion import read_annotations
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import PointState
from yolopose.predict.labeling import LabelThresholds, label_source
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

KEYPOINTS = KeypointSchema(
    count=3, dims=3, names={0: ("nose", "left_ear", "right_ear")}, flip_idx=(0, 2, 1), skeleton=((0, 1), (0, 2))
)
METADATA = ModelMetadata(spec=PoseSpec(classes=("cat", "dog"), keypoints=KEYPOINTS), name="scripted")


@dataclass
class ScriptedRuntime(FakeRuntime):
    """Detects the same instances in every image: one cat at the top left, and one dog with a low confidence."""

    metadata: ModelMetadata = METADATA

    def infer(self, batch: np.ndarray, *, conf: float, **_: Any) -> Candidates:
        count = len(batch)
        points = [
            [[20, 20, 0.9], [30, 30, 0.4], [25, 35, 0.05]],
            [[50, 50, 0.9], [-40, 60, 0.9], [60, 55, 0.9]],
        ]
        scores = np.array([0.8, 0.15], np.float32)
        chosen = scores > conf
        return Candidates(
            boxes=np.tile(np.array([[10, 10, 40, 40], [45, 45, 63, 63]], np.float32)[chosen], (count, 1)),
            scores=np.tile(scores[chosen], count),
            classes=np.tile(np.array([0, 1])[chosen], count),
            points=np.tile(np.array(points, np.float32)[chosen], (count, 1, 1)),
            batch_idx=np.repeat(np.arange(count), chosen.sum()),
        )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("a", "sub/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), np.full((64, 64, 3), 128, np.uint8))
    return folder


def options(**values: Any) -> LabelOptions:
    return LabelOptions(imgsz=64, **values)


@pytest.mark.parametrize("to", ["yolo", "coco", "cvat", "labelstudio", "labelme", "via", "ndjson"])
def test_labels_are_read_back_from_every_format(to: str, images: Path, tmp_path: Path) -> None:
    given = options(to=to, output=str(tmp_path / "out"), copy=True)
    result = label_source(ScriptedRuntime(), str(images / "**/*.png"), given, model_name="net")
    record = read_annotations(result.output, source_format=to, options=ReadOptions(images=images))
    read = {Path(image.name).name: image for image in record.images()}
    assert sorted(read) == ["a.png", "b.png"]
    for image in read.values():
        (instance,) = image.instances  # the dog is below min_conf
        assert instance.category == "cat"
        assert instance.box is not None
        assert instance.box.corners == pytest.approx((10, 10, 40, 40), abs=0.01)
        states = {name: point.state for name, point in instance.points.items() if point.state}
        assert states == {"nose": PointState.VISIBLE, "left_ear": PointState.HIDDEN}
        assert instance.points["left_ear"][:2] == pytest.approx((30, 30), abs=0.01)
        if to not in ("ndjson", "via"):
            assert instance.confidence == pytest.approx(0.8)
            assert instance.points["nose"].confidence == pytest.approx(0.9)


def test_points_outside_of_the_image_are_absent_and_thresholds_decide(images: Path, tmp_path: Path) -> None:
    given = options(min_conf=0.1, kpt_conf=0.3, min_kpt_conf=0.01, output=str(tmp_path / "out"), to="ndjson")
    result = label_source(ScriptedRuntime(), str(images / "a.png"), given, model_name="net")
    assert dict(result.report.instances) == {"": 2}
    (image,) = read_annotations(result.output).images()
    states = [[int(instance.points[name].state) if name in instance.points else 0 for name in KEYPOINTS.names[0]]
              for instance in image.instances]  # fmt: skip
    assert states == [[2, 2, 1], [2, 0, 2]]


def test_label_studio_gets_predictions_with_score_and_version(images: Path, tmp_path: Path) -> None:
    given = options(to="labelstudio", output=str(tmp_path / "out"), url="https://example.org/")
    result = label_source(ScriptedRuntime(), str(images / "**/*.png"), given, model_name="net-v3")
    tasks = json.loads(result.output.read_text())
    assert [task["predictions"][0]["model_version"] for task in tasks] == ["net-v3", "net-v3"]
    assert tasks[0]["predictions"][0]["score"] == pytest.approx(0.8)
    assert not any(task.get("annotations") for task in tasks)
    assert tasks[0]["data"]["image"].startswith("https://example.org/")


def test_labels_without_instances_are_warned_of(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for min_conf, count in ((0.99, 1), (0.25, 0)):
        given = options(to="cvat", output=str(tmp_path / str(min_conf)), min_conf=min_conf)
        label_source(ScriptedRuntime(), str(images / "**/*.png"), given, model_name="net")
        assert capsys.readouterr().err.count("the labels are empty") == count


def test_suggestions_are_written_with_reasons(images: Path, tmp_path: Path) -> None:
    for index in range(4):
        cv2.imwrite(str(images / f"{index}.png"), np.random.default_rng(index).integers(0, 255, (64, 64, 3), np.uint8))
    given = options(suggest=3, output=str(tmp_path / "out"))
    result = label_source(ScriptedRuntime(), str(images / "**/*.png"), given, model_name="net")
    assert [suggestion.rank for suggestion in result.suggestions] == [1, 2, 3]
    assert sum(result.report.images.values()) == 3
    assert result.list_file == tmp_path / "out/suggestions.csv"
    with result.list_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert all(row["reason"] and Path(row["source"]).is_file() for row in rows)


def test_labeled_images_are_not_suggested_again(images: Path, tmp_path: Path) -> None:
    other = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(images / "new.png"), other)
    labeled = tmp_path / "labeled"
    (labeled / "images").mkdir(parents=True)
    shutil.copy(images / "a.png", labeled / "images/a.png")
    (labeled / "data.yaml").write_text("path: .\ntrain: images\nnames: [cat]\nkpt_shape: [3, 3]\n")
    given = options(suggest=1, labeled=str(labeled / "data.yaml"), output=str(tmp_path / "out"))
    result = label_source(ScriptedRuntime(), str(images / "**/*.png"), given, model_name="net")
    assert result.suggestions[0].record.name == "new.png"
    assert "unlike the labeled" in result.suggestions[0].reason


def test_frames_and_arrays_are_written_as_images(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "walk.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 64))
    for shade in (40, 120, 200):
        writer.write(np.full((64, 64, 3), shade, np.uint8))
    writer.release()
    given = options(to="coco", output=str(tmp_path / "video"))
    result = label_source(ScriptedRuntime(), str(tmp_path / "walk.mp4"), given, model_name="net")
    images = list(read_annotations(result.output).images())
    assert [image.name for image in images] == [f"walk_{number:06}.jpg" for number in (1, 2, 3)]
    assert all(image.path is not None and image.path.is_file() for image in images)
    array = np.zeros((64, 64, 3), np.uint8)
    result = label_source(ScriptedRuntime(), [array, array], options(output=str(tmp_path / "x")), model_name="net")
    assert sorted(path.name for path in (tmp_path / "x/images").rglob("*.jpg")) == ["image0.jpg", "image1.jpg"]


def test_unreadable_images_are_counted(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.png").write_bytes(b"no image")
    result = label_source(
        ScriptedRuntime(), str(images / "**/*.png"), options(output=str(tmp_path / "out")), model_name="net"
    )
    assert result.unreadable == 1
    assert sum(result.report.images.values()) == 2
    assert "broken.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"to": "cvta"}, UsageError, "Did you mean 'cvat'"),
        ({"min_kpt_conf": 0.8}, UsageError, r"min_kpt_conf=0.8 is above kpt_conf=0.5"),
    ],
)
def test_impossible_options(
    values: dict[str, Any], error: type[Exception], message: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        label_source(
            ScriptedRuntime(),
            str(images / "**/*.png"),
            options(output=str(tmp_path / "out"), **values),
            model_name="net",
        )
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    with pytest.raises(OutputError, match="not an empty folder"):
        label_source(
            ScriptedRuntime(), str(images / "**/*.png"), options(output=str(tmp_path / "out")), model_name="net"
        )
    with pytest.raises(NotFoundError):
        label_source(ScriptedRuntime(), str(tmp_path / "none"), options(output=str(tmp_path / "x")), model_name="net")
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(SourceError):
        label_source(
            ScriptedRuntime(), str(tmp_path / "broken.png"), options(output=str(tmp_path / "x")), model_name="net"
        )
    assert not (tmp_path / "x").exists()


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(UsageError, match="is above"):
        LabelThresholds(0.2, 0.3, 0.4)
