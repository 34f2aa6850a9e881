from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base import log
from yolopose.base.errors import DataError
from yolopose.data.convert import build_coco
from yolopose.data.dataset import load_dataset
from yolopose.data.label_file import FileLabels, LabelError, parse_label_files, parse_labels
from yolopose.data.labels import Annotations, load_labels
from yolopose.schema import KeypointSchema, PoseSpec

MakeSet = Callable[..., Path]
GOOD = "0 .5 .5 .2 .2 .4 .4 2 .6 .6 1"
BOX = "0 .5 .5 .2 .2"


@pytest.fixture
def log_text(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log.LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, logger="yolopose")
    return caplog


def load_val(yaml: Path, **options: bool) -> Annotations:
    return load_labels(load_dataset(yaml), "val", cache=False, workers=1, **options)


@pytest.mark.parametrize(
    ("text", "row", "column", "words"),
    [
        ("0 .5 .5 .2 .2 .4 .4 2 .6 .6", 1, 11, "10 values, but kpt_shape [2, 3] needs 5 + 2·3 = 11"),
        (GOOD + " 1", 1, 12, "12 values"),
        (f"{GOOD}\n\n{BOX}", 3, 6, "detection labels, without keypoints"),
        (f"{BOX} .4 .4 .6 .6", 1, 10, "matches `kpt_shape: [2, 2]`"),
        (f"{BOX} .4 .4 2" + " .4 .4 1" * 16, 1, 12, "has 56 values, but kpt_shape [2, 3] needs"),
        (f"{BOX} .4 .4 2" + " .4 .4 1" * 16, 1, 12, "this matches `kpt_shape: [17, 3]`"),
        (f"{BOX}" + " .4 .4 .6" * 4, 1, 12, "this matches `kpt_shape: [6, 2]`"),
        (f"{BOX}" + " .4 .4 .6" * 3, 1, 12, "this matches `kpt_shape: [3, 3]`"),
        (GOOD + " .87", 1, 12, "save_conf=True"),
        (f"{GOOD}\n0 .5 x .2 .2 .4 .4 2 .6 .6 1", 2, 3, "'x' is not a number"),
        (
            "0,.5,.5,.2,.2,.4,.4,2,.6,.6,1",
            1,
            2,
            "1 values, but kpt_shape [2, 3] needs 5 + 2·3 = 11; separate them by blanks",
        ),
        ("0 .5 nan .2 .2 .4 .4 2 .6 .6 1", 1, 3, "is not finite"),
        ("0 .5 .5 .2 inf .4 .4 2 .6 .6 1", 1, 5, "is not finite"),
        ("0 .5 .5 .2 1e99 .4 .4 2 .6 .6 1", 1, 5, "is not finite"),
        ("0.5 .5 .5 .2 .2 .4 .4 2 .6 .6 1", 1, 1, "class 0.5 is not a class"),
        (f"{GOOD}\n2 .5 .5 .2 .2 .4 .4 2 .6 .6 1", 2, 1, "integers from 0 to 1"),
        ("-1 .5 .5 .2 .2 .4 .4 2 .6 .6 1", 1, 1, "class -1"),
        ("0 -.1 .5 .2 .2 .4 .4 2 .6 .6 1", 1, 2, "cx -0.1 is negative"),
        ("0 .5 .5 .2 -.001 .4 .4 2 .6 .6 1", 1, 5, "h -0.001 is negative"),
        ("0 .5 .5 .2 .2 -.1 .4 2 .6 .6 1", 1, 6, "x of keypoint 0 -0.1 is negative"),
        ("0 .5 .5 .2 .2 .4 .4 -1 .6 .6 1", 1, 8, "v of keypoint 0 -1 is negative"),
        ("0 1.7 .5 .2 .2 .4 .4 2 .6 .6 1", 1, 2, "cx 1.7 is above 1"),
        ("0 .5 .5 .2 1.02 .4 .4 2 .6 .6 1", 1, 5, "h 1.02 is above 1"),
        (f"{GOOD}\n0 .5 .5 .2 .2 .4 .4 2 .6 1.011 1", 2, 10, "y of keypoint 1 1.011 is above 1"),
        (GOOD.encode() + b"\n0 .5 \xff", 2, 3, "not UTF-8"),
    ],
)
def test_issues_name_file_row_and_column(
    make_set: MakeSet, text: str | bytes, row: int, column: int, words: str
) -> None:
    yaml = make_set({"a": GOOD, "bad": text})
    table = load_val(yaml)
    assert [file.stem for file in table.files] == ["a"]
    (refusal,) = table.issues
    assert (refusal.file, refusal.row, refusal.column) == (yaml.parent / "labels/val/bad.txt", row, column)
    assert words in refusal.reason
    assert f"bad.txt, row {row}, column {column}: " in str(refusal)
    with pytest.raises(DataError, match=r"strict.*\n.*bad\.txt, row"):
        load_val(yaml, strict=True)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (GOOD, ""),
        ("\ufeff" + GOOD, ""),
        (GOOD.replace(" ", "\t") + "\r\n\r\n", ""),
        ("0.0 1.005 .5 .2 1.009 1.005 -.005 2 .6 .6 1", ""),
        ("1 .5 .5 0 .2 .4 .4 2 .6 .6 1", "without width or height"),
        ("0 .5 .5 .2 .2 .4 .4 7 .6 .6 1", "visibility other than"),
        (f"{GOOD}\n{GOOD}", "duplicate rows dropped"),
    ],
)
def test_accepted(make_set: MakeSet, log_text: pytest.LogCaptureFixture, text: str, note: str) -> None:
    table = load_val(make_set({"a": text}))
    values = [float(value) for value in text.split("\n")[0].strip("\ufeff").split()]
    labels = table[0]
    assert labels.classes.tolist() == values[:1]
    assert labels.boxes.ravel().tolist() == pytest.approx(values[1:5])
    assert labels.keypoints.ravel().tolist() == pytest.approx(values[5:])
    assert table.issues == ()
    assert ("accepted: " in log_text.text, note in log_text.text) == (bool(note), True)


