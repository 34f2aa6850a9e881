"""A made set with known faults, end to end: error kinds and the numbers of each point come out as put in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from yolopose.base.errors import WeightsError
from yolopose.config import ValOptions
from yolopose.evaluate import PoseMetrics, validate
from yolopose.evaluate.errors import Kind, classify_errors
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

SIZE = 128
NAMES = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
BOXES = np.array([[4, 14, 54, 114], [70, 14, 120, 114]], dtype=np.float32)
# the points of both people of every image, far from each other: a point is near (.5) within 6 pixels
PLACES = np.array([[[14, 30], [44, 30], [16, 90], [42, 90]], [[80, 34], [110, 34], [82, 94], [108, 94]]], np.float32)
SIGMA, AREA = 0.05, 0.53 * 50 * 100
DIAGONAL, TORSO = np.hypot(50, 100), [np.hypot(28, 60), np.hypot(28, 60)]
SPEC = PoseSpec(
    classes=("person",),
    keypoints=KeypointSchema(count=4, names={0: NAMES}, flip_idx=(1, 0, 3, 2), sigmas=(SIGMA,) * 4),
)


@dataclass
class Faulty:
    """Knows each image by its shade, and gives the points that were laid down for it."""

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
        people = [self.points[shade] for shade in shades]
        return Candidates(
            boxes=np.tile(BOXES, (len(shades), 1)),
            scores=np.array([self.scores.get(shade, [0.9, 0.8]) for shade in shades], np.float32).reshape(-1),
            classes=np.zeros(2 * len(shades), np.int64),
            points=np.concatenate(people).astype(np.float32),
            batch_idx=np.repeat(np.arange(len(shades)), 2),
        )

    def to_array(self, array: np.ndarray) -> Any:
        return array


def seen(points: np.ndarray, confidence: float = 0.9) -> np.ndarray:
    return np.concatenate((points, np.full((*points.shape[:2], 1), confidence)), axis=2)


def make_data(folder: Path, visible: dict[int, np.ndarray]) -> Path:
    for part in ("images/val", "labels/val"):
        (folder / part).mkdir(parents=True)
    for shade, flags in visible.items():
        cv2.imwrite(str(folder / f"images/val/{shade:03}.png"), np.full((SIZE, SIZE, 3), shade, np.uint8))
        rows = []
        for box, points, flag in zip(BOXES, PLACES, flags, strict=True):
            center = (box[:2] + box[2:]) / 2 / SIZE
            values = np.concatenate((points / SIZE * (flag[:, None] > 0), flag[:, None]), axis=1)
            rows.append([0, *center, *(box[2:] - box[:2]) / SIZE, *values.reshape(-1)])
        (folder / f"labels/val/{shade:03}.txt").write_text("\n".join(" ".join(map(repr, map(float, r))) for r in rows))
    values = {"path": str(folder), "val": "images/val", "names": ["person"], **SPEC.keypoints.to_dict()}
    (folder / "data.yaml").write_text(yaml.safe_dump(values))
    return folder / "data.yaml"


def measured(folder: Path, network: Faulty, visible: dict[int, np.ndarray] | None = None, **more: Any) -> PoseMetrics:
    flags = {shade: np.full((2, 4), 2) for shade in network.points}
    data = make_data(folder, {**flags, **(visible or {})})
    chosen = {"imgsz": SIZE, "rect": False, "plots": False, "verbose": False, **more}
    return validate(network, ValOptions(data=str(data), **chosen))


def put_in(fault: str, points: np.ndarray) -> np.ndarray:
    """One fault, or several of a kind, in the points of the first person."""
    points = points.copy()
    if fault == "jitter":
        points[0, 0] += (3, 3)  # 4.2 pixels
    elif fault == "inversion":
        points[0, [0, 1]] = points[0, [1, 0]]
    elif fault == "swap":
        points[0, 2] = PLACES[1, 2]
    elif fault == "miss":
        points[0, 3] += (0, 25)
    return points


FAULTS = ("good", "jitter", "inversion", "swap", "miss")
COUNTS = {"good": 10 * 8 - 5, "jitter": 1, "inversion": 2, "swap": 1, "miss": 1}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> PoseMetrics:
    points = {shade: seen(put_in(FAULTS[shade % 10] if shade % 10 < 5 else "good", PLACES)) for shade in range(10)}
    points[9][1, 3, 2] = 0.1  # called invisible, and it is labeled
    hidden = np.full((2, 4), 2)
    hidden[0, 3] = 0  # not labeled, and called visible
    return measured(tmp_path_factory.mktemp("faults") / "set", Faulty(points), {8: hidden}, save_json=True)


def test_counts_are_those_put_in(faulty: PoseMetrics) -> None:
    assert faulty.errors.points == {**COUNTS, "good": COUNTS["good"] - 1}  # one point is not labeled


def test_each_kind_costs_what_it_takes(faulty: PoseMetrics) -> None:
    assert set(faulty.errors.cost) == {"jitter", "inversion", "swap", "miss"}
    assert all(cost > 0.001 for cost in faulty.errors.cost.values())
    assert [row["Error"] for row in faulty.errors.summary()] == ["jitter", "inversion", "swap", "miss"]
    assert faulty.errors.to_csv().splitlines()[0] == "Error,Points,Share,mAP50-95,mAP50"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kind_alone_costs_alone(fault: str, tmp_path: Path) -> None:
    metrics = measured(tmp_path / "set", Faulty({shade: seen(put_in(fault, PLACES)) for shade in range(3)}))
    assert {kind for kind, count in metrics.errors.points.items() if count} == {"good", fault}
    assert {kind for kind, cost in metrics.errors.cost.items() if cost} == {fault} - {"good"}
    if fault == "inversion":  # OKS of those people is 2/4, and 1 when it is mended
        assert metrics.pose.map + metrics.errors.cost[fault] == pytest.approx(0.995)


def test_mended_points_by_hand() -> None:
    near = SIGMA * 2 * np.sqrt(2 * AREA)  # a distance of d pixels is exp(-(d/near)²)
    points = put_in("jitter", put_in("miss", put_in("swap", PLACES)))[:1]
    truth = np.concatenate((PLACES, np.full((2, 4, 1), 2)), axis=2)
    found = classify_errors(
        points, np.array([0]), truth, np.array([AREA, AREA]), np.full(4, SIGMA), np.array([1, 0, 3, 2])
    )
    assert found.kinds.tolist() == [[Kind.JITTER, Kind.GOOD, Kind.SWAP, Kind.MISS]]
    assert found.own[0] == pytest.approx([np.exp(-18 / near**2), 1, 0, np.exp(-625 / near**2)], abs=1e-7)
    assert found.mended[0] == pytest.approx([0.85, 1, 1, 0.5], abs=1e-6)


def test_a_point_near_its_own_place_is_no_swap() -> None:
    truth = np.concatenate((np.stack((PLACES[0], PLACES[0] + 2)), np.full((2, 4, 1), 2)), axis=2)
    found = classify_errors(
        PLACES[:1] + 3, np.array([0]), truth, np.array([AREA, AREA]), np.full(4, SIGMA), np.array([1, 0, 3, 2])
    )
    assert found.kinds.tolist() == [[Kind.JITTER] * 4]


def test_numbers_of_each_point(faulty: PoseMetrics) -> None:
    rows = {row["Keypoint"]: row for row in faulty.keypoints.summary()}
    assert tuple(rows) == NAMES
    assert [rows[name]["Labeled"] for name in NAMES] == [20, 20, 20, 19]
    # 20 people: one point 4.24 pixels off, one 30 (its mirror point)
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
    # of 20, one labeled point is called invisible and one that is not labeled is called visible
    assert rows["right_hip"]["Visibility"] == pytest.approx(18 / 20)
    assert rows["left_hip"]["Visibility"] == 1
    assert "right_hip" in "\n".join(faulty.keypoints.lines())
    assert faulty.keypoints.to_csv().count("\n") == 5


def test_slices(faulty: PoseMetrics) -> None:
    rows = {(row["By"], row["Part"]): row for row in faulty.slices.summary()}
    medium = rows["size", "medium"]
    assert medium["Truths"] == 20
    assert medium["Box-mAP50-95"] == pytest.approx(faulty.box.map, abs=1e-5)
    assert medium["Pose-mAP50-95"] == pytest.approx(faulty.pose.map, abs=1e-5)
    assert rows["size", "small (under 32²)"]["Truths"] == 0
    assert np.isnan(rows["size", "small (under 32²)"]["Pose-mAP50-95"])
    assert rows["labeled points", "2 to 3"]["Truths"] == 1
    # it is found, and the false poses of the four faulty people (OKS .50, .75, .75, .93) count as a twentieth each
    false = [0, 1, 1, 1, 1, 1, 3, 3, 3, 4]
    expected = 0.995 * np.mean([1 / (1 + number / 20) for number in false])
    assert rows["labeled points", "2 to 3"]["Pose-mAP50-95"] == pytest.approx(expected, abs=1e-5)
    assert rows["crowding", "alone (IoU under 0.1)"]["Truths"] == 20


def test_reliability_and_best_confidence(tmp_path: Path) -> None:
    points = {shade: seen(put_in("good", PLACES)) for shade in range(4)}
    for shade in (2, 3):
        points[shade][0, :, :2] += 40  # a false pose, and sure of itself
    scores = {shade: [0.95 if shade < 2 else 0.55, 0.85] for shade in range(4)}
    metrics = measured(tmp_path / "set", Faulty(points, scores))
    found = metrics.reliability("pose")
    assert found.count.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 4, 2]
    assert found.hit_rate[[5, 8, 9]].tolist() == [0, 1, 1]
    assert found.ece == pytest.approx((2 * 0.55 + 4 * 0.15 + 2 * 0.05) / 8, abs=1e-6)
    assert found.best_conf == pytest.approx(0.85)
    assert found.best_f1 == pytest.approx(2 * 6 / (6 + 8))
    assert metrics.reliability("box").best_f1 == 1


def test_predictions_that_are_no_numbers(tmp_path: Path) -> None:
    points = {0: seen(PLACES), 1: seen(PLACES * np.nan)}
    with pytest.raises(WeightsError, match=r"no numbers.*001\.png"):
        measured(tmp_path / "set", Faulty(points))


def test_nothing_found_and_images_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Faulty({0: seen(PLACES), 1: seen(PLACES)})
    data = make_data(tmp_path / "set", {shade: np.full((2, 4), 2) for shade in (0, 1)})
    (tmp_path / "set/images/val/torn.png").write_bytes(b"no image")
    validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=False, conf=0.001))
    said = capsys.readouterr().err
    assert "1 of 3 images were refused and are not in these numbers: torn.png" in said
    assert "found nothing" not in said
    nothing = Candidates(
        boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), classes=np.zeros(0, np.int64),
        points=np.zeros((0, 4, 3), np.float32), batch_idx=np.zeros(0, np.int64),
    )  # fmt: skip
    low = network.infer
    network.infer = lambda batch, *, conf, **_: low(batch, conf=conf) if conf < 0 else nothing  # type: ignore
    metrics = validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=True))
    assert "found nothing in any image" in capsys.readouterr().err
    assert metrics.errors.cost["miss"] == 0
    network.infer = lambda batch, **_: nothing  # type: ignore[method-assign]
    with pytest.raises(WeightsError, match="scores that are no numbers"):
        validate(network, ValOptions(data=str(data), imgsz=SIZE, rect=False, plots=False, verbose=False))
