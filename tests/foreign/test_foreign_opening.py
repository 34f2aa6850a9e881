"""Names, files, downloads and errors of networks of other packages."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import foreign_graphs
from servers import Server, whole
from yolopose import YOLO
from yolopose.base.errors import DataError, DownloadError, NotFoundError, UsageError, WeightsError, YoloposeError
from yolopose.data.given_boxes import read_boxes
from yolopose.foreign import find_foreign, foreign_models, open_foreign
from yolopose.foreign.bundle import bundle, packed_graphs, read_bundle
from yolopose.foreign.opening import layouts
from yolopose.foreign.table import ForeignModel, named_spec

ROOT = Path(__file__).resolve().parents[2]


def test_every_row_of_the_table() -> None:
    rows = foreign_models()
    assert len({row.name for row in rows}) == len(rows) > 30
    names = {layout.name for layout in layouts()}
    text = (ROOT / "docs/license.md").read_text(encoding="utf-8")
    for row in rows:
        assert row.layout in names
        spec = named_spec(row.schema, 3)
        assert (spec.nc, spec.keypoints.count) == (1, row.count)
        assert spec.keypoints.flip_idx is not None
        assert spec.keypoints.skeleton
        assert row.url.startswith("https://") or row.convert
        assert row.data
        assert row.license
        assert find_foreign(row.name) == row == find_foreign(f"folder/{row.name}{row.suffix}")
        assert row.source in text


def test_published_file_names_are_recognized() -> None:
    found = find_foreign("rtmpose-m_simcc-ap10k_pt-aic-coco_210e-256x256-7a041aa1_20230206.onnx")
    assert found is not None
    assert found.name == "rtmpose-m-ap10k"
    assert find_foreign("end2end.onnx") is None


@pytest.mark.parametrize("name", ["rtmo-s", "rtmo-s.onnx", "mediapipe-pose-lite", "vitpose-s"])
def test_downloads_are_only_made_where_allowed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DownloadError, match="offline mode"):
        YOLO(name)


def test_networks_without_a_published_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match=r"Export it with .* save the ONNX file as detrpose-s\.onnx"):
        YOLO("detrpose-s")


def zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("20231211/rtmo_onnx/end2end.onnx", content)
    return stream.getvalue()


def redirect(monkeypatch: pytest.MonkeyPatch, row: ForeignModel) -> None:
    monkeypatch.setattr("yolopose.model.foreign_models.find_foreign", lambda _: row)


def test_download_of_an_archive(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = foreign_graphs.rtmo(tmp_path / "graph.onnx").read_bytes()
    server.answers["/rtmo-s.zip"] = whole(zipped(graph))
    known = find_foreign("rtmo-s")
    assert known is not None
    digest = hashlib.sha256(zipped(graph)).hexdigest()
    redirect(monkeypatch, replace(known, url=f"{server.address}/rtmo-s.zip", sha256=digest))
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    model = YOLO("rtmo-s")
    assert model.spec.keypoints.count == 17
    assert sorted(path.name for path in (tmp_path / "weights").glob("rtmo*")) == ["rtmo-s.onnx", "rtmo-s.onnx.sha256"]
    assert (tmp_path / "weights/rtmo-s.onnx").read_bytes() == graph
    YOLO("rtmo-s.onnx")
    assert len(server.seen) == 1
    (tmp_path / "weights/rtmo-s.onnx").write_bytes(graph + b"x")
    with pytest.raises(DownloadError, match="has changed since it was downloaded"):
        YOLO("rtmo-s")


def test_download_of_another_file_is_refused(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/x.zip"] = whole(zipped(b"graph"))
    known = find_foreign("rtmo-s")
    assert known is not None
    redirect(monkeypatch, replace(known, url=f"{server.address}/x.zip", sha256="0" * 64))
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path / "weights"))
    with pytest.raises(DownloadError, match="differs from the one that the maintainers"):
        YOLO("rtmo-s")
    assert not list((tmp_path / "weights").glob("*.onnx"))


def test_archive_without_the_graph(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/x.zip"] = whole(zipped(b"graph"))
    known = find_foreign("rtmo-s")
    assert known is not None
    redirect(monkeypatch, replace(known, url=f"{server.address}/x.zip", member="other.onnx"))
    with pytest.raises(WeightsError, match=r"does not contain other\.onnx"):
        YOLO("rtmo-s")


def test_package_becomes_a_bundle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landmarks, full, lite = (bytes([8, 0, 0, 0]) + b"TFL3" + name for name in (b"points", b"full", b"lite"))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in (("hand_landmark_lite.tflite", landmarks), ("packed.data", b"Left\n" + full + lite)):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    server.answers["/hands.tgz"] = whole(stream.getvalue())
    known = find_foreign("mediapipe-hand-lite")
    assert known is not None
    redirect(monkeypatch, replace(known, url=f"{server.address}/hands.tgz", detector="packed.data", sha256=""))
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path))
    with pytest.raises(YoloposeError):  # these are not networks
        YOLO("mediapipe-hand-lite")
    assert read_bundle(tmp_path / "mediapipe-hand-lite.task") == (landmarks, lite)
    assert packed_graphs(b"Left\n" + full + lite) == [full, lite]


def test_unknown_layout_is_one_clear_paragraph(tmp_path: Path) -> None:
    outputs = {"heat": np.zeros((1, 7, 9), np.float32)}
    path = foreign_graphs.constant(tmp_path / "x.onnx", (1, 3, 32, 32), outputs)
    with pytest.raises(WeightsError) as caught:
        YOLO(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "images (1 × 3 × 32 × 32, float32)" in text
    assert "heat (1 × 7 × 9, float32)" in text
    assert all(layout.title in text for layout in layouts())


def test_detector_of_two_stages_is_named(tmp_path: Path) -> None:
    outputs = {"boxes": np.zeros((1, 2254, 12), np.float32), "scores": np.zeros((1, 2254, 1), np.float32)}
    path = foreign_graphs.constant(tmp_path / "x.onnx", (1, 224, 224, 3), outputs)
    with pytest.raises(WeightsError, match="the first of its two stages"):
        open_foreign(path)


@pytest.mark.parametrize("content", [b"", b"no graph", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".onnx", ".task"])
def test_damaged_files(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rtmo-s{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"rtmo-s"):
        YOLO(path)
    with pytest.raises(NotFoundError):
        YOLO(tmp_path / "none.task")


def test_bundle_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.task"
    path.write_bytes(bundle(b"a", b"b").replace(b"landmarks_detector", b"classifier_of_text"))
    with pytest.raises(WeightsError, match="is not a bundle for poses or hands"):
        YOLO(path)


def test_keypoints_of_a_yaml_beside_the_file(tmp_path: Path) -> None:
    path = foreign_graphs.simcc(tmp_path / "mouse.onnx", count=3)
    assert YOLO(path).spec.keypoints.names == {}
    (tmp_path / "mouse.yaml").write_text("names: [mouse]\nkpt_shape: [3, 3]\nkpt_names: {0: [nose, neck, tail]}\n")
    assert YOLO(path).spec.keypoints.keypoint_names(0) == ("nose", "neck", "tail")
    (tmp_path / "mouse.yaml").write_text("names: [mouse]\nkpt_shape: [4, 3]\n")
    with pytest.raises(WeightsError, match="returns 3 keypoints"):
        YOLO(path)


@pytest.mark.parametrize("value", ["text", [[1, 2]], [[1, 2, 3, float("nan")]], 5, {"a.jpg": [[1]]}])
def test_given_boxes_that_are_none(value: object, tmp_path: Path) -> None:
    with pytest.raises((UsageError, DataError), match="given_boxes"):
        read_boxes(value)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"image_id": 1}]', '[{"image_id": 1, "bbox": [1, 2, 3]}]'])
def test_given_boxes_of_a_bad_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        read_boxes(tmp_path / "x.json")


def test_given_boxes_of_files(tmp_path: Path) -> None:
    results = '[{"image_id": 139, "bbox": [1, 2, 3, 4], "score": 0.5}, {"image_id": "b", "bbox": [0, 0, 2, 2]}]'
    (tmp_path / "results.json").write_text(results)
    table = read_boxes(tmp_path / "results.json")
    np.testing.assert_allclose(table.of_image("000000000139.jpg", (10, 10)), [[1, 2, 4, 6, 0.5]])
    np.testing.assert_allclose(table.of_image("b.png", (10, 10)), [[0, 0, 2, 2, 1]])
    assert table.of_image("c.png", (10, 10)).shape == (0, 5)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.4 0.1 0.1 2\n")
    table = read_boxes(tmp_path / "labels")
    np.testing.assert_allclose(table.of_image("a.jpg", (100, 200)), [[80, 30, 120, 70, 1]], rtol=1e-5)
    assert table.of_image("none.jpg", (100, 200)).shape == (0, 5)
    (tmp_path / "labels/a.txt").write_text("person\n")
    with pytest.raises(DataError, match="line 1"):
        table.of_image("a.jpg", (100, 200))
