from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from test_data_paths import UNSAFE

from yolopose.base.errors import DataError, NotFoundError, OutputError, UsageError
from yolopose.data import load_dataset, load_labels
from yolopose.data.convert import export_coco
from yolopose.data.convert.output import create_file
from yolopose.data.converter import convert_coco
from yolopose.data.side_names import infer_flip_idx
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, COCO_PERSON_SKELETON


def annotations(**changes: Any) -> dict[str, Any]:
    person = {"image_id": 7, "category_id": 3, "iscrowd": 0, "num_keypoints": 1}
    return {
        "images": [{"id": 7, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [
            {**person, "id": 1, "bbox": [3, 4, 10, 7], "area": 41.5, "keypoints": [4, 5, 2, 0, 0, 0, 7, 9, 1]},
            {**person, "id": 2, "bbox": [0, 0, 30, 20], "area": 300.0, "iscrowd": 1, "keypoints": [0] * 9},
            {**person, "id": 3, "bbox": [3, 4, 0, 7], "area": 0, "keypoints": [0] * 9},
            {**person, "id": 4, "category_id": 1, "bbox": [1, 1, 1, 1]},
        ],
        "categories": [
            {"id": 1, "name": "chair"},
            {"id": 3, "name": "cat", "keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]},
        ],
        **changes,
    }


def written(folder: Path, content: object, name: str = "person_keypoints_train.json") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_converts_rows_schema_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    done = convert_coco(
        labels_dir=written(tmp_path / "json", annotations()), save_dir=tmp_path / "out", use_keypoints=True
    )
    for counts in (done.images, done.instances, done.objects, done.crowds, done.skipped):
        assert counts == {"train": 1}
    row = (tmp_path / "out/labels/train/a.txt").read_text().split()
    assert row[:5] == ["0", "0.26666667", "0.37500000", "0.33333333", "0.35000000"]
    assert row[5:] == ["0.13333333", "0.25000000", "2", "0", "0", "0", "0.23333333", "0.45000000", "1"]
    dataset = load_dataset(done.data)
    keypoints = dataset.spec.keypoints
    assert (dataset.spec.classes, keypoints.flip_idx, keypoints.skeleton) == (("cat",), (0, 2, 1), ((0, 1), (0, 2)))
    assert keypoints.keypoint_names(0) == ("nose", "left_ear", "right_ear")
    assert len(load_labels(dataset, "train").classes) == 1
    assert "1 crowds (stored in labels/train.coco.json), 1 faulty" in capsys.readouterr().out


def test_coco_round_trip_is_exact(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/coco-mini/annotations/person_keypoints_val.json"
    official = json.loads(source.read_text())
    done = convert_coco(source, tmp_path / "out", images_dir=shared / "data/coco-mini/images")
    spec = load_dataset(done.data).spec.keypoints
    assert spec.keypoint_names(0) == COCO_PERSON_NAMES
    assert (spec.flip_idx, spec.sigmas) == (COCO_PERSON_FLIP, COCO_PERSON_SIGMAS)
    assert spec.skeleton == COCO_PERSON_SKELETON
    back = json.loads(export_coco(done.data, "val", tmp_path / "back.json").read_text())
    assert back["images"] == sorted(official["images"], key=lambda one: one["file_name"])
    assert back["categories"] == official["categories"]
    found, expected = ({one["id"]: one for one in each["annotations"]} for each in (back, official))
    assert found == expected  # every digit, areas, crowds and outlines


def test_label_round_trip_is_exact(shared: Path, tmp_path: Path) -> None:
    target = export_coco(shared / "data/mouse/mouse.yaml", "val", tmp_path / "json/val.json")
    done = convert_coco(target, tmp_path / "out", images_dir=shared / "data/mouse/images/val")
    for path in sorted((tmp_path / "out/labels/val").glob("*.txt")):
        old = (shared / "data/mouse/labels/val" / path.name).read_text().split()
        new = path.read_text().split()
        assert [round(float(a), 6) for a in old] == [round(float(b), 6) for b in new]
    again = convert_coco(
        export_coco(done.data, "val", tmp_path / "j2/val.json"), tmp_path / "out2", images_dir=tmp_path / "out/images"
    )
    for path in sorted((tmp_path / "out/labels/val").glob("*.txt")):
        assert path.read_text() == (tmp_path / "out2/labels/val" / path.name).read_text()
    assert again.instances == done.instances


def test_changed_label_keeps_id_and_area(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    done = convert_coco(written(tmp_path / "json", annotations()), tmp_path / "out")
    label = tmp_path / "out/labels/train/a.txt"
    label.write_text(label.read_text().replace("0.26666667", "0.50000000"))
    found = json.loads(export_coco(done.data, "train", tmp_path / "b.json").read_text())["annotations"]
    assert [(one["id"], one["area"], one["iscrowd"]) for one in found] == [(1, 41.5, 0), (2, 300.0, 1)]
    assert found[0]["bbox"][0] == pytest.approx(10)


@pytest.mark.parametrize(
    ("content", "options", "error", "words"),
    [
        ("{\n  x", {}, DataError, "line 2, column 3 is not JSON"),
        ("[]", {}, DataError, "not a COCO annotation file"),
        (annotations(images=[{"id": 1}]), {}, DataError, "entry 0 of `images` must have"),
        (annotations(categories=[{"id": 1, "name": "a"}]), {}, DataError, "No category"),
        (
            annotations(categories=[{"id": i, "name": "a", "keypoints": ["p"] * i} for i in (1, 2)]),
            {},
            DataError,
            "the same number for all classes",
        ),
        (annotations(), {"use_keypoints": False}, UsageError, "use_keypoints=True"),
        (annotations(), {"use_segments": True}, UsageError, "use_keypoints=True"),
    ],
)
def test_refuses_invalid_input(
    content: object, options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        convert_coco(written(tmp_path / "json", content), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_refuses_missing_source_and_occupied_target(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"No COCO \.json file"):
        convert_coco(tmp_path / "none", tmp_path / "out")
    written(tmp_path / "out", "{}")
    with pytest.raises(OutputError, match="not an empty folder"):
        convert_coco(written(tmp_path / "json", annotations()), tmp_path / "out")


def test_warns_of_missing_images_and_flip_idx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = annotations()
    content["categories"][1]["keypoints"] = ["a", "b", "c"]
    done = convert_coco(written(tmp_path / "json", content), tmp_path / "out")
    shown = capsys.readouterr().err
    assert "1 of 1 images of train were not found" in shown
    assert "has no flip_idx" in shown
    assert "flip_idx" not in yaml.safe_load(done.data.read_text())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (COCO_PERSON_NAMES, COCO_PERSON_FLIP),
        (("L_eye", "R_eye", "lip", "elbow"), (1, 0, 2, 3)),
        (("eye.L", "eye.R"), (1, 0)),
        (("LeftEye", "RightEye", "Nose"), (1, 0, 2)),
        (("leftear", "rightear"), (1, 0)),
        (("eyeLeft", "eyeRight"), (1, 0)),
        (("front left paw", "front right paw"), (1, 0)),
        (("left_eye", "nose"), None),
        (("a", "b"), None),
        (("a", "a"), None),
    ],
)
def test_infer_flip_idx(names: tuple[str, ...], expected: tuple[int, ...] | None) -> None:
    assert infer_flip_idx(names) == expected


def image_entries(*names: str) -> dict[str, Any]:
    """COCO annotations of images with one instance each; the box of image i starts at x = 2·i."""
    instance = {"category_id": 3, "iscrowd": 0, "area": 12, "num_keypoints": 1}
    return annotations(
        images=[{"id": i, "file_name": name, "width": 30, "height": 20} for i, name in enumerate(names)],
        annotations=[
            {**instance, "id": i, "image_id": i, "bbox": [2 * i, 4, 4, 3], "keypoints": [4, 5, 2, 0, 0, 0, 7, 9, 1]}
            for i in range(len(names))
        ],
    )


def images_at(root: Path, *names: str) -> dict[Path, bytes]:
    """Write images that differ by content; returns the content of each."""
    contents: dict[Path, bytes] = {}
    for shade, name in enumerate(names, 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        contents[path] = cv2.imencode(".png", np.full((20, 30, 3), 40 * shade, np.uint8))[1].tobytes()
        path.write_bytes(contents[path])
    return contents


def tree(root: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder."""
    return {
        path.relative_to(root).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


class TestOutputs:
    """A conversion writes new files only: nothing outside the output folder is changed or copied from outside."""

    def test_sub_folders_are_preserved(self, tmp_path: Path) -> None:
        names = ("camera1/0001.png", "camera2/0001.png")
        originals = images_at(tmp_path / "images", *names)
        result = convert_coco(written(tmp_path / "json", image_entries(*names)), tmp_path / "out")
        for index, (original, content) in enumerate(originals.items()):
            copy = tmp_path / "out/images/train" / names[index]
            assert original.read_bytes() == copy.read_bytes() == content
            assert not copy.samefile(original)  # an edit of the copy must not reach the original
            label = (tmp_path / "out/labels/train" / names[index]).with_suffix(".txt").read_text()
            assert float(label.split()[1]) == pytest.approx((2 * index + 2) / 30)
        dataset = load_dataset(result.data)
        assert load_labels(dataset, "train").counts.labeled == 2
        exported = json.loads(export_coco(result.data, "train", tmp_path / "back.json").read_text())
        assert [(image["id"], image["file_name"]) for image in exported["images"]] == list(enumerate(names))
        assert exported["annotations"] == image_entries(*names)["annotations"]

    @pytest.mark.parametrize(
        ("file_name", "expected"),
        [
            ("camera1\\a.png", "camera1/a.png"),
            ("train/images/a.png", "a.png"),  # the label of …/images/a.png would be …/labels/a.txt
            ("images/train/a.png", "a.png"),
            ("x/images/a.png", "x/a.png"),
        ],
    )
    def test_output_path(self, tmp_path: Path, file_name: str, expected: str) -> None:
        images_at(tmp_path, file_name.replace("\\", "/"))
        result = convert_coco(written(tmp_path / "json", image_entries(file_name)), tmp_path / "out")
        assert (tmp_path / "out/images/train" / expected).is_file()
        assert load_labels(load_dataset(result.data), "train").counts.labeled == 1
        exported = json.loads(export_coco(result.data, "train", tmp_path / "back.json").read_text())
        assert exported["images"][0]["file_name"] == file_name

    @pytest.mark.parametrize(
        "names",
        [
            ("a.jpg", "a.png"),
            ("a.png", "a.png"),
            ("a.png", "A.png"),
            ("x/a.png", "X/A.PNG"),
            ("caf\u00e9.png", "cafe\u0301.png"),
            ("./a.png", "a.png"),
            ("x/a.png", "x\\a.png"),
            ("a.png", "a.png/b.png"),
            ("a.png", "a.txt/b.png"),
            ("a.png", "images/a.png"),
        ],
    )
    def test_clashes_are_errors_before_anything_is_written(self, tmp_path: Path, names: tuple[str, str]) -> None:
        originals = images_at(tmp_path / "images", names[0])
        with pytest.raises(DataError, match="nothing was written"):
            convert_coco(written(tmp_path / "json", image_entries(*names)), tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert all(path.read_bytes() == content for path, content in originals.items())

    @pytest.mark.parametrize(("name", "reason"), UNSAFE)
    def test_unsafe_file_names_are_errors_before_anything_is_written(
        self, tmp_path: Path, name: str, reason: str
    ) -> None:
        with pytest.raises(DataError, match=reason):
            convert_coco(written(tmp_path / "json", image_entries("a.png", name)), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("absolute", [True, False])
    def test_files_outside_are_neither_read_nor_written(self, tmp_path: Path, absolute: bool) -> None:
        images_at(tmp_path, "home/private.png", "set/payload/private.png")
        name = str(tmp_path / "home/private.png") if absolute else "../home/private.png"
        before = tree(tmp_path)
        content = json.dumps(image_entries(name, "payload/private.png"))
        written(tmp_path / "set/json", content)
        with pytest.raises(DataError, match="relative to the folder of the images"):
            convert_coco(tmp_path / "set/json", tmp_path / "out")
        assert tree(tmp_path) == before | {"set/json/person_keypoints_train.json": content.encode()}

    @pytest.mark.parametrize("link", ["set/images", "set/images/train", "set/images/train/a.png"])
    def test_links_out_of_the_data_set_are_not_followed(
        self, tmp_path: Path, link: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images_at(tmp_path, "private/images/train/a.png")
        target = tmp_path / "private" / Path(link).relative_to("set")
        (tmp_path / link).parent.mkdir(parents=True)
        (tmp_path / link).symlink_to(target)
        written(tmp_path / "set/json", image_entries("a.png"))
        result = convert_coco(tmp_path / "set/json", tmp_path / "out")
        assert not list((tmp_path / "out").rglob("*.png"))
        assert "1 of 1 images of train were not copied" in capsys.readouterr().err
        assert result.instances == {"train": 1}
        # the user decides to follow the link
        convert_coco(tmp_path / "set/json", tmp_path / "out2", images_dir=tmp_path / "private/images")
        assert len(list((tmp_path / "out2").rglob("*.png"))) == 1

    def test_other_files_are_not_copied(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        images_at(tmp_path / "images", "a.png", ".hidden/b.png", "notes.txt", ".png")
        names = ("a.png", ".hidden/b.png", "notes.txt", ".png", "no_suffix")
        result = convert_coco(written(tmp_path / "json", image_entries(*names)), tmp_path / "out")
        assert result.images == {"train": 1}
        assert [path.name for path in (tmp_path / "out/images").rglob("*") if path.is_file()] == ["a.png"]
        assert "4 of 5 entries of `images` are not image files" in capsys.readouterr().err

    def test_a_name_without_its_folders_must_be_unambiguous(self, tmp_path: Path) -> None:
        images_at(tmp_path / "images", "0001.png", "0002.png")
        names = ("camera1/0001.png", "camera2/0001.png", "camera1/0002.png")
        convert_coco(written(tmp_path / "json", image_entries(*names)), tmp_path / "out")
        images = [path.relative_to(tmp_path / "out/images") for path in (tmp_path / "out").rglob("*.png")]
        assert images == [Path("train/camera1/0002.png")]

    def test_output_equal_to_or_inside_the_input(self, tmp_path: Path) -> None:
        originals = images_at(tmp_path / "images", "a.png")
        source = written(tmp_path / "json", image_entries("a.png"))
        for occupied in (
            source,
            tmp_path / "images",
            tmp_path / "images/a.png",
            source / "person_keypoints_train.json",
        ):
            with pytest.raises(OutputError, match="nothing was written"):
                convert_coco(source, occupied)
        convert_coco(source, tmp_path / "images/out")
        assert (tmp_path / "images/out/images/train/a.png").is_file()
        assert all(path.read_bytes() == content for path, content in originals.items())

    def test_output_through_a_dangling_link(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to(tmp_path / "victim")
        with pytest.raises(OutputError, match="nothing was written"):
            convert_coco(written(tmp_path / "json", image_entries("a.png")), tmp_path / "out")
        assert not (tmp_path / "victim").exists()

    def test_files_are_created_exclusively(self, tmp_path: Path) -> None:
        (tmp_path / "victim").write_text("mine")
        (tmp_path / "link").symlink_to(tmp_path / "victim")
        os.link(tmp_path / "victim", tmp_path / "hard")
        for name in ("victim", "link", "hard"):
            with pytest.raises(OutputError, match="already exists"):
                create_file(tmp_path / name, b"planted")
        assert (tmp_path / "victim").read_text() == "mine"

    @pytest.mark.parametrize(
        "name", ["..json", "...json", "images.json", "a\\b.json", "nul.json", "person_keypoints_..json"]
    )
    def test_file_names_that_cannot_name_a_split(self, tmp_path: Path, name: str) -> None:
        source = written(tmp_path / "json", image_entries("a.png"), name) / name
        with pytest.raises(DataError, match="cannot be used as the name of a split"):
            convert_coco(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestSeveralFiles:
    def test_files_without_keypoints_are_skipped(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        source = written(tmp_path / "json", image_entries("a.png"))
        captions = {"images": annotations()["images"], "annotations": [{"id": 1, "image_id": 7, "caption": "a cat"}]}
        written(source, captions, "captions_train.json")
        written(source, annotations(categories=[{"id": 1, "name": "cat"}]), "instances_train.json")
        written(source, {"images": []}, "image_info_test.json")
        written(source, "junk", "._person_keypoints_train.json")
        assert convert_coco(source, tmp_path / "out").instances == {"train": 1}
        assert "captions_train.json has no keypoint categories and is skipped" in capsys.readouterr().out

    def test_two_files_of_one_split_are_an_error(self, tmp_path: Path) -> None:
        source = written(tmp_path / "json", image_entries("a.png"))
        written(source, image_entries("b.png"), "keypoints_train.json")
        with pytest.raises(DataError, match=r"keypoints_train\.json.*both annotations of the split train"):
            convert_coco(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_splits_that_differ_by_case_are_an_error(self, tmp_path: Path) -> None:
        source = written(tmp_path / "json", image_entries("a.png"), "train.json")
        written(source, image_entries("b.png"), "Train.json")
        if len(list(source.iterdir())) == 1:
            pytest.skip("this file system ignores case")
        with pytest.raises(DataError, match="nothing was written"):
            convert_coco(source, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": [3, 4, float("nan"), 7]},
        {"bbox": [3, 4, 10]},
        {"bbox": None},
        {"keypoints": [4, 5, float("inf"), 0, 0, 0, 7, 9, 1]},
        {"keypoints": [4, 5, 2]},
        {"keypoints": "abc"},
    ],
)
def test_faulty_annotations_are_skipped(tmp_path: Path, change: dict[str, Any]) -> None:
    content = image_entries("a.png")
    content["annotations"][0].update(change)
    result = convert_coco(written(tmp_path / "json", content), tmp_path / "out")
    assert (result.instances, result.skipped) == ({"train": 0}, {"train": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"images": [{"id": 1, "file_name": "a.png", "width": 0, "height": 20}]},
        {"images": [{"id": 1, "file_name": "a.png", "width": float("inf"), "height": 20}]},
        {"images": [{"id": [1], "file_name": "a.png", "width": 30, "height": 20}]},
        {"images": [{"id": 1, "file_name": 5, "width": 30, "height": 20}]},
        {"images": ["a.png"]},
        {"annotations": [5]},
        {"categories": [5]},
        {"categories": [{"keypoints": ["a"]}]},
        {"categories": [{"id": "x", "name": "cat", "keypoints": ["a"]}]},
        {"categories": [{"id": 1, "name": "cat", "keypoints": ["a", "b"], "skeleton": [[1, 9]]}]},
        {"categories": [{"id": 1, "name": "cat", "keypoints": ["a", "b"], "skeleton": [["a", "b"]]}]},
        {"categories": [{"id": 1, "name": "cat", "keypoints": 5}]},
    ],
)
def test_damaged_content_is_a_data_error(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        convert_coco(written(tmp_path / "json", annotations(**change)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


class TestExport:
    def test_images_in_sub_folders_stay_apart(self, make_set: Callable[..., Path], tmp_path: Path) -> None:
        data = make_set({"0001": None})
        images_at(data.parent / "images/val", "camera1/0001.png", "camera2/0001.png", "camera2/5.png")
        content = json.loads(export_coco(data, "val", tmp_path / "val.json").read_text())
        assert [(image["id"], image["file_name"]) for image in content["images"]] == [
            (6, "0001.png"), (7, "camera1/0001.png"), (8, "camera2/0001.png"), (5, "camera2/5.png"),
        ]  # fmt: skip

    @pytest.mark.parametrize("file_name", ["camera1/a.png", "/data/camera1/a.png", "../a.png"])
    def test_records_of_older_conversions_match_by_file_name(self, tmp_path: Path, file_name: str) -> None:
        # yolopose 0.1 wrote all images into one folder, and accepted any file name
        images_at(tmp_path, "camera1/a.png")
        result = convert_coco(written(tmp_path / "json", image_entries("camera1/a.png")), tmp_path / "out")
        for path in ("images/train/camera1/a.png", "labels/train/camera1/a.txt"):
            file = tmp_path / "out" / path
            file.rename(file.parents[1] / file.name)
        record = tmp_path / "out/labels/train.coco.json"
        record.write_text(record.read_text().replace("camera1/a.png", file_name))
        content = json.loads(export_coco(result.data, "train", tmp_path / "back.json").read_text())
        assert content["images"][0] == image_entries(file_name)["images"][0]
        assert content["annotations"] == image_entries(file_name)["annotations"]

    def test_an_existing_file_or_link_is_left_unchanged(self, make_set: Callable[..., Path], tmp_path: Path) -> None:
        data = make_set()
        (tmp_path / "link.json").symlink_to(tmp_path / "victim")
        for target in (data, data.parent / "images/val/a.png", tmp_path / "link.json"):
            before = tree(tmp_path)
            with pytest.raises(OutputError, match="already exists"):
                export_coco(data, "val", target)
            assert tree(tmp_path) == before