def test_visibility_of_two_dimensional_keypoints(make_set: MakeSet) -> None:
    labels = load_val(make_set({"a": "0 .5 .5 .2 .2 -1 -1 0 0\n0 .4 .5 .2 .2 .3 -.5 1 1"}, dims=2))[0]
    assert labels.keypoints[..., 2].tolist() == [[0, 1], [0, 1]]
    assert labels.keypoints[0, 1].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.write_bytes(b""), "image does not decode"),
        (lambda path: path.write_bytes(path.read_bytes()[:-30]), "image does not decode"),
        (lambda path: path.write_bytes(b"junk" * 99), "image does not decode"),
        (lambda path: cv2.imwrite(str(path), np.zeros((9, 50, 3), np.uint8)), "image too small"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), "image does not exist"),
    ],
    ids=["empty", "cut", "junk", "small", "dangling"],
)
def test_bad_images_are_refused(make_set: MakeSet, damage: Callable[[Path], object], kind: str) -> None:
    yaml = make_set()
    damage(yaml.parent / "images/val/b.png")
    table = load_val(yaml)
    assert [file.stem for file in table.files] == ["a"]
    (refusal,) = table.issues
    assert (refusal.file.name, refusal.row, refusal.column, refusal.kind) == ("b.png", None, None, kind)


def test_accepts_a_side_of_ten_pixels(make_set: MakeSet) -> None:
    yaml = make_set()
    cv2.imwrite(str(yaml.parent / "images/val/b.png"), np.zeros((10, 50, 3), np.uint8))
    assert load_val(yaml).shapes.tolist() == [[60, 80], [10, 50]]


