"""Pseudo labels: agreement of views, mixed batches, and runs that use them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError, NotFoundError, TrainError, UsageError
from yolopose.config import make_options, train_settings
from yolopose.criterion import Targets
from yolopose.data import Annotations
from yolopose.nn import build_network
from yolopose.train.data import TrainData, load_data
from yolopose.train.feed import MixedBatches, TrainBatches
from yolopose.train.loop import Trainer
from yolopose.train.pseudo_labels import (
    FILE_NAME,
    View,
    agreed_labels,
    from_plain,
    load_pseudo_labels,
    mirror,
    save_pseudo_labels,
    to_plain,
)
from yolopose.train.state import TrainState

SIZE = (100, 200)  # height, width
BOX = np.array([20.0, 10.0, 120.0, 90.0])
POINTS = np.array([[30.0, 20.0, 0.9], [110.0, 80.0, 0.8], [70.0, 50.0, 0.9]])


def view(*instances: tuple[float, float, int], points: np.ndarray = POINTS) -> View:
    """Return a view of instances (score, shift to the right, class)."""
    scores = np.array([score for score, _, _ in instances])
    shifts = np.array([shift for _, shift, _ in instances]).reshape(-1, 1)
    boxes = BOX + shifts * [1, 0, 1, 0]
    moved = points + shifts[:, :, None] * [1, 0, 0]
    return View(
        boxes.reshape(-1, 4), scores, np.array([cls for *_, cls in instances], np.int64), moved.reshape(-1, 3, 3)
    )


EMPTY = view()
SURE = view((0.9, 0, 0))
MOVED = POINTS + np.array([[0, 40, 0], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("views", "visible"),
    [
        ([SURE, SURE], [[2, 2, 2]]),
        ([SURE, view((0.8, 4, 0)), view((0.3, -4, 0))], [[2, 2, 2]]),  # the mean confidence counts
        ([SURE, view((0.9, 0, 0), points=MOVED)], [[0, 2, 2]]),
        ([SURE, view((0.9, 0, 0), points=POINTS + np.array([0, 60, 0]))], None),
        ([SURE, EMPTY], None),
        ([EMPTY, SURE], None),
        ([SURE, view((0.9, 0, 1))], None),  # another class
        ([SURE, view((0.9, 0, 0), (0.5, 75, 0))], None),  # an instance of one view only
        ([SURE, view((0.9, 0, 0), (0.2, 75, 0))], [[2, 2, 2]]),  # which is unlikely
        ([view((0.4, 0, 0)), view((0.4, 0, 0))], None),  # neither sure nor unlikely
        ([view((0.2, 0, 0)), view((0.1, 0, 0))], []),
        ([EMPTY, EMPTY], []),
        ([view((0.9, 0, 0), points=POINTS * [1, 1, 0.5])] * 2, None),  # no sure keypoint
        ([view((0.9, 0, 0), points=POINTS - [[60, 0, 0], [0, 0, 0], [0, 0, 0]])] * 2, [[0, 2, 2]]),  # outside
    ],
)
def test_labels_that_all_views_share(views: list[View], visible: list[list[int]] | None) -> None:
    labels = agreed_labels(views, SIZE, 0.5)
    if visible is None:
        assert labels is None
        return
    assert labels is not None
    assert labels.keypoints[..., 2].tolist() == visible
    assert not labels.keypoints[..., :2][labels.keypoints[..., 2] == 0].any()


def test_labels_are_normalized_means() -> None:
    labels = agreed_labels([SURE, view((0.9, 8, 0))], SIZE, 0.5)
    assert labels is not None
    np.testing.assert_allclose(labels.boxes, [[0.37, 0.5, 0.5, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(labels.keypoints[0, :, 0], (POINTS[:, 0] + 4) / 200, rtol=1e-6)
    np.testing.assert_allclose(labels.keypoints[0, :, 1], POINTS[:, 1] / 100, rtol=1e-6)


def test_mirrored_views() -> None:
    mirrored = mirror(SURE, 200, (1, 0, 2))
    np.testing.assert_allclose(mirrored.boxes, [[80, 10, 180, 90]])
    np.testing.assert_allclose(mirrored.points[0], [[90, 80, 0.8], [170, 20, 0.9], [130, 50, 0.9]])
    back = mirror(mirrored, 200, (1, 0, 2))
    np.testing.assert_allclose(back.points, SURE.points)


# -- batches ----------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


def data_of(world: tuple[Path, Path], count: int, **options: Any) -> tuple[TrainData, Any]:
    """Return data whose validation images are the pseudo-labeled ones."""
    settings = train_settings(make_options("train", {**FAST, "data": str(world[0]), **options}), 32)
    data = load_data(settings, 3)
    assert data.val is not None
    return replace(data, pseudo=data.val.subset(range(count))), settings


def batches(
    data: TrainData, settings: Any, size: int, share: tuple[int, int] = (0, 1), workers: int = 0
) -> MixedBatches:
    def make(table: Annotations, batch: int) -> TrainBatches:
        return TrainBatches(table, data.spec, settings, imgsz=64, batch=batch, workers=workers, share=share)

    assert data.pseudo is not None
    return MixedBatches(make(data.train, 3), make(data.pseudo, size))


@pytest.mark.parametrize(("count", "size"), [(8, 3), (8, 1), (2, 2), (5, 2), (1, 1)])
def test_each_batch_has_pseudo_labeled_images(count: int, size: int, world: tuple[Path, Path]) -> None:
    data, settings = data_of(world, count)
    mixed = batches(data, settings, size)
    whole = {epoch: list(mixed.epoch(epoch)) for epoch in (0, 1)}
    for epoch, made in whole.items():
        assert len(made) == len(mixed) == 3
        assert sorted(torch.cat([batch.index[: len(batch) - batch.num_pseudo] for batch in made]).tolist()) == list(
            range(8)
        )
        assert all(1 <= batch.num_pseudo <= size for batch in made)
        assert all((batch.index[-batch.num_pseudo :] >= 8).all() for batch in made)
        for first in (1, 2):
            for resumed, batch in zip(mixed.epoch(epoch, first=first), made[first:], strict=True):
                for name in ("index", "images", "batch_idx", "classes", "boxes", "keypoints"):
                    assert torch.equal(getattr(resumed, name), getattr(batch, name))
    if count == 8:
        indices = [[batch.index.tolist() for batch in made] for made in whole.values()]
        assert indices[0] != indices[1]
    assert data.image_file(8) == data.pseudo.files[0]
    mixed.close()


def test_labels_of_a_mixed_batch_belong_to_its_images(world: tuple[Path, Path]) -> None:
    """Without augmentation, images and labels equal those of the files."""
    still = {"mosaic": 0.0, "fliplr": 0.0, "translate": 0.0, "scale": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
    data, settings = data_of(world, 8, **still)
    for batch in batches(data, settings, 2).epoch(0):
        for image, index in enumerate(batch.index.tolist()):
            table, row = (data.train, index) if index < 8 else (data.pseudo, index - 8)
            part = batch.slice_images(image, image + 1)
            np.testing.assert_allclose(part.boxes, table[row].boxes, atol=1e-5)
            np.testing.assert_allclose(part.keypoints, table[row].keypoints, atol=1e-5)
            assert part.num_pseudo == (index >= 8)
    assert batch.slice_images(0, 1).num_pseudo == 0
    assert batch.slice_images(1, len(batch)).num_pseudo == batch.num_pseudo


def test_processes_share_a_mixed_batch(world: tuple[Path, Path]) -> None:
    data, settings = data_of(world, 8)
    whole = list(batches(data, settings, 3).epoch(0))
    shares = [list(batches(data, settings, 3, (rank, 2)).epoch(0)) for rank in range(2)]
    for number, batch in enumerate(whole):
        parts = [share[number] for share in shares]
        assert sorted(torch.cat([part.index for part in parts]).tolist()) == sorted(batch.index.tolist())
        assert sum(part.num_pseudo for part in parts) == batch.num_pseudo


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_pseudo_labels_have_their_weight(weight: float, world: tuple[Path, Path]) -> None:
    data, settings = data_of(world, 8, unlabeled_weight=weight)
    torch.manual_seed(0)
    state = TrainState(build_network(world[1], spec=data.spec), data, settings, torch.device("cpu"), 3)
    state.begin_epoch(0, 1)
    batch = next(iter(batches(data, settings, 2).epoch(0)))
    for module in state.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    terms = state.losses(batch, 0, 0)
    parts = []
    for start, end in ((0, 3), (3, 5)):
        part = batch.slice_images(start, end)
        targets = Targets.from_normalized(part.batch_idx, part.classes, part.boxes, part.keypoints, (64, 64))
        parts.append(state.criterion(state.model.outputs(part.images.float() / 255), targets))
    torch.testing.assert_close(terms.total, parts[0].total + weight * parts[1].total)
    assert set(terms.items) == set(state.criterion.terms)


def test_storage(world: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = data_of(world, 5)
    save_pseudo_labels(tmp_path, data.pseudo)
    for labels in (load_pseudo_labels(tmp_path), from_plain(to_plain(data.pseudo))):
        assert list(labels.files) == list(data.pseudo.files)
        for name in ("shapes", "offsets", "classes", "boxes", "keypoints"):
            np.testing.assert_array_equal(getattr(labels, name), getattr(data.pseudo, name))
    assert from_plain(to_plain(None)) is None
    (tmp_path / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes()[:-8])
    with pytest.raises(TrainError, match="pseudo labels of the interrupted run"):
        load_pseudo_labels(tmp_path)


# -- runs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data YAML, weights that know the data, and a folder of other images of the same kind."""
    folder = tmp_path_factory.mktemp("trained")
    data, yaml = make_world(folder / "blocks", images=16)
    model = YOLO(yaml)
    options = {**FAST, "project": folder / "runs", "val": False, "mosaic": 0.0}
    model.train(data=data, **{**options, "epochs": 45})
    unlabeled = folder / "unlabeled"
    shutil.copytree(data.parent / "images/val", unlabeled / "deeper")
    (unlabeled / "damaged.png").write_bytes(b"not an image")
    (unlabeled / "notes.txt").write_text("text")
    shutil.copytree(data.parent / "images/train", unlabeled / "copies")
    (data.parent / "own.yaml").write_text(data.read_text().replace("val: images/val", "val: images/train"))
    return data.parent / "own.yaml", Path(model.trainer.best), unlabeled


