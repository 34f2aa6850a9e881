"""`yolo doctor data=…`: table, JSON, files, fixed copy, comparison with a model, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolopose.base.errors import DataError, UsageError
from yolopose.cli import main
from yolopose.config import DoctorOptions
from yolopose.results import Results
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.tools.data_doctor import doctor

# a mouse: snout, left ear, right ear, tail base; in shares of the image
MOUSE = np.array([[0.5, 0.2], [0.4, 0.3], [0.6, 0.3], [0.5, 0.8]])
NAMES = ["snout", "left_ear", "right_ear", "tail"]


@pytest.fixture
def mice(tmp_path: Path) -> Path:
    """12 images with a mouse each; returns the data YAML."""
    root = tmp_path / "mice"
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            pixels = cv2.resize(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8), (120, 120))
            cv2.imwrite(str(root / f"images/{split}/{index}-{split}.png"), pixels)
            write_row(root / f"labels/{split}/{index}-{split}.txt", MOUSE + rng.normal(0, 0.01, MOUSE.shape))
    (root / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\nnames: [mouse]\nkpt_shape: [4, 3]\nflip_idx: [0, 2, 1, 3]\n"
        f"kpt_names: {{0: {NAMES}}}\nkpt_oks_sigmas: [0.05, 0.05, 0.05, 0.05]\n"
    )
    return root / "data.yaml"


def write_row(path: Path, points: np.ndarray, append: bool = False) -> None:
    values = "".join(f" {x:.4f} {y:.4f} 2" for x, y in points)
    with path.open("a" if append else "w") as file:
        file.write(f"0 0.5 0.5 0.5 0.8{values}\n")


class FakeModel:
    """Detects the mouse of `MOUSE` in every image, and a second one in `1-train.png`."""

    is_own_network = False

    def __init__(self, model: str) -> None:
        count = 4 if model == "mouse.pt" else 17
        self.spec = PoseSpec(classes=("mouse",), keypoints=KeypointSchema(count=count))

    def predict(self, files: list[str], **options: Any) -> Iterator[Results]:
        assert options["stream"]
        assert options["conf"] == 0.1
        for file in files:
            rows = [[30, 12, 90, 108, 0.9, 0]]
            points = [np.column_stack((MOUSE * 120, np.ones(4)))]
            if Path(file).name == "1-train.png":
                rows.append([0, 0, 25, 25, 0.8, 0])
                points.append(np.column_stack((MOUSE * 25, np.ones(4))))
            boxes = np.array(rows, dtype=np.float32)
            keypoints = np.array(points, dtype=np.float32)
            image = np.zeros((120, 120, 3), dtype=np.uint8)
            yield Results(image, file, {0: "mouse"}, boxes=boxes, keypoints=keypoints)


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.model.YOLO", FakeModel)


def test_table_page_and_fixed_copy(mice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mice.parent / "labels/train/2-train.txt").write_text(f"0 .5 .5 .2\n0 .5 .5 .5 nan{' .1 .1 2' * 4}")
    fixed = tmp_path / "fixed"
    assert main(["doctor", f"data={mice}", f"project={tmp_path}/runs", f"fix={fixed}"]) == 0
    shown = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    assert "labels/train/2-train.txt, row 1: the row has 4 values" in shown
    assert "1 row refused in train: not finite" in shown
    assert "suggested imgsz=" in shown
    page = (tmp_path / "runs/doctor/doctor.html").read_text()
    assert "connect-src" not in page
    assert "default-src 'none'" in page
    values = json.loads((tmp_path / "runs/doctor/doctor.json").read_text())
    assert values["counts"]["error"] == 2
    assert (fixed / "labels/train/2-train.txt").read_text().strip() == ""
    assert main(["doctor", f"data={fixed}/data.yaml", "html=False", "strict=True"]) == 0


def test_json_is_the_only_output(mice: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", f"data={mice}", "format=json", f"project={tmp_path}/runs"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["splits"]["train"] == {"images": 8, "instances": 8, "without_labels": 0}
    assert values["findings"] == []


def test_strict_and_missing_data(mice: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (mice.parent / "labels/train/2-train.txt").write_text("0 .5 .5 .2\n")
    with pytest.raises(DataError, match="1 error"):
        doctor(DoctorOptions(data=str(mice), html=False, strict=True))
    assert main(["doctor", "strict=True"]) == 1
    assert "give data=my-data.yaml" in capsys.readouterr().err
    assert main(["doctor"]) == 0
    assert "opencv" in capsys.readouterr().out
    assert main(["doctor", "data=nothing.yaml"]) == 1


@pytest.mark.usefixtures("fake_model")
def test_a_model_disputes_missed_doubled_swapped_and_moved_labels(mice: Path) -> None:
    labels = mice.parent / "labels/train"
    swapped = MOUSE[[0, 2, 1, 3]]
    write_row(labels / "3-train.txt", swapped)
    moved = MOUSE.copy()
    moved[3] = 0.75, 0.5
    write_row(labels / "4-train.txt", moved)
    write_row(labels / "5-train.txt", MOUSE + np.array([[0.05, 0], [0.03, 0], [0.05, 0.02], [0, 0.05]]), append=True)
    report = doctor(DoctorOptions(data=str(mice), model="mouse.pt", html=False))
    findings = {finding.check: finding for finding in report.findings if finding.check.startswith("model-")}
    stems = {check: {Path(str(e.file)).stem for e in finding.examples} for check, finding in findings.items()}
    assert stems == {
        "model-missed": {"1-train"},
        "model-swapped": {"3-train"},
        "model-moved": {"4-train"},
        "model-doubled": {"5-train"},
    }
    assert "left_ear ↔ right_ear" in findings["model-swapped"].examples[0].text
    assert findings["model-moved"].examples[0].keypoint == 3
    disputes = report.survey.memo["disputes"]
    assert [dispute.score for dispute in disputes] == sorted((d.score for d in disputes), reverse=True)
    assert all(0 < dispute.score <= 1 for dispute in disputes)


def test_images_that_a_model_sees_as_copies(mice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of 24 images: one pair within and one between splits is close, all others are far apart."""
    images = mice.parent / "images/train"
    for index in range(8, 20):
        pixels = cv2.resize(np.random.default_rng(index).integers(0, 255, (6, 6, 3), dtype=np.uint8), (120, 120))
        cv2.imwrite(str(images / f"{index}-train.png"), pixels)
        write_row(mice.parent / f"labels/train/{index}-train.txt", MOUSE)
    vectors = {path.stem: np.eye(24)[number] for number, path in enumerate(sorted(mice.parent.rglob("*.png")))}
    vectors["7-train"] = vectors["5-train"] + 0.1 * vectors["1-train"]
    vectors["3-val"] = vectors["2-train"] + 0.1 * vectors["1-train"]

    class Model(FakeModel):
        is_own_network = True

        def embed(self, files: list[str], **options: Any) -> Iterator[Any]:
            import torch

            assert options["stream"]
            return (torch.from_numpy(vectors[Path(file).stem].astype(np.float32)) for file in files)

    monkeypatch.setattr("yolopose.model.YOLO", Model)
    (images / "9-train.png").write_bytes(b"damaged")  # it has no vector
    report = doctor(DoctorOptions(data=str(mice), model="mouse.pt", html=False))
    findings = [finding for finding in report.findings if finding.check == "image-similar"]
    assert {
        (finding.severity, Path(str(example.other)).stem, Path(str(example.file)).stem)
        for finding in findings
        for example in finding.examples
    } == {("notice", "5-train", "7-train"), ("warning", "2-train", "3-val")}
    assert "one of train" in next(finding.title for finding in findings if finding.severity == "warning")


@pytest.mark.usefixtures("fake_model")
def test_a_model_with_other_keypoints_is_an_error(mice: Path) -> None:
    with pytest.raises(UsageError, match="predicts 17 keypoints"):
        doctor(DoctorOptions(data=str(mice), model="person.pt", html=False))


@pytest.mark.usefixtures("fake_model")
def test_page_shows_labels_and_detections(mice: Path, tmp_path: Path) -> None:
    write_row(mice.parent / "labels/train/3-train.txt", MOUSE[[0, 2, 1, 3]])
    doctor(DoctorOptions(data=str(mice), model="mouse.pt", project=str(tmp_path), images=5))
    page = (tmp_path / "doctor/doctor.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    cards = {finding["check"]: finding["cards"] for finding in data["findings"]}
    card = cards["model-swapped"][0]
    assert card["detection"]["points"][1] == pytest.approx([0.4 * 120, 0.3 * 120, 1.0], abs=0.1)
    assert card["instances"][0]["highlighted"]
    assert card["name"] == "images/train/3-train.png"
    assert sum(map(len, cards.values())) <= 5