def test_flat_arrays_counts_and_one_summary(make_set: MakeSet, log_text: pytest.LogCaptureFixture) -> None:
    second = "1 .3 .3 .1 .1 .3 .3 0 .3 .3 0"
    images = {"a": "bad", "b": f"{GOOD}\n{second}", "c": None, "d": "\n", "e": "worse", "f": second}
    table = load_val(make_set(images))
    assert [file.stem for file in table.files] == ["b", "c", "d", "f"]
    assert table.offsets.tolist() == [0, 2, 2, 2, 3]
    assert table.classes.tolist() == [0, 1, 1]
    assert [len(table[index].boxes) for index in range(len(table))] == [2, 0, 0, 1]
    assert (table.boxes.dtype, table.keypoints.shape) == (np.float32, (3, 2, 3))
    counts = table.counts
    assert (counts.labeled, counts.missing, counts.empty, counts.background, counts.refused) == (2, 1, 1, 2, 2)
    warnings = [record.message for record in log_text.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "2  refused: wrong number of values; first: " in warnings[0]
    assert "a.txt, row 1, column 2" in warnings[0]


def test_subset(make_set: MakeSet) -> None:
    second = "1 .3 .3 .1 .1 .3 .3 0 .3 .3 0"
    annotations = load_val(make_set({"a": f"{GOOD}\n{second}", "b": None, "c": second, "d": "bad"}))
    for indices in ([2, 0], [1], [0, 1, 2], [1, 0, 0]):
        subset = annotations.subset(indices)
        assert subset.files == [annotations.files[index] for index in indices]
        for position, index in enumerate(indices):
            for name in ("classes", "boxes", "keypoints"):
                np.testing.assert_array_equal(getattr(subset[position], name), getattr(annotations[index], name))
        labeled = sum(index != 1 for index in indices)
        counts = subset.counts
        assert (counts.labeled, counts.background, counts.refused) == (labeled, len(indices) - labeled, 1)


def test_single_class(make_set: MakeSet) -> None:
    assert load_val(make_set({"a": "1" + GOOD[1:]}), single_cls=True).classes.tolist() == [0]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"a": "x", "b": "y"}, ["2 of 2 images are refused", "a.txt, row 1", "b.txt, row 1"]),
        (
            {"a": None, "b": ""},
            [
                "none of 2 images has a labeled instance",
                "1 have no label file, 1 have an empty one",
                "labels/val/a.txt",
            ],
        ),
        ({"a": None, "b": "x"}, ["none of 2 images has a labeled instance", "b.txt, row 1"]),
    ],
)
def test_errors_without_usable_labels(make_set: MakeSet, images: dict[str, str | None], words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load_val(make_set(images))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "objects", "background"),
    [("coco-mini", 356, 15), ("coco8-pose", 14, 0), ("mouse", 23, 0), ("zoo-mini/deepfasion2", 2, 0),
     ("zoo-mini/freihand", 8, 0), ("zoo-mini/ap10k", 2, 0)],
)  # fmt: skip
def test_shared_data_sets(shared: Path, folder: str, objects: int, background: int) -> None:
    path = shared / "data" / folder
    table = load_val(path / f"{path.name}.yaml")
    lines = sum(len(file.read_text().split("\n")) - 1 for file in (path / "labels/val").glob("*.txt"))
    assert len(table.classes) == objects
    assert lines in (objects, objects - len(table) + background)  # with or without a last line end
    assert (table.counts.background, table.counts.refused) == (background, 0)


