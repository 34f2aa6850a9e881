"""The page of a run: its numbers against loops, what it is made of, and what it does with names, sizes and losses."""

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
from test_evaluate_record import SPEC, made
from test_evaluate_validator import Rectangles, make_data, options

from yolopose.base.errors import DataError, NotFoundError
from yolopose.cli import main
from yolopose.evaluate import PoseMetrics, Record, load_record, validate
from yolopose.evaluate.page import counts_at, make_report, write_report
from yolopose.evaluate.page.counts import count_table
from yolopose.evaluate.page.gallery import chosen, rank
from yolopose.evaluate.places import detection_places, packed, unpacked
from yolopose.geometry import Letterbox
from yolopose.runtime.nms import Detections
from yolopose.schema import PoseSpec

HOSTILE = "<img src=x onerror=alert(1)>&'\u2028 é.png"


def about(spec: PoseSpec, root: Path) -> dict[str, Any]:
    plain = {"imgsz": 640, "batch": 1, "conf": None, "iou": 0.7, "max_det": 300}
    return {
        "version": "0", "made": "2026-01-01T00:00:00", "model": "made", "device": "cpu", "data": "made.yaml",
        "root": str(root), "split": "val", "names": list(spec.classes), "refused": 0,
        "spec": {**spec.to_dict(), "names": list(spec.classes)},
        "options": {**plain, "half": False, "augment": False, "single_cls": False},
    }  # fmt: skip


def made_run(root: Path, spec: PoseSpec = SPEC, images: int = 30) -> PoseMetrics:
    """Made images, as a run; no files of theirs exist."""
    metrics, record = made(noise=4, images=images)
    metrics.keep(replace(record, about=about(spec, root)), spec)
    return metrics


def data_of(page: Path) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert len(found) == 1
    return json.loads(found[0])


def test_counts_by_loops() -> None:
    _, record = made()
    for kind, hits in (("box", record.box_hit), ("pose", record.pose_hit)):
        for conf, level, cls in ((0.0, 0, None), (0.25, 0, None), (0.5, 4, 1), (0.99, 9, 0), (1.0, 0, None)):
            mine = [row for row in range(len(record.score)) if cls is None or record.cls[row] == cls]
            kept = [row for row in mine if float(record.score[row]) >= conf]
            truths = sum(cls is None or one == cls for one in record.truth_cls)
            tp = sum(hits[row, level] >= 0 for row in kept)
            found = counts_at(record, conf, kind, level, cls)
            assert (found.tp, found.fp, found.fn) == (tp, len(kept) - tp, truths - tp)
            assert found.recall == pytest.approx(tp / truths)
            assert found.precision == pytest.approx(tp / len(kept) if kept else 0)


def test_the_table_counts_as_python_does_at_every_step() -> None:
    _, record = made()  # scores are of two digits: they lie on the steps themselves
    table = count_table(record, SPEC.names)
    for step in range(0, 1001, 10):
        for kind in ("box", "pose"):
            for number, one in enumerate(table["classes"]):
                above = [row for row, at in enumerate(one["step"]) if at >= step]
                found = counts_at(record, step / 1000, kind, 3, number)
                assert sum(one[kind][3][row] for row in above) == found.tp
                assert sum(one["count"][row] for row in above) == found.tp + found.fp
                assert one["truths"] == found.tp + found.fn


def test_many_classes_are_counted_together() -> None:
    _, record = made()
    rng = np.random.default_rng(0)
    many = replace(record, cls=rng.integers(0, 900, len(record.cls)).astype(np.int32))
    assert len(count_table(many, {})["classes"]) > 100
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolopose.evaluate.page.counts._ROWS", 50)
        (one,) = count_table(many, {})["classes"]
    assert sum(one["count"]) == len(record.score)
    assert one["truths"] == len(record.truth_cls)


