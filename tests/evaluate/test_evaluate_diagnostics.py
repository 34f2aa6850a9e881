"""Keypoint scores, error costs and slices of a data set whose detections have known errors, end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from evaluate_runs import LETTERBOX, random_image, random_run

from yolopose.base.errors import WeightsError
from yolopose.config import ValOptions
from yolopose.evaluate import PoseMetrics, RecordBuilder, validate
from yolopose.evaluate.diagnostics import mean_ap
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

SIZE = 128
NAMES = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
BOXES = np.array([[4, 14, 54, 114], [70, 14, 120, 114]], dtype=np.float32)
# keypoints of the two people of every image; a keypoint is near (similarity .5) within 6 pixels
POINTS = np.array([[[14, 30], [44, 30], [16, 90], [42, 90]], [[80, 34], [110, 34], [82, 94], [108, 94]]], np.float32)
SIGMA, AREA = 0.05, 0.53 * 50 * 100
DIAGONAL, TORSO = np.hypot(50, 100), [np.hypot(28, 60), np.hypot(28, 60)]
SPEC = PoseSpec(
    classes=("person",),
    keypoints=KeypointSchema(count=4, names={0: NAMES}, flip_idx=(1, 0, 3, 2), sigmas=(SIGMA,) * 4),
)


@dataclass
class FaultyRuntime:
    """Identifies each image by its gray value, and returns the keypoints that are listed for it."""

    points: dict[int, np.ndarray]
    scores: dict[int, list[float]] = field(default_factory=dict)
    device: str = "cpu"
    metadata: ModelMetadata = field(default_factory=lambda: ModelMetadata(spec=SPEC, name="faulty"))

    def infer(
        self,
        batch: np.ndarray,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        shades = batch[:, 0, 0, 0].astype(int).tolist()
        points = [self.points[shade] for shade in shades]
        return Candidates(
            boxes=np.tile(BOXES, (len(shades), 1)),
            scores=np.array([self.scores.get(shade, [0.9, 0.8]) for shade in shades], np.float32).reshape(-1),
            classes=np.zeros(2 * len(shades), np.int64),
            points=np.concatenate(points).astype(np.float32),
            batch_idx=np.repeat(np.arange(len(shades)), 2),
        )

    def to_array(self, array: np.ndarray) -> Any:
        return array


def with_conf(points: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    return np.concatenate((points, np.full((*points.shape[:2], 1), confidence)), axis=2)


def make_data(folder: Path, visible: dict[int, np.ndarray]) -> Path:
    for part in ("images/val", "labels/val"):
        (folder / part).mkdir(parents=True)
    for shade, flags in visible.items():
        cv2.imwrite(str(folder / f"images/val/{shade:03}.png"), np.full((SIZE, SIZE, 3), shade, np.uint8))
        rows = []
        for box, points, flag in zip(BOXES, POINTS, flags, strict=True):
            center = (box[:2] + box[2:]) / 2 / SIZE
            values = np.concatenate((points / SIZE * (flag[:, None] > 0), flag[:, None]), axis=1)
            rows.append([0, *center, *(box[2:] - box[:2]) / SIZE, *values.reshape(-1)])
        (folder / f"labels/val/{shade:03}.txt").write_text("\n".join(" ".join(map(repr, map(float, r))) for r in rows))
    values = {"path": str(folder), "val": "images/val", "names": ["person"], **SPEC.keypoints.to_dict()}
    (folder / "data.yaml").write_text(yaml.safe_dump(values))
    return folder / "data.yaml"


def measure(
    folder: Path, network: FaultyRuntime, visible: dict[int, np.ndarray] | None = None, **more: Any
) -> PoseMetrics:
    flags = {shade: np.full((2, 4), 2) for shade in network.points}
    data = make_data(folder, {**flags, **(visible or {})})
    chosen = {"imgsz": SIZE, "rect": False, "plots": False, "verbose": False, **more}
    return validate(network, ValOptions(data=str(data), **chosen))


def with_error(error: str, points: np.ndarray) -> np.ndarray:
    """Add errors of one kind to the keypoints of the first person."""
    points = points.copy()
    if error == "jitter":
        points[0, 0] += (3, 3)  # 4.2 pixels
    elif error == "inversion":
        points[0, [0, 1]] = points[0, [1, 0]]
    elif error == "swap":
        points[0, 2] = POINTS[1, 2]
    elif error == "miss":
        points[0, 3] += (0, 25)
    return points


OUTCOMES = ("good", "jitter", "inversion", "swap", "miss")
COUNTS = {"good": 10 * 8 - 5, "jitter": 1, "inversion": 2, "swap": 1, "miss": 1}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> PoseMetrics:
    points = {
        shade: with_conf(with_error(OUTCOMES[shade % 10] if shade % 10 < 5 else "good", POINTS)) for shade in range(10)
    }
    points[9][1, 3, 2] = 0.1  # predicted invisible, but labeled
    flags = np.full((2, 4), 2)
    flags[0, 3] = 0  # not labeled, but predicted visible
    return measure(tmp_path_factory.mktemp("faults") / "set", FaultyRuntime(points), {8: flags}, save_json=True)


def test_counts_of_errors(faulty: PoseMetrics) -> None:
    assert faulty.errors.points == {**COUNTS, "good": COUNTS["good"] - 1}  # one point is not labeled


def test_every_error_has_a_cost(faulty: PoseMetrics) -> None:
    assert set(faulty.errors.cost) == {"jitter", "inversion", "swap", "miss"}
    assert all(cost > 0.001 for cost in faulty.errors.cost.values())
    assert [row["Error"] for row in faulty.errors.summary()] == ["jitter", "inversion", "swap", "miss"]
    assert faulty.errors.to_csv().splitlines()[0] == "Error,Points,Share,mAP50-95,mAP50"


@pytest.mark.parametrize("error", OUTCOMES)
def test_only_the_error_that_occurs_has_a_cost(error: str, tmp_path: Path) -> None:
    metrics = measure(
        tmp_path / "set", FaultyRuntime({shade: with_conf(with_error(error, POINTS)) for shade in range(3)})
    )
    assert {kind for kind, count in metrics.errors.points.items() if count} == {"good", error}
    assert {kind for kind, cost in metrics.errors.cost.items() if cost} == {error} - {"good"}
    if error == "inversion":  # OKS is 2/4, and 1 once corrected
        assert metrics.pose.map + metrics.errors.cost[error] == pytest.approx(0.995)


def test_scores_of_each_keypoint(faulty: PoseMetrics) -> None:
    rows = {row["Keypoint"]: row for row in faulty.keypoints.summary()}
    assert tuple(rows) == NAMES
    assert [rows[name]["Labeled"] for name in NAMES] == [20, 20, 20, 19]
    # of 20 people, one keypoint is off by 4.24 pixels, one by 30 (near its mirrored keypoint)
    off = [np.hypot(3, 3), 30]
    first = rows["left_shoulder"]
    assert first["Mean"] == pytest.approx(sum(off) / 20, abs=1e-3)
    assert first["Median"] == pytest.approx(0, abs=1e-3)
    assert first["Mean-share"] == pytest.approx(sum(off) / 20 / DIAGONAL, abs=1e-4)
    oks = np.exp(-(np.array(off) ** 2) / (2 * AREA * (2 * SIGMA) ** 2))
    assert first["OKS"] == pytest.approx((18 + oks.sum()) / 20, abs=1e-4)
    assert [first[f"PCK@{limit}"] for limit in (0.05, 0.1, 0.2)] == pytest.approx([19 / 20] * 3)  # 5.6, 11, 22 pixels
    torso = [np.mean([distance <= limit * TORSO[0] for distance in [0] * 18 + off]) for limit in (0.05, 0.1, 0.2)]
    assert [first[f"PCK-torso@{limit}"] for limit in (0.05, 0.1, 0.2)] == pytest.approx(torso)
    assert [rows[name]["Inverted"] for name in NAMES] == pytest.approx([1 / 20, 1 / 20, 0, 0])
    # of 20, one labeled keypoint is predicted invisible, and one unlabeled predicted visible
    assert rows["right_hip"]["Visibility"] == pytest.approx(18 / 20)
    assert rows["left_hip"]["Visibility"] == 1
    assert faulty.keypoints.to_csv().count("\n") == 5


def test_slices(faulty: PoseMetrics) -> None:
    rows = {(row["By"], row["Slice"]): row for row in faulty.slices.summary()}
    medium = rows["size", "medium"]
    assert medium["Instances"] == 20
    assert medium["Box-mAP50-95"] == pytest.approx(faulty.box.map, abs=1e-5)
    assert medium["Pose-mAP50-95"] == pytest.approx(faulty.pose.map, abs=1e-5)
    assert rows["size", "small (< 32²)"]["Instances"] == 0
    assert np.isnan(rows["size", "small (< 32²)"]["Pose-mAP50-95"])
    assert rows["labeled keypoints", "2 to 3"]["Instances"] == 1
    # it is detected; the false positives of the four people with errors (OKS .50, .75, .75, .93) count 1/20 each
    num_fp = [0, 1, 1, 1, 1, 1, 3, 3, 3, 4]
    expected = 0.995 * np.mean([1 / (1 + number / 20) for number in num_fp])
    assert rows["labeled keypoints", "2 to 3"]["Pose-mAP50-95"] == pytest.approx(expected, abs=1e-5)
    assert rows["crowding", "low (IoU < 0.1)"]["Instances"] == 20


def test_reliability_and_best_confidence(tmp_path: Path) -> None:
    points = {shade: with_conf(with_error("good", POINTS)) for shade in range(4)}
    for shade in (2, 3):
        points[shade][0, :, :2] += 40  # false positives of high confidence
    scores = {shade: [0.95 if shade < 2 else 0.55, 0.85] for shade in range(4)}
    metrics = measure(tmp_path / "set", FaultyRuntime(points, scores))
    curve = metrics.reliability("pose")
    assert curve.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 4, 2]
    assert curve.hit_rate[[5, 8, 9]].tolist() == [0, 1, 1]
    assert curve.ece == pytest.approx((2 * 0.55 + 4 * 0.15 + 2 * 0.05) / 8, abs=1e-6)
    assert curve.best_conf == pytest.approx(0.85)
    assert curve.best_f1 == pytest.approx(2 * 6 / (6 + 8))
    assert metrics.reliability("box").best_f1 == 1


def test_refuses_nan_predictions(tmp_path: Path) -> None:
    points = {0: with_conf(POINTS), 1: with_conf(POINTS * np.nan)}
    with pytest.raises(WeightsError, match=r"NaN or infinite values for .*001\.png"):
        measure(tmp_path / "set", FaultyRuntime(points))


def test_warns_of_refused_images_and_no_detections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = FaultyRuntime({0: with_conf(POINTS), 1: with_conf(POINTS)})
    data = make_data(tmp_path / "set", {shade: np.full((2, 4), 2) for shade in (0, 1)})
    (tmp_path / "set/images/val/torn.png").write_bytes(b"no image")
    validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=False, conf=0.001))
    warnings = capsys.readouterr().err
    assert "1 of 3 images were refused and do not count in the scores: torn.png" in warnings
    assert "detected nothing" not in warnings
    nothing = Candidates(
        boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), classes=np.zeros(0, np.int64),
        points=np.zeros((0, 4, 3), np.float32), batch_idx=np.zeros(0, np.int64),
    )  # fmt: skip
    low = network.infer
    network.infer = lambda batch, *, conf, **_: low(batch, conf=conf) if conf < 0 else nothing  # type: ignore
    metrics = validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=True))
    assert "detected nothing in any image" in capsys.readouterr().err
    assert metrics.errors.cost["miss"] == 0
    network.infer = lambda batch, **_: nothing  # type: ignore[method-assign]
    with pytest.raises(WeightsError, match="NaN scores"):
        validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=False))


@pytest.mark.parametrize("seed", range(4))
def test_mean_ap_is_that_of_the_metrics(seed: int) -> None:
    metrics = random_run(seed=seed)
    for kind, metric in (("box", metrics.box), ("pose", metrics.pose)):
        ap = mean_ap(metrics.record, metrics.record.hits(kind))
        np.testing.assert_allclose(ap, metric.all_ap.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_mean_ap_of_a_slice_by_loops(seed: int) -> None:
    record = random_run(seed=seed).record
    selected = np.random.default_rng(seed).random(len(record.gt_class)) < 0.4
    first_gt = np.searchsorted(record.gt_image, np.arange(len(record.image_names)))
    expected = []
    for cls in (0, 1):
        num_gt = int((selected & (record.gt_class == cls)).sum())
        share = num_gt / int((record.gt_class == cls).sum())
        rows = sorted(np.flatnonzero(record.det_class == cls), key=lambda row: -record.det_score[row])
        for level in range(10):
            tp, detections, curve = 0, 0.0, []
            for row in rows:
                match = record.det_pose_match[row, level]
                hit = match >= 0 and bool(selected[first_gt[record.det_image[row]] + match])
                tp, detections = tp + hit, detections + (hit or (match < 0) * share)
                curve.append((tp / num_gt, tp / detections if detections else 0.0))
            # the height at a recall is the best precision beyond it
            heights = [max((p for r, p in curve if r > i / 100 + 1e-12), default=0.0) for i in range(101)]
            expected.append((sum(heights) - (heights[0] + heights[-1]) / 2) / 100)
    ap = mean_ap(record, record.hits("pose"), "pose", selected)
    np.testing.assert_allclose(ap, np.array(expected).reshape(2, 10).mean(axis=0), atol=1e-9)


def test_no_visibility_and_keypoint_names_by_class() -> None:
    names = {0: tuple("vwxyz"), 1: tuple("VWXYZ")}
    spec = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5, dims=2, names=names))
    metrics, builder = PoseMetrics(spec.names), RecordBuilder(spec)
    for index in range(20):
        detections, gt = random_image(np.random.default_rng(index), 1)
        builder.add(f"{index}.jpg", replace(detections, points=detections.points[..., :2]), gt, LETTERBOX)
    metrics.set_record(builder.finish(), spec)
    rows = metrics.keypoints.summary()
    assert [row["Keypoint"] for row in rows] == [*(f"a: {name}" for name in "vwxyz"), *(f"b: {c}" for c in "VWXYZ")]
    classes = metrics.record.gt_class[metrics.record.pair_gt]
    assert [rows[0]["Labeled"], rows[9]["Labeled"]] == [(classes == 0).sum(), (classes == 1).sum()]
    assert np.isnan([row["Visibility"] for row in rows]).all()
    assert np.isnan([row["Inverted"] for row in rows]).all()  # no flip_idx
    assert metrics.errors.points["inversion"] == 0