@pytest.mark.parametrize(
    ("dims", "row", "visibility"),
    [
        (2, f"{BOX} -1 -1 .6 .6", [0, 1]),
        (2, f"{BOX} .4 -.2 .6 .6", [0, 1]),
        (2, f"{BOX} 0 0 .6 .6", [1, 1]),
        (3, f"{BOX} .4 .4 0.73 .6 .6 0.02", [0.73, 0.02]),
        (3, f"{BOX} -1 -1 0 .6 .6 1", [0, 1]),
        (3, f"{BOX} 6.2 -.3 0 .6 .6 2", [0, 2]),
    ],
)
def test_one_rule_of_what_is_labeled(make_set: MakeSet, dims: int, row: str, visibility: list[float]) -> None:
    yaml = make_set({"a": row}, dims=dims)
    keypoints = load_val(yaml)[0].keypoints
    np.testing.assert_allclose(keypoints[0, :, 2], visibility)
    content = build_coco(load_dataset(yaml), load_dataset(yaml).image_files("val"))
    (annotation,) = content["annotations"]
    flags = annotation["keypoints"][2::3]
    assert [flag > 0 for flag in flags] == [v > 0 for v in visibility]
    assert annotation["num_keypoints"] == sum(v > 0 for v in visibility)
    for index, flag in enumerate(flags):
        x, y = annotation["keypoints"][3 * index : 3 * index + 2]
        expected = keypoints[0, index, :2] * (80, 60) if flag else (0, 0)
        np.testing.assert_allclose((x, y), expected, rtol=1e-5)


def test_coordinates_outside_are_ignored_only_without_label(
    make_set: MakeSet, log_text: pytest.LogCaptureFixture
) -> None:
    yaml = make_set({"a": f"{BOX} -1 3 0 .6 .6 2", "b": f"{BOX} -1 .3 1 .6 .6 2", "c": f"{BOX} .1 .3 -.005 .6 .6 2"})
    table = load_val(yaml)
    assert [file.stem for file in table.files] == ["a"]
    assert table[0].keypoints[0, 0].tolist() == [0, 0, 0]
    assert "v = 0 outside the image" in log_text.text
    assert [issue.kind for issue in table.issues] == ["negative value"] * 2


def test_points_at_0_0_without_v_are_warned_of(make_set: MakeSet, log_text: pytest.LogCaptureFixture) -> None:
    load_val(make_set({"a": f"{BOX} 0 0 .6 .6"}, dims=2))
    assert "keypoints at 0 0 (they count as labeled" in log_text.text


@pytest.mark.parametrize("cls", ["1", "2", "79"])
def test_single_cls_accepts_every_class(make_set: MakeSet, cls: str) -> None:
    yaml = make_set({"a": GOOD, "b": cls + GOOD[1:]})
    table = load_val(yaml, single_cls=True)
    assert (table.counts.refused, table.classes.tolist()) == (0, [0, 0])
    assert load_val(yaml).counts.refused == int(int(cls) > 1)
    content = build_coco(load_dataset(yaml), table.files, single_cls=True)
    assert {annotation["category_id"] for annotation in content["annotations"]} == {1}


@pytest.mark.parametrize("cls", ["-1", "0.5", "nan", "1e9"])
def test_single_cls_refuses_what_is_not_a_class(make_set: MakeSet, cls: str) -> None:
    assert load_val(make_set({"a": GOOD, "b": cls + GOOD[1:]}), single_cls=True).counts.refused == 1


def unused(yaml: Path, log_text: pytest.LogCaptureFixture, **options: bool) -> str:
    log_text.clear()
    load_labels(load_dataset(yaml), "val", workers=1, **options)
    return log_text.text


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("images/val/c.txt", "1  label files beside the images are not used"),
        ("labels/val/c.TXT", "1  label files are not used because of their names"),
        ("labels/val/c.png.txt", "1  label files are not used because of their names"),
        ("labels/val/nobody.txt", "1  label files do not belong to an image"),
        ("images/val/d.gif", "1  files are not used, since they are not images of a supported type (.gif 1;"),
        ("images/val/d.mp4", "(.mp4 1;"),
        ("images/val/b.jpg", "2  images differ only by their suffix"),
    ],
)
def test_files_that_are_not_used_are_listed(
    make_set: MakeSet, log_text: pytest.LogCaptureFixture, file: str, words: str
) -> None:
    yaml = make_set({"a": GOOD, "b": GOOD, "c": None})
    quiet = ("images/val/notes.txt", "images/val/a.json", "labels/val/classes.txt", "images/val/.hidden.gif")
    for name in quiet:
        (yaml.parent / name).write_text("x")
    assert "not used" not in unused(yaml, log_text)
    target = yaml.parent / file
    if target.suffix == ".jpg":
        cv2.imwrite(str(target), np.zeros((20, 20, 3), np.uint8))
    else:
        target.write_text(GOOD)
    (yaml.parent / "images/val/a.png").touch()  # so that the cache is rebuilt
    text = unused(yaml, log_text)
    assert words in text
    assert target.name in text
    assert words in unused(yaml, log_text)  # from the cache