def run(trained: tuple[Path, Path, Path], tmp_path: Path, model: Any = None, **options: Any) -> YOLO:
    model = model or YOLO(trained[0].parent / "tiny-pose.yaml")
    given = {**FAST, "project": tmp_path / "runs", "val": False, "unlabeled": trained[2], "unlabeled_conf": 0.3}
    model.train(data=trained[0], **{**given, **options})
    return model


def test_predictions_of_the_teacher_become_labels(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model = run(trained, tmp_path, distill_model=trained[1])
    labels = model.trainer.data.pseudo
    assert labels is not None
    assert 8 <= len(labels) <= 32
    assert {file.parent.name for file in labels.files} <= {"deeper", "copies"}
    for index, file in enumerate(labels.files):
        split = "val" if file.parent.name == "deeper" else "train"
        row = np.array((trained[0].parent / f"labels/{split}/{file.stem}.txt").read_text().split(), float)
        assert labels[index].boxes[0] == pytest.approx(row[1:5], abs=0.15)
    assert load_pseudo_labels(model.trainer.save_dir).files == labels.files


def test_the_initial_weights_can_be_the_teacher(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model = run(trained, tmp_path, YOLO(trained[1]), unlabeled_ratio=0.5, epochs=1)
    assert model.trainer.data.pseudo is not None
    with pytest.raises(UsageError, match=r"needs a network that predicts .* give distill_model=best\.pt"):
        run(trained, tmp_path)


def test_an_interrupted_run_equals_an_uninterrupted_one(trained: tuple[Path, Path, Path], tmp_path: Path) -> None:
    options = {"distill_model": trained[1], "epochs": 3, "unlabeled_weight": 0.5}
    whole = run(trained, tmp_path, **options)
    model = YOLO(trained[0].parent / "tiny-pose.yaml")

    def interrupt(trainer: Trainer) -> None:
        if trainer.epoch == 2:
            raise ZeroDivisionError

    model.add_callback("on_train_batch_end", interrupt)
    with pytest.raises(ZeroDivisionError):
        run(trained, tmp_path, model, **options)
    resumed = YOLO(trained[0].parent / "tiny-pose.yaml")
    resumed.train(resume=str(model.trainer.last))
    for name, value in whole.trainer.ema.model.state_dict().items():
        torch.testing.assert_close(resumed.trainer.ema.model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"unlabeled": "absent"}, NotFoundError, "unlabeled=absent does not exist"),
        ({"unlabeled": "own"}, DataError, "no images besides those of the data set"),
        ({"unlabeled_conf": 1.0}, DataError, "None of the 33 images"),
        ({"rect": True}, UsageError, "omit rect=True"),
    ],
)
def test_images_without_labels_that_cannot_be_used(
    options: dict[str, Any], error: type[Exception], message: str, trained: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    if options.get("unlabeled") == "own":
        options = {"unlabeled": trained[0].parent / "images/train"}
    with pytest.raises(error, match=message):
        run(trained, tmp_path, distill_model=trained[1], **options)
    assert not (tmp_path / "runs").exists()
