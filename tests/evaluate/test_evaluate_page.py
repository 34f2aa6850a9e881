"""The report page: ranking of images, content, hostile names, missing images, size limit."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from evaluate_runs import RECORD_SPEC, RectangleRuntime, make_rectangles, random_run, val_options

from yolopose.base.errors import DataError, NotFoundError
from yolopose.cli import main
from yolopose.evaluate import PoseMetrics, validate
from yolopose.evaluate.page import make_report, write_report
from yolopose.evaluate.page.gallery import rank_images, select_images
from yolopose.schema import PoseSpec

HOSTILE = "<img src=x onerror=alert(1)>&'\u2028 é.png"


def run_info(spec: PoseSpec, root: Path) -> dict[str, Any]:
    options = {"imgsz": [640, 640], "rect": True, "batch": 1, "conf": 0.001, "iou": 0.7, "max_det": 300}
    return {
        "version": "0", "created": "2026-01-01T00:00:00", "model": "random", "device": "cpu", "data": "random.yaml",
        "root": str(root), "split": "val", "names": list(spec.classes), "refused": 0, "refused_names": [],
        "spec": {**spec.to_dict(), "names": list(spec.classes)},
        "options": {**options, "half": False, "augment": False, "single_cls": False},
    }  # fmt: skip


def reported_run(root: Path, spec: PoseSpec = RECORD_SPEC, **info: Any) -> PoseMetrics:
    """A run on random images, of which no files exist."""
    metrics = random_run(noise=4)
    metrics.set_record(replace(metrics.record, run_info=run_info(spec, root) | info), spec)
    return metrics


def data_of(page: Path) -> dict[str, Any]:
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    return json.loads(data)


def test_images_are_ranked_by_f1() -> None:
    record = random_run().record
    ranking = rank_images(record, 0.5)
    for image in range(30):
        rows = (record.det_image == image) & (record.det_score >= np.float32(0.5))
        num_gt = int((record.gt_image == image).sum())
        tp = [2 * int((record.det_pose_match[rows, level] >= 0).sum()) for level in range(10)]
        total = int(rows.sum()) + num_gt
        assert ranking.f1[image] == pytest.approx(np.mean(tp) / total if total else 1)
    assert (np.diff(ranking.f1[ranking.order]) >= 0).all()
    selected = select_images(ranking, 9)
    assert len({index for index, _ in selected}) == 9
    assert [label for _, label in selected] == ["worst", "worst", "best"] * 3
    assert selected[0][0] == ranking.order[0]
    assert ranking.f1[selected[2][0]] == ranking.f1.max()
    assert len(select_images(ranking, 100)) == sum((ranking.num_gt + ranking.num_detections) > 0)


def test_page_is_self_contained(tmp_path: Path) -> None:
    data = make_rectangles(tmp_path / "set", names=["</script><b>red", "green"])
    (tmp_path / "set/images/val/000.png").rename(tmp_path / "set/images/val" / HOSTILE)
    (tmp_path / "set/labels/val/000.txt").rename(tmp_path / "set/labels/val" / HOSTILE.replace(".png", ".txt"))
    metrics = validate(RectangleRuntime(shift=3), val_options(data, save_txt=True), save_dir=tmp_path / "run")
    page = write_report(metrics, tmp_path / "run")
    text = page.read_text()
    assert not re.search(r"</script><b>|<img ", text)
    template = text.replace(re.findall(r'id="data">(.*?)</script>', text, re.S)[0], "")
    assert not re.search(r"(?:src|href)=(?![\"']#)|@import|url\(", template)
    style, script = re.findall(r"<style>(.*?)</style>", text, re.S), re.findall(r"<script>(.*?)</script>", text, re.S)
    for (part,) in (style, script):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in text
    assert "default-src 'none'" in text
    assert text.count("</script>") == 2
    content = data_of(page)
    assert [row["name"] for row in content["classes"]] == ["</script><b>red", "green"]
    assert {row[0] for row in content["images"]["all"]} == {f"images/val/{n:03}.png" for n in range(1, 5)} | {
        f"images/val/{HOSTILE}"
    }
    assert content["scores"]["rows"][0]["value"] == pytest.approx(metrics.pose.map, abs=1e-5)
    assert content["scores"]["rows"][0]["low"] == pytest.approx(metrics.intervals["mAP50-95(P)"].low, abs=1e-5)
    (card,) = (card for card in content["images"]["cards"] if card["name"].endswith(HOSTILE))
    img = cv2.imdecode(np.frombuffer(base64.b64decode(card["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert img.shape == (96, 128, 3)
    assert card["gt"][0]["box"] == pytest.approx([5, 8, 40, 50], abs=0.1)
    assert card["detections"][0]["points"] == pytest.approx([8, 11, 43, 53], abs=0.6)  # shifted by 3 pixels
    assert card["detections"][0]["pose_match"] == 0


def test_remade_report_is_equal_and_notes_missing_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = make_rectangles(tmp_path / "set"), tmp_path / "run"
    write_report(validate(RectangleRuntime(shift=3), val_options(data, save_txt=True), save_dir=run), run)
    first = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(["report", f"run={run}"]) == 0
    assert (run / "report.html").read_bytes() == first
    cv2.imwrite(
        str(tmp_path / "set/images/val/001.png"), np.zeros((9, 9, 3), np.uint8)
    )  # another image than in the run
    (tmp_path / "set/images/val/002.png").unlink()
    capsys.readouterr()
    assert main(["report", f"run={run}", "images=3"]) == 0
    assert "unreadable, or changed since the run" in capsys.readouterr().err
    cards = data_of(run / "report.html")["images"]["cards"]
    assert len(cards) == 3
    assert {card["name"] for card in cards if card["jpeg"] is None} == {"images/val/001.png", "images/val/002.png"}
    assert all(card["detections"] for card in cards)
    shutil.rmtree(tmp_path / "set")
    make_report(run / "detections.npz")
    assert data_of(run / "report.html")["images"]["num_missing"] == 4


def test_no_report_without_plots(tmp_path: Path) -> None:
    validate(
        RectangleRuntime(), val_options(make_rectangles(tmp_path / "set"), save_txt=True), save_dir=tmp_path / "run"
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["detections.npz", "labels"]
    assert data_of(make_report(tmp_path / "run"))["facts"]


def test_network_without_detections(tmp_path: Path) -> None:
    run = tmp_path / "run"
    validate(RectangleRuntime(), val_options(make_rectangles(tmp_path / "set"), save_txt=True, conf=0.95), save_dir=run)
    content = data_of(make_report(run))
    assert content["notes"] == ["The network detected nothing in any image, so that every score is 0."]
    assert {row["value"] for row in content["scores"]["rows"]} == {0}
    assert all(card["gt"] and not card["detections"] for card in content["images"]["cards"])


@pytest.mark.parametrize(
    ("names", "listed"), [(["a.jpg", "b.jpg"], ": a.jpg, b.jpg."), (["a.jpg"], ": a.jpg ….")], ids=str
)
def test_names_refused_images(names: list[str], listed: str, tmp_path: Path) -> None:
    metrics = reported_run(tmp_path, refused=2, refused_names=names)
    notes = data_of(write_report(metrics, tmp_path))["notes"]
    assert notes == [f"2 of 32 images could not be read and do not count{listed}"]


def test_one_figure_per_set_of_keypoint_names(tmp_path: Path) -> None:
    names = {0: tuple("vwxyz"), 1: tuple("VWXYZ")}
    spec = replace(RECORD_SPEC, keypoints=replace(RECORD_SPEC.keypoints, names=names, skeleton=((0, 1), (1, 4))))
    groups = data_of(write_report(reported_run(tmp_path, spec), tmp_path))["keypoints"]["groups"]
    assert [group["names"] for group in groups] == [list("vwxyz"), list("VWXYZ")]
    assert all(len(group["positions"]) == len(group["rows"]) == 5 for group in groups)
    assert groups[0]["edges"] == [[0, 1], [1, 4]]


def test_omits_images_to_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = reported_run(tmp_path)
    page = write_report(metrics, tmp_path)
    complete = data_of(page)["images"]
    assert complete["num_omitted"] == 0
    limit = page.stat().st_size - 8000
    monkeypatch.setattr("yolopose.evaluate.page.build._MAX_BYTES", limit)
    reduced = data_of(write_report(metrics, tmp_path))["images"]
    assert limit - 4000 < page.stat().st_size < limit
    assert reduced["num_omitted"] > 0
    assert len(reduced["cards"]) + reduced["num_omitted"] == len(complete["cards"])


def test_refuses_runs_without_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 1
    assert "yolo report run=" in capsys.readouterr().err
    assert main(["report", f"run={tmp_path}"]) == 1
    assert "detections.npz" in capsys.readouterr().err
    with pytest.raises(NotFoundError):
        make_report(tmp_path / "none")
    random_run().record.save(tmp_path / "detections.npz")
    with pytest.raises(DataError, match="does not describe its run"):
        make_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