def test_error_without_labels_names_those_beside_the_images(make_set: MakeSet) -> None:
    yaml = make_set({"a": None})
    (yaml.parent / "images/val/a.txt").write_text(GOOD)
    with pytest.raises(DataError, match=r"none of 1 images(.|\n)*label files beside the images are not used"):
        load_val(yaml)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
@pytest.mark.parametrize("file", ["labels/val/a.txt", "images/val/a.png"])
def test_only_regular_files_of_limited_size_are_read(make_set: MakeSet, kind: str, file: str) -> None:
    yaml = make_set({"a": GOOD, "b": GOOD})
    path = yaml.parent / file
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as sparse:
            sparse.truncate(1 << 40)
    table = load_val(yaml)
    assert [name.stem for name in table.files] == ["b"]
    if not (kind == "folder" and "images" in file):  # such a folder is searched for images
        (issue,) = table.issues
        assert "cannot be read" in issue.reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_as_label_cache_is_ignored(make_set: MakeSet) -> None:
    yaml = make_set()
    os.mkfifo(yaml.parent / "labels/val.yolopose.cache")
    assert len(load_labels(load_dataset(yaml), "val", workers=1)) == 2


BATCH_CASES = [
    "", "\n\n", GOOD, f"{GOOD}\n{GOOD}", f"\n{GOOD}\r\n\n{GOOD.replace('.5', '.6')}\n", "\ufeff" + GOOD, "bad", BOX,
    GOOD.replace(".5", "1e-1"), GOOD.replace(".5", "-"), GOOD.replace(".5", "1-2"), GOOD.replace(".5", "nan"),
    GOOD.replace(".5", "5e-324"), GOOD.replace(".5", "1e999"), GOOD.replace(".5", "1.009"), GOOD.replace("0 ", "1 ", 1),
    GOOD.replace("0 ", "7 ", 1), GOOD.replace("0 ", "0.5 ", 1), f"{BOX} .4 .4 .5 .6 .6 1", f"{BOX} -1 3 0 .6 .6 2",
    "0 .5 .5 0 .2 .4 .4 2 .6 .6 1", GOOD.replace(" ", "\n"), GOOD.replace(" ", "\u00a0"), GOOD.replace(" ", "\x0b"),
    GOOD.replace(".5", "0_1"), GOOD.replace("2 .6", "-0 .6"), f"{BOX} .4 .4 .6 .6", f"{BOX} 0 0 .6 .6",
]  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("any_class", [False, True])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_files_parsed_together_equal_files_parsed_one_by_one(dims: int, any_class: bool, size: int) -> None:
    spec = PoseSpec(classes=("one", "two"), keypoints=KeypointSchema(count=2, dims=dims))
    contents = [text.encode() for text in BATCH_CASES] + [b"0 .5 \xff"]
    results: list[FileLabels | LabelError] = []
    for start in range(0, len(contents), size):
        results += parse_label_files(contents[start : start + size], spec, any_class=any_class)
    for data, result in zip(contents, results, strict=True):
        if isinstance(result, LabelError):
            with pytest.raises(LabelError) as caught:
                parse_labels(data, spec, any_class=any_class)
            assert vars(caught.value) == vars(result)
            continue
        expected = parse_labels(data, spec, any_class=any_class)
        assert (result.warnings, result.rows) == (expected.warnings, expected.rows)
        for name in ("classes", "boxes", "keypoints"):
            np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))
            assert getattr(result, name).dtype == getattr(expected, name).dtype