def test_images_are_ranked_by_f1() -> None:
    _, record = made()
    ranking = rank(record, 0.5)
    for img in range(30):
        mine = (record.image == img) & (record.score >= np.float32(0.5))
        truths = int((record.truth_image == img).sum())
        each = [2 * int((record.pose_hit[mine, level] >= 0).sum()) for level in range(10)]
        total = int(mine.sum()) + truths
        assert ranking.f1[img] == pytest.approx(np.mean(each) / total if total else 1)
    assert (np.diff(ranking.f1[ranking.order]) >= 0).all()
    shown = chosen(ranking, 9)
    assert len({index for index, _ in shown}) == 9
    assert [why for _, why in shown] == ["worst", "worst", "best"] * 3
    assert shown[0][0] == ranking.order[0]
    assert ranking.f1[shown[2][0]] == ranking.f1.max()
    assert len(chosen(ranking, 100)) == sum((ranking.truths + ranking.found) > 0)


def test_places_in_few_bytes() -> None:
    letterbox = Letterbox((3000, 4000), (480, 640), 80, 0, (640, 640))
    places = np.array([[0, 80], [639.888, 416.112], [1.984, -5], [700, np.nan], [320, 600]])
    back = unpacked(packed(places, letterbox), (3000, 4000))
    np.testing.assert_allclose(back, [[0, 0], [3999.3, 2100.7], [12.4, 0], [4000, 0], [2000, 3000]], atol=0.05)


