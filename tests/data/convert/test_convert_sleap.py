"""SLEAP and NWB files, against those that sleap-io itself makes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from made_records import datasets, restorable, write_image
from test_convert_foreign_round_trips import Make, few

from yolopose.base.errors import DataError, DependencyError
from yolopose.data.convert.conversion import convert, read_annotations, write_annotations
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import (
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)
from yolopose.data.convert.registry import get_format

sio = pytest.importorskip("sleap_io")


def labels(videos: list[Any], *instances: Any, frame: int = 0) -> Any:
    frames = [sio.LabeledFrame(video=videos[0], frame_idx=frame, instances=list(instances))]
    return sio.Labels(labeled_frames=frames, videos=videos, skeletons=[SKELETON])


SKELETON = sio.Skeleton(["left_ear", "right_ear", "tail"], edges=[("left_ear", "tail")], name="mouse")
SKELETON.add_symmetry("left_ear", "right_ear")
POINTS = np.array([[10, 20, 1, 1], [30, 40, 0, 1], [np.nan, np.nan, 0, 0]], dtype=float)


@pytest.fixture
def sequence(tmp_path: Path) -> Any:
    files = [write_image(tmp_path / f"frames/f{index}.png") for index in range(3)]
    return sio.Video.from_filename([str(file) for file in files])


def test_a_project_of_images(sequence: Any, tmp_path: Path) -> None:
    track = sio.Track("ann")
    user = sio.Instance(points=POINTS, skeleton=SKELETON, track=track)
    predicted = sio.PredictedInstance.from_numpy(POINTS[:, :2] + 1, SKELETON, np.array([0.5, 0.25, 0]), score=0.75)
    replaced = sio.PredictedInstance.from_numpy(POINTS[:, :2] + 2, SKELETON, score=0.5)
    user.from_predicted = replaced
    sio.save_slp(labels([sequence], user, predicted, replaced, frame=2), str(tmp_path / "a.slp"), verbose=False)
    dataset = read_annotations(tmp_path / "a.slp")
    (template,) = dataset.classes
    assert (template.name, template.keypoints) == ("mouse", ("left_ear", "right_ear", "tail"))
    assert (template.skeleton, template.mirror) == ((("left_ear", "tail"),), (("left_ear", "right_ear"),))
    issues = IssueLog()
    (image,) = dataset.images(issues)
    assert (image.name, image.path) == ("f2.png", tmp_path / "frames/f2.png")
    first, second = image.instances
    assert first.points == {"left_ear": Point(10, 20), "right_ear": Point(30, 40, PointState.ABSENT)}
    assert first.track_id == "ann"
    assert second.confidence == 0.75
    assert second.points["left_ear"] == Point(11, 21, PointState.VISIBLE, 0.5)
    assert issues.changed["points that are not visible were read as absent"].count == 1
    assert issues.skipped["predicted instances that were corrected by hand"].count == 1
    options = ReadOptions(values={"hidden": True, "predicted": False})
    (image,) = read_annotations(tmp_path / "a.slp", options=options).images()
    assert [instance.points["right_ear"].state for instance in image.instances] == [PointState.HIDDEN]


def test_embedded_images_are_written(sequence: Any, tmp_path: Path) -> None:
    instance = sio.Instance(points=POINTS, skeleton=SKELETON)
    sio.save_slp(labels([sequence], instance, frame=1), str(tmp_path / "a.pkg.slp"), embed=True, verbose=False)
    for file in (tmp_path / "frames").iterdir():
        file.unlink()
    report = convert(tmp_path / "a.pkg.slp", tmp_path / "set", to="yolo", verbose=False)
    assert not report.skipped
    (image,) = (tmp_path / "set/images").rglob("*.png")
    assert cv2.imread(str(image)).mean() == pytest.approx(90, abs=1)


def test_frames_of_videos_are_written(tmp_path: Path) -> None:
    from test_convert_deeplabcut import write_video

    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos/m1.avi")
    metadata = {"type": "MediaVideo", "filename": "C:\\lab\\m1.avi", "shape": [4, 60, 80, 3], "grayscale": False}
    video = sio.Video(filename="C:\\lab\\m1.avi", backend_metadata=metadata, open_backend=False)
    instance = sio.Instance(points=POINTS, skeleton=SKELETON)
    sio.save_slp(labels([video], instance, frame=2), str(tmp_path / "a.slp"), verbose=False)
    convert(tmp_path / "a.slp", tmp_path / "set", to="yolo", verbose=False)
    (image,) = (tmp_path / "set/images").rglob("*.png")
    assert cv2.imread(str(image)).mean() == pytest.approx(120, abs=4)


@few
@given(make=datasets())
def test_slp_restores_what_it_can_hold(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("slp")
    dataset = make(folder / "source")
    report = write_annotations(dataset, folder / "output", to="sleap", verbose=False)
    restored = read_annotations(report.output)
    target = get_format("sleap")
    assert restorable(restored, target) == restorable(dataset, target)
    assert restored.classes == dataset.classes


@few
@given(make=datasets())
def test_nwb_restores_what_it_can_hold(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("nwb")
    target = get_format("nwb")
    dataset = make(folder / "source")
    assume(any(row["instances"] for row in restorable(dataset, target)))
    report = write_annotations(dataset, folder / "output", to="nwb", verbose=False)
    restored = read_annotations(report.output)
    expected = [_labeled(image.instances) for image in dataset.images()]
    actual = [_labeled(image.instances) for image in restored.images()]
    assert sorted(filter(None, actual)) == sorted(filter(None, expected))


def _labeled(instances: Any) -> list[Any]:
    """Return class and labeled points of each instance; their state is lost."""
    points = [
        (instance.category, {name: tuple(point[:2]) for name, point in instance.points.items() if point.state})
        for instance in instances
    ]
    return sorted((category, sorted(named.items())) for category, named in points if named)


@pytest.mark.parametrize(("name", "loader"), [("a.slp", "SLEAP"), ("a.nwb", "NWB")])
def test_damaged_files_are_errors(name: str, loader: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(DataError, match=name):
        read_annotations(tmp_path / name)


@pytest.mark.parametrize("name", ["a.slp", "a.nwb"])
def test_a_missing_library_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sleap_io", None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DependencyError, match=r"yolopose\[sleap\]"):
        read_annotations(tmp_path / name)


def many_classes(tmp_path: Path, used: int) -> DatasetRecord:
    """100 classes of 30 keypoints, of which some have an instance in the only image."""
    names = tuple(f"keypoint_number_{index}" for index in range(30))
    classes = [ClassTemplate(name=f"animal {index}", keypoints=names) for index in range(100)]
    points = {name: Point(index, index + 1) for index, name in enumerate(names)}
    instances = [Instance(category=template.name, points=points) for template in classes[:used]]
    file = write_image(tmp_path / "a.png")
    image = ImageRecord(name="a.png", width=64, height=48, path=file, instances=instances)
    return DatasetRecord(classes=classes, read_images=lambda _: iter([image]))


def test_classes_without_instances_need_no_room(tmp_path: Path) -> None:
    write_annotations(many_classes(tmp_path, 2), tmp_path / "out", to="sleap", verbose=False)
    back = read_annotations(tmp_path / "out" / "labels.slp", source_format="sleap")
    assert [template.name for template in back.classes] == [f"animal {index}" for index in range(100)]
    (image,) = back.images(IssueLog())
    assert [instance.category for instance in image.instances] == ["animal 0", "animal 1"]


def test_too_many_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a skeleton for each class"):
        write_annotations(many_classes(tmp_path, 100), tmp_path / "out", to="sleap", verbose=False)
    assert not list((tmp_path / "out").rglob("*.slp"))
