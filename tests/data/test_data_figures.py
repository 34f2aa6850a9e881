"""Drawn figures: labels match the painted images, and the data set on disk is complete and reproducible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolopose.base.errors import DataError, OutputError
from yolopose.base.settings import load_settings
from yolopose.data import load_dataset, load_labels, read_image
from yolopose.data.figures import FiguresSpec, draw_scene, write, write_figures
from yolopose.data.figures.paint import OCCLUDER_ID, decode_part_id, paint, part_id
from yolopose.data.figures.scene import MIN_BOX_SIDE, compose_scene, figure_box, keypoint_visibility, visible_share
from yolopose.schema import COCO_PERSON_NAMES as NAMES

SMALL = FiguresSpec(train=6, val=3, size=128, seed=5)
SCENES = range(60)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_yaml(folder: Path, figures: object = "{train: 6, val: 3, size: 128, seed: 5}", more: str = "") -> Path:
    yaml = folder / "mine.yaml"
    more = more or "path: drawn\ntrain: images/train\nval: images/val\n"
    yaml.write_text(
        f"{more}figures: {figures}\nkpt_shape: [17, 3]\nnames: [person]\n"
        "flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]\n"
    )
    return yaml


class TestScene:
    def test_depends_only_on_its_arguments(self) -> None:
        first, again = draw_scene(3, "train", 7, 160), draw_scene(3, "train", 7, 160)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
        for other in ((4, "train", 7), (3, "val", 7), (3, "train", 8)):
            image = draw_scene(*other, 160)[0]
            assert image.shape != first[0].shape or (image != first[0]).any()

    def test_labels_are_inside_the_image(self) -> None:
        shapes, states, counts = set[tuple[int, ...]](), [], []
        for index in SCENES:
            image, boxes, points = draw_scene(0, "val", index, 320)
            height, width = image.shape[:2]
            assert max(height, width) == 320
            assert image.dtype == np.uint8
            assert (boxes >= 0).all()
            assert (boxes <= (width, height, width, height)).all()
            assert (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_SIDE).all()
            inside = points[points[..., 2] > 0]
            assert (inside[:, :2] < (width, height)).all()
            assert (points[points[..., 2] == 0] == 0).all()
            shapes.add(image.shape)
            states.append(points[..., 2].ravel())
            counts.append(len(boxes))
        assert len(shapes) >= 4
        assert {1, 2, 3} <= set(counts)
        v = np.concatenate(states)
        assert 0.1 < (v == 1).mean() < 0.45
        assert (v == 0).mean() > 0.005
        assert (v == 2).mean() > 0.5

    def test_visible_keypoints_are_on_their_figure(self) -> None:
        parts_of_face = 0
        for index in SCENES:
            scene = compose_scene(0, "val", index, 320)
            _, _, points = draw_scene(0, "val", index, 320)
            for number, row in zip(scene.labeled(), points, strict=True):
                for name, (x, y, v) in zip(NAMES, row, strict=True):
                    if v == 2:
                        who, part = decode_part_id(int(scene.id_map[int(y), int(x)]))
                        assert who == number
                        # an eye of a small figure is smaller than a pixel
                        if name in ("nose", "left_eye", "right_eye") and scene.figures[number].scale > 100:
                            parts_of_face += 1
                            assert scene.figures[number].parts[part].name == "face"
        assert parts_of_face > 100

    def test_box_is_tight(self) -> None:
        cut = 0
        for index in SCENES:
            scene = compose_scene(0, "val", index, 320)
            _, boxes, _ = draw_scene(0, "val", index, 320)
            for number, box in zip(scene.labeled(), boxes, strict=True):
                alone = np.zeros_like(scene.id_map)
                paint(np.zeros_like(scene.image), alone, scene.figures[number], 0)
                rows, columns = np.nonzero(alone)
                around = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert np.abs(box - around).max() < 1.2
                cut += bool((around[:2] == 0).any())
        assert cut > 5

    def test_left_and_right_match_the_view(self) -> None:
        fronts = backs = 0
        for index in range(120):
            for figure in compose_scene(1, "train", index, 96).figures:
                at, body = dict(zip(NAMES, figure.keypoints, strict=True)), figure.body
                upright = body.joints["neck"][1] < -0.2
                if not upright or abs(body.chest_direction[2]) < 0.8:
                    continue
                left_is_right = at["left_shoulder"][0] > at["right_shoulder"][0]
                assert left_is_right == (body.chest_direction[2] > 0)
                faces = [part for part in figure.parts if part.name == "face"]
                fronts += left_is_right
                backs += not left_is_right
                if body.face_direction[2] > 0.5:
                    assert len(faces) >= 3
                if body.face_direction[2] < -0.5:
                    assert not faces
        assert fronts > 50
        assert backs > 10


class TestVisibility:
    def test_occluders_hide_keypoints(self) -> None:
        scene = compose_scene(0, "train", 8, 320)
        number = scene.labeled()[0]
        figure = scene.figures[number]
        before = keypoint_visibility(figure, number, scene.id_map)
        assert (before == 2).any()
        x, y = figure.keypoints[int(np.argmax(before == 2))].astype(int)
        scene.id_map[y, x] = OCCLUDER_ID
        after = keypoint_visibility(figure, number, scene.id_map)
        assert after[np.argmax(before == 2)] == 1
        scene.id_map[:] = OCCLUDER_ID
        assert set(keypoint_visibility(figure, number, scene.id_map)) <= {0, 1}
        assert visible_share(figure, number, scene.id_map) == 0
        assert number not in scene.labeled()

    def test_keypoints_on_the_far_side_of_the_head_are_hidden(self) -> None:
        for index in range(80):
            scene = compose_scene(2, "train", index, 128)
            for number, figure in enumerate(scene.figures):
                states = keypoint_visibility(figure, number, scene.id_map)
                if figure.body.face_direction[2] < -0.4:
                    assert (states[:3] < 2).all()

    def test_visible_share_and_box_of_full_cut_and_outside_figures(self) -> None:
        figure = compose_scene(0, "train", 8, 320).figures[0]
        figure = replace(figure, parts=tuple(replace(part, outline=part.outline + 900) for part in figure.parts))
        id_map = np.zeros((2000, 2000), dtype=np.int32)
        paint(np.zeros((2000, 2000, 3), dtype=np.uint8), id_map, figure, 0)
        assert visible_share(figure, 0, id_map) == pytest.approx(1, abs=0.01)
        cut = int(np.median(np.nonzero(id_map)[0]))
        assert visible_share(figure, 0, id_map[:cut]) == pytest.approx(0.5, abs=0.05)
        assert figure_box(figure, 2000, cut)[3] == cut
        assert visible_share(figure, 0, id_map[:320, :320]) == 0
        assert figure_box(figure, 320, 320).tolist() == [0, 0, 0, 0]

    def test_part_ids_are_unique(self) -> None:
        assert decode_part_id(part_id(3, 20)) == (3, 20)
        assert decode_part_id(0)[0] == decode_part_id(OCCLUDER_ID)[0] == -1


class TestWrite:
    def test_output_is_reproducible_without_temporary_files(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            write_figures(tmp_path / name, SMALL)
        one = files_of(tmp_path / "one")
        assert one == files_of(tmp_path / "two")
        assert len(one) == 2 * (6 + 3) + 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
        # the number of images changes none of them
        write_figures(tmp_path / "more", replace(SMALL, train=8))
        more = files_of(tmp_path / "more")
        assert all(more[name] == data for name, data in one.items() if name != write.MANIFEST)

    def test_label_files_match_the_scene(self, tmp_path: Path) -> None:
        dataset = load_dataset(write_yaml(tmp_path))
        assert dataset.root == Path(load_settings().datasets_dir) / "drawn"
        for split, count in (("train", 6), ("val", 3)):
            table = load_labels(dataset, split)
            assert table.counts.refused == table.counts.missing == 0
            files = dataset.image_files(split)
            assert len(files) == count
            for index, path in enumerate(files):
                image, boxes, points = draw_scene(5, split, index, 128)
                assert read_image(path).shape == image.shape
                text = path.parents[2].joinpath("labels", split, f"{path.stem}.txt").read_text()
                rows = np.array([line.split() for line in text.splitlines()], dtype=float).reshape(-1, 56)
                sides = np.array([image.shape[1], image.shape[0]])
                assert np.allclose(rows[:, 1:3] * sides, (boxes[:, :2] + boxes[:, 2:]) / 2, atol=1e-3)
                assert np.allclose(rows[:, 3:5] * sides, boxes[:, 2:] - boxes[:, :2], atol=1e-3)
                found = rows[:, 5:].reshape(-1, 17, 3) * (*sides, 1)
                assert np.allclose(found, points, atol=1e-3)

    def test_images_without_figures_have_an_empty_label_file(self, tmp_path: Path) -> None:
        write_figures(tmp_path, FiguresSpec(train=8, val=1, size=96, seed=0))
        files = sorted((tmp_path / "labels/train").iterdir())
        counts = [len(draw_scene(0, "train", index, 96)[1]) for index in range(8)]
        assert 0 in counts
        assert [file.read_text().count("\n") for file in files] == counts

    def test_is_rewritten_only_for_other_options(self, tmp_path: Path) -> None:
        root = load_dataset(write_yaml(tmp_path)).root
        mark = root / "mark"
        mark.touch()
        assert load_dataset(write_yaml(tmp_path)).root == root
        assert mark.exists()
        load_dataset(write_yaml(tmp_path, "{train: 2, val: 1, size: 96}"))
        assert not mark.exists()
        assert len(list((root / "images/train").iterdir())) == 2
        assert [path.name for path in root.parent.iterdir()] == [root.name]

    def test_folder_with_other_data_is_left_unchanged(self, tmp_path: Path) -> None:
        target = Path(load_settings().datasets_dir) / "drawn"
        target.mkdir(parents=True)
        (target / "thesis.txt").write_text("mine")
        with pytest.raises(DataError, match=r"contains other data.*figures\.json.*path:"):
            load_dataset(write_yaml(tmp_path))
        assert files_of(target) == {"thesis.txt": b"mine"}

    def test_empty_folder_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        write_figures(tmp_path / "set", SMALL)
        assert len(list((tmp_path / "set/images/train").iterdir())) == 6

    @pytest.mark.parametrize("size", [64, 1024])
    def test_any_size(self, size: int) -> None:
        for index in range(4):
            image, boxes, _ = draw_scene(0, "val", index, size)
            assert max(image.shape) == size
            assert (boxes <= size).all()

    def test_existing_data_are_used(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            (tmp_path / "drawn/images" / split).mkdir(parents=True)
        (tmp_path / "drawn/figures.json").write_text('{"by": "someone else"}')
        assert load_dataset(write_yaml(tmp_path)).root == tmp_path / "drawn"
        assert list(files_of(tmp_path / "drawn")) == ["figures.json"]

    def test_failure_leaves_the_previous_data_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_figures(tmp_path / "set", SMALL)
        old = files_of(tmp_path / "set")

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(write, "draw_scene", stop)
        for name in ("set", "new"):
            with pytest.raises(KeyboardInterrupt):
                write_figures(tmp_path / name, replace(SMALL, seed=6))
        assert [path.name for path in tmp_path.iterdir()] == ["set"]
        assert files_of(tmp_path / "set") == old

    def test_keeps_the_result_of_a_faster_process(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = write._write_images

        def slow(folder: Path, plan: FiguresSpec) -> None:
            monkeypatch.setattr(write, "_write_images", real)
            write_figures(tmp_path / "set", SMALL)
            (tmp_path / "set/first").touch()
            real(folder, plan)

        monkeypatch.setattr(write, "_write_images", slow)
        write_figures(tmp_path / "set", SMALL)
        assert (tmp_path / "set/first").exists()
        assert [path.name for path in tmp_path.iterdir()] == ["set"]

    def test_unwritable_folder_names_folder_and_setting(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "file/deep"))
        with pytest.raises(OutputError, match=r"file/deep/drawn.*`datasets_dir`.*YOLOPOSE_DATASETS_DIR"):
            load_dataset(write_yaml(tmp_path))


class TestParse:
    @pytest.mark.parametrize(
        ("figures", "text"),
        [
            ("{train: 0}", r"figures: train: 0` must be an integer from 1 to 100000"),
            ("{val: 2.5}", r"figures: val: 2\.5` must be"),
            ("{size: 32}", r"figures: size: 32` must be an integer from 64 to 2048"),
            ("{seed: -1}", r"figures: seed: -1` must be an integer from 0 to"),
            ("{train: true}", r"figures: train: True` must be"),
            ("{sied: 3}", r"no option `sied`.*'size'|no option `sied`.*'seed'"),
            ("800", r"must be like \{train: 800.*got 800"),
            ("[1]", r"must be like"),
        ],
    )
    def test_invalid_options_are_named(self, tmp_path: Path, figures: str, text: str) -> None:
        with pytest.raises(DataError, match=text) as error:
            load_dataset(write_yaml(tmp_path, figures))
        assert "mine.yaml" in str(error.value)
        assert not Path(load_settings().datasets_dir).exists()

    @pytest.mark.parametrize(
        ("keys", "text"),
        [
            ("path: drawn\ntrain: train/images\n", r"`train: train/images`"),
            ("train: images/train\n", r"needs `path:`"),
            ("path: ../drawn\ntrain: images/train\n", r"needs `path:`"),
        ],
    )
    def test_other_keys_must_match(self, tmp_path: Path, keys: str, text: str) -> None:
        with pytest.raises(DataError, match=text):
            load_dataset(write_yaml(tmp_path, more=keys))

    def test_shipped_yaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        requested: list[FiguresSpec] = []
        monkeypatch.setattr("yolopose.data.dataset.write_figures", lambda _, spec: requested.append(spec))
        dataset = load_dataset("figures-pose.yaml")
        assert requested == [FiguresSpec(train=800, val=160, size=320, seed=0)]
        assert dataset.root == Path(load_settings().datasets_dir) / "figures-pose"
        assert dataset.spec.keypoints.sigmas is None