def test_a_page_needs_nothing_else(tmp_path: Path) -> None:
    data = make_data(tmp_path / "set", names=["</script><b>red", "green"])
    (tmp_path / "set/images/val/000.png").rename(tmp_path / "set/images/val" / HOSTILE)
    (tmp_path / "set/labels/val/000.txt").rename(tmp_path / "set/labels/val" / HOSTILE.replace(".png", ".txt"))
    metrics = validate(Rectangles(shift=3), options(data, save_txt=True), save_dir=tmp_path / "run")
    page = write_report(metrics, tmp_path / "run")
    text = page.read_text()
    assert not re.search(r"</script><b>|<img ", text)
    own = text.replace(re.findall(r'id="data">(.*?)</script>', text, re.S)[0], "")
    assert not re.search(r"(?:src|href)=(?![\"']#)|@import|url\(", own)
    style, script = re.findall(r"<style>(.*?)</style>", text, re.S), re.findall(r"<script>(.*?)</script>", text, re.S)
    for (part,) in (style, script):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in text
    assert "default-src 'none'" in text
    assert text.count("</script>") == 2
    shown = data_of(page)
    assert [one["name"] for one in shown["classes"]] == ["</script><b>red", "green"]
    assert {row[0] for row in shown["images"]["all"]} == {f"images/val/{n:03}.png" for n in range(1, 5)} | {
        f"images/val/{HOSTILE}"
    }
    assert shown["numbers"]["rows"][0]["value"] == pytest.approx(metrics.pose.map, abs=1e-5)
    assert shown["numbers"]["rows"][0]["low"] == pytest.approx(metrics.intervals["mAP50-95(P)"].low, abs=1e-5)
    (card,) = (card for card in shown["images"]["cards"] if card["name"].endswith(HOSTILE))
    img = cv2.imdecode(np.frombuffer(base64.b64decode(card["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert img.shape == (96, 128, 3)
    assert card["truth"][0]["b"] == pytest.approx([5, 8, 40, 50], abs=0.1)
    assert card["found"][0]["p"] == pytest.approx([8, 11, 43, 53], abs=0.6)  # moved by 3 pixels
    assert card["found"][0]["k"] == 0


def test_made_again_it_is_the_same_and_without_images_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = make_data(tmp_path / "set"), tmp_path / "run"
    write_report(validate(Rectangles(shift=3), options(data, save_txt=True), save_dir=run), run)
    first = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert main(["report", f"run={run}"]) == 0
    assert (run / "report.html").read_bytes() == first
    cv2.imwrite(str(tmp_path / "set/images/val/001.png"), np.zeros((9, 9, 3), np.uint8))  # another image by now
    (tmp_path / "set/images/val/002.png").unlink()
    capsys.readouterr()
    assert main(["report", f"run={run}", "images=3"]) == 0
    assert "cannot be read, or have changed" in capsys.readouterr().err
    cards = data_of(run / "report.html")["images"]["cards"]
    assert len(cards) == 3
    assert {card["name"] for card in cards if card["jpeg"] is None} == {"images/val/001.png", "images/val/002.png"}
    assert all(card["found"] for card in cards)
    shutil.rmtree(tmp_path / "set")
    make_report(run / "detections.npz")
    assert data_of(run / "report.html")["images"]["gone"] == 4


def test_no_page_without_plots(tmp_path: Path) -> None:
    validate(Rectangles(), options(make_data(tmp_path / "set"), save_txt=True), save_dir=tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["detections.npz", "labels"]
    assert data_of(make_report(tmp_path / "run"))["facts"]


def test_a_network_that_finds_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    validate(Rectangles(), options(make_data(tmp_path / "set"), save_txt=True, conf=0.95), save_dir=run)
    shown = data_of(make_report(run))
    assert shown["notes"] == ["The network found nothing in any image, so every number is 0."]
    assert {row["value"] for row in shown["numbers"]["rows"]} == {0}
    assert all(card["truth"] and not card["found"] for card in shown["images"]["cards"])


@pytest.mark.parametrize(
    ("names", "words"), [(None, "."), (["a.jpg", "b.jpg"], ": a.jpg, b.jpg."), (["a.jpg"], ": a.jpg ….")], ids=str
)
def test_refused_images_are_named(names: list[str] | None, words: str, tmp_path: Path) -> None:
    metrics, record = made(images=4)
    told = {} if names is None else {"refused_names": names}
    metrics.keep(replace(record, about=about(SPEC, tmp_path) | {"refused": 2} | told), SPEC)
    notes = data_of(write_report(metrics, tmp_path))["notes"]
    assert notes == [f"2 of 6 images could not be read and do not count{words}"]


def test_classes_with_points_of_their_own_have_a_figure_each(tmp_path: Path) -> None:
    names = {0: tuple("vwxyz"), 1: tuple("VWXYZ")}
    spec = replace(SPEC, keypoints=replace(SPEC.keypoints, names=names, skeleton=((0, 1), (1, 4))))
    shown = data_of(write_report(made_run(tmp_path, spec), tmp_path))["keypoints"]["groups"]
    assert [group["names"] for group in shown] == [list("vwxyz"), list("VWXYZ")]
    assert all(len(group["places"]) == len(group["rows"]) == 5 for group in shown)
    assert shown[0]["edges"] == [[0, 1], [1, 4]]


def test_it_stays_small_by_leaving_out_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = made_run(tmp_path)
    whole = write_report(metrics, tmp_path)
    found = data_of(whole)["images"]
    assert found["without_room"] == 0
    limit = whole.stat().st_size - 8000
    monkeypatch.setattr("yolopose.evaluate.page.making._LIMIT", limit)
    less = data_of(write_report(metrics, tmp_path))["images"]
    assert limit - 4000 < whole.stat().st_size < limit
    assert less["without_room"] > 0
    assert len(less["cards"]) + less["without_room"] == len(found["cards"])


def old(record: Record, path: Path) -> None:
    record.save(path)
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **{**arrays, "format": np.array(1)})


def test_runs_of_which_no_report_can_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 1
    assert "yolo report run=" in capsys.readouterr().err
    assert main(["report", f"run={tmp_path}"]) == 1
    assert "detections.npz" in capsys.readouterr().err
    with pytest.raises(NotFoundError):
        make_report(tmp_path / "none")
    _, record = made()
    record.save(tmp_path / "detections.npz")
    with pytest.raises(DataError, match="does not say what was measured"):
        make_report(tmp_path)
    old(record, tmp_path / "detections.npz")
    with pytest.raises(DataError, match="older yolopose"):
        load_record(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("sure", "truths", "kept"), [(3, 1, 3), (0, 2, 2), (0, 99, 40), (40, 5, 20), (0, 0, 0)])
def test_how_many_places_are_kept(sure: int, truths: int, kept: int) -> None:
    scores = np.where(np.arange(40) < sure, 0.4, 0.05).astype(np.float32)
    found = Detections(
        np.ones((40, 4), np.float32), scores, np.zeros(40, np.int64), np.ones((40, 5, 2), np.float32)
    )  # a network that says nothing of visibility
    places = detection_places(found, truths, Letterbox((256, 256), (256, 256), 0, 0, (256, 256)))
    assert [len(column) for column in places.values()] == [kept] * 4
    assert (places["drawn_seen"] == 255).all()
