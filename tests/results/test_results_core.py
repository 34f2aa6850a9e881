"""Results of one image: instances, text, tables, files."""

from __future__ import annotations

import csv
import io
import json
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from results_samples import BOXES, NAMES, POINTS, SCHEMA

from yolopose.base.errors import DependencyError, OutputError, UsageError
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.schema import KeypointSchema


def test_instances(make, kind):
    result = make(kind=kind)
    assert len(result) == 3
    assert [one.boxes.shape for one in result] == [(1, 6)] * 3
    assert result[1].verbose() == "1 dog, "
    assert result[-1].keypoints["left_ear"].tolist() == [POINTS[2, 0].tolist()]
    assert len(result[result.boxes.conf > 0.4]) == 2
    assert type(result.numpy().boxes.data) is np.ndarray
    assert type(result.cpu().boxes.xywhn) is type(result.boxes.data)
    assert result.masks is result.probs is result.obb is None
    assert result.orig_shape == (100, 200)
    assert "2 persons, 1 dog" in repr(result)


def test_verbose(make):
    assert make().verbose() == "2 persons, 1 dog, "
    assert make(np.zeros((0, 6)), np.zeros((0, 3, 3))).verbose() == "(no detections), "
    assert make(None, None).verbose() == "(no detections), "
    assert make(None, POINTS).verbose() == "3 persons, "
    assert make([[0, 0, 5, 5, 0.5, 9]], None).verbose() == "1 class9, "


def test_refuses_different_numbers_of_boxes_and_keypoints(make):
    with pytest.raises(UsageError, match="3 boxes and 2 sets of keypoints"):
        make(BOXES, POINTS[:2])
    result = make()
    with pytest.raises(UsageError, match="1 boxes"):
        result.update(boxes=BOXES[:1])
    assert len(result.boxes) == 3


def test_update_clips_and_new_is_empty(make, kind):
    result = make(kind=kind)
    result.update(boxes=kind(np.array([[-5, -6, 900, 901, 0.5, 0]] * 3, np.float32)), keypoints=kind(POINTS + 1))
    assert result.boxes.xyxy.tolist() == [[0, 0, 200, 100]] * 3
    assert result.keypoints.xy[0, 0].tolist() == [16.5, 31.25]
    assert result.keypoints.names == SCHEMA.names[0]
    assert len(result.new().boxes) == len(result.new().keypoints) == 0
    empty = result.new()
    empty.update(boxes=kind(np.array([[0, 0, 9, 9, 0.5, 0]], np.float32)))
    assert (empty.boxes.shape, empty.keypoints.shape) == ((1, 6), (1, 0, 3))
    result.update(masks=None)
    with pytest.raises(UsageError, match="masks"):
        result.update(masks=np.zeros(3))
    assert result.new().path == result.path


def test_keypoint_names_by_class(make):
    both = KeypointSchema(count=3, names={0: ("a", "b", "c"), 1: ("d", "e", "f")})
    result = make(schema=both)
    assert result.keypoints.names is None
    assert result[1].keypoints.names == ("d", "e", "f")
    assert make(schema=None).keypoints.names is None


def test_summary(make, tracked):
    first, second, _ = make(tracked).summary()
    assert list(first) == ["name", "class", "confidence", "box", "track_id", "keypoints"]
    assert (second["name"], second["class"], second["confidence"], second["track_id"]) == ("dog", 1, 0.5, 3)
    assert second["box"] == {"x1": 20.12346, "y1": 30.0, "x2": 50.0, "y2": 70.0}
    assert first["keypoints"] == {"x": [15.5, 40, 55], "y": [30.25, 50, 85], "visible": [0.9, 0.1, 0.6]}
    flat = make(points=POINTS[..., :2]).summary(normalize=True, decimals=2)[0]
    assert flat["box"] == {"x1": 0.05, "y1": 0.2, "x2": 0.3, "y2": 0.9}
    assert flat["keypoints"] == {"x": [0.08, 0.2, 0.28], "y": [0.3, 0.5, 0.85]}


def test_json_and_csv(make):
    result = make()
    assert json.loads(result.to_json()) == result.summary()
    assert result.tojson(decimals=1) == result.to_json(decimals=1)
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["name"] for row in rows] == ["person", "dog", "person"]
    assert [rows[0][key] for key in ("x1", "y1", "x2", "y2")] == ["10.0", "20.0", "60.0", "90.0"]
    broken = make(points=POINTS * np.nan).to_json()
    assert json.loads(broken)[0]["keypoints"]["x"] == [None] * 3


def test_nothing_found(make, tmp_path):
    empty = make(np.zeros((0, 6)), np.zeros((0, 3, 3)))
    assert (len(empty), empty.summary(), json.loads(empty.to_json())) == (0, [], [])
    points = ",".join(f"{name}_{field}" for name in SCHEMA.names[0] for field in ("x", "y", "conf"))
    assert empty.to_csv() == f"name,class,confidence,x1,y1,x2,y2,{points}\n"
    empty.save_txt(tmp_path / "labels" / "a.txt")
    assert empty.save_crop(tmp_path / "crops") == []
    assert not list(tmp_path.iterdir())
    assert not empty.plot().any()


def test_unreadable_image(tmp_path):
    result = Results.unreadable("x.jpg", NAMES, "The file is empty.", schema=SCHEMA)
    assert (len(result), result.boxes.shape, result.keypoints.shape) == (0, (0, 6), (0, 3, 3))
    assert result.verbose() == "(not read: The file is empty), "
    assert len(np.unique(result.plot())) > 2  # words on gray
    assert result.summary() == []
    assert result.boxes.xywhn.shape == (0, 4)
    assert cv2.imread(result.save(tmp_path / "x.png")).ndim == 3


@pytest.mark.parametrize(("module", "other"), [("polars", "pandas"), ("pandas", "polars")])
def test_data_frame(make, monkeypatch, module, other):
    def frame(rows=None, **more):
        return module, rows, more

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(DataFrame=frame))
    monkeypatch.setitem(sys.modules, other, None)
    name, rows, _ = make().to_df()
    assert name == module
    assert [list(row) for row in rows] == [make().to_csv().splitlines()[0].split(",")] * 3
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match="pip install polars"):
        make().to_df()


@pytest.mark.parametrize("dims", [2, 3])
def test_label_text_round_trip(make, kind, tracked, tmp_path, dims):
    result = make(tracked, POINTS[..., :dims], kind=kind)
    path = result.save_txt(tmp_path / "deep" / "a.txt", save_conf=True)
    rows = np.loadtxt(path)
    assert rows.shape == (3, 1 + 4 + 3 * dims + 2)
    np.testing.assert_array_equal(rows[:, 0], [0, 1, 0])
    np.testing.assert_allclose(rows[:, 1:5], np.asarray(result.boxes.xywhn), rtol=1e-5)
    points = rows[:, 5:-2].reshape(3, 3, dims)
    points[..., :2] *= [200, 100]
    np.testing.assert_allclose(points, POINTS[..., :dims], rtol=1e-5)
    np.testing.assert_allclose(rows[:, -2], BOXES[:, 4], rtol=1e-5)
    np.testing.assert_array_equal(rows[:, -1], [7, 3, 12])


def test_label_text_matches_reference(make, tmp_path):
    """Six significant digits, no trailing zeros: the form that label files of such toolkits have."""
    result = make([[20.123456, 30, 50, 70, 0.5, 1]], [[[10.5, 20.25], [0, 0], [30, 33]]])
    path = tmp_path / "a.txt"
    result.save_txt(path)
    line = "1 0.175309 0.5 0.149383 0.4 0.0525 0.2025 0 0 0.15 0.33\n"
    assert path.read_text() == line
    result.save_txt(path, save_conf=True)
    assert path.read_text() == line + line[:-1] + " 0.5\n"
    result.save_txt(path, append=False)
    assert path.read_text() == line
    with pytest.raises(OutputError, match="is a file, not a folder"):
        result.save_txt(path / "b.txt")


def test_summary_of_a_real_image():
    """The first person of bus.jpg as the reference writes it."""
    people = json.loads((Path(__file__).parents[1] / "fixtures/predictions_bus.json").read_text())
    boxes = torch.tensor([[*one["xyxy"], one["conf"], one["cls"]] for one in people])
    points = torch.tensor([one["keypoints"] for one in people])
    result = Results(np.zeros((1080, 810, 3), np.uint8), "bus.jpg", NAMES, boxes=boxes, keypoints=points)
    assert result.verbose() == "4 persons, "
    first = result.summary()[0]
    assert first["confidence"] == pytest.approx(0.88505, abs=2e-5)
    assert list(first["box"].values()) == pytest.approx([47.2191, 399.75562, 244.0432, 905.67188], abs=2e-3)
    assert first["keypoints"]["visible"][:3] == pytest.approx([0.9912, 0.93527, 0.98701], abs=2e-5)


# sizes that the reference cuts for these boxes of a 256 × 256 image: (height, width), left, top
@pytest.mark.parametrize(
    ("box", "size", "corner"),
    [
        ([102.364, 190.093, 112.726, 247.114], (68, 20), (97, 184)),
        ([109.919, 5.512, 155.622, 38.724], (44, 57), (104, 0)),
        ([192.331, 144.958, 225.723, 163.018], (29, 45), (186, 139)),
        ([7.919, 105.718, 36.56, 111.334], (16, 39), (2, 100)),
    ],
)
def test_crops(make, tmp_path, box, size, corner):
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(256)[None], np.arange(256)[:, None]
    (path,) = make([[*box, 0.9, 0]], None, image).save_crop(tmp_path, "bus.jpg")
    assert path == tmp_path / "person" / "bus.jpg"
    crop = cv2.imread(str(path))
    assert crop.shape[:2] == size
    assert crop[:, 0, 0].mean() == pytest.approx(corner[0], abs=2)
    assert crop[0, :, 1].mean() == pytest.approx(corner[1], abs=2)


def test_crop_names(make, tmp_path):
    result = make()
    result.names[1] = "a/b"
    assert [str(path.relative_to(tmp_path)) for path in result.save_crop(tmp_path, "v.1")] == [
        "person/v.1.jpg",
        "a_b/v.1.jpg",
        "person/v.1-2.jpg",
    ]
    assert result[0].save_crop(tmp_path, "v.1")[0].name == "v.1-3.jpg"
    assert make([[300, 300, 320, 320, 0.9, 0], [np.nan] * 4 + [0.9, 0]], None).save_crop(tmp_path) == []


# public names that scripts for the reference use, and what they are on a result of two people and a dog
NAMES_OF_THE_REFERENCE = {
    "": "orig_img orig_shape boxes keypoints masks probs obb semantic_mask depth speed names path save_dir cpu numpy "
    "cuda to new update verbose plot show save save_txt save_crop summary to_df to_csv to_json",
    "boxes": "data xyxy xywh xyxyn xywhn conf cls id is_track orig_shape shape cpu numpy cuda to",
    "keypoints": "data xy xyn conf has_visible orig_shape shape cpu numpy cuda to",
}
SHAPES = {
    "boxes": {
        "data": (3, 6),
        "xyxy": (3, 4),
        "xywh": (3, 4),
        "xyxyn": (3, 4),
        "xywhn": (3, 4),
        "conf": (3,),
        "cls": (3,),
    },
    "keypoints": {"data": (3, 3, 3), "xy": (3, 3, 2), "xyn": (3, 3, 2), "conf": (3, 3)},
}


def test_has_all_attributes_of_the_reference(make, kind):
    result = make(kind=kind)
    for part, names in NAMES_OF_THE_REFERENCE.items():
        owner = getattr(result, part) if part else result
        assert [name for name in names.split() if not hasattr(owner, name)] == []
    for part, shapes in SHAPES.items():
        for name, shape in shapes.items():
            value = getattr(getattr(result, part), name)
            assert (tuple(value.shape), type(value)) == (shape, type(result.boxes.data)), (part, name)
    assert (result.boxes.id, result.boxes.is_track, result.keypoints.has_visible) == (None, False, True)
    assert result.boxes.shape == (3, 6)
    assert list(result.speed) == ["preprocess", "inference", "postprocess"]
    flat = make(points=POINTS[..., :2], kind=kind).keypoints
    assert (flat.conf, flat.has_visible) == (None, False)


def test_keypoints_by_name(make, kind):
    result = make(kind=kind)
    assert result.keypoints["nose"].tolist() == POINTS[:, 1].tolist()
    assert result[1].keypoints["nose"].tolist() == POINTS[1:2, 1].tolist()
    assert result.keypoints[1]["nose"].tolist() == POINTS[1:2, 1].tolist()
    with pytest.raises(UsageError, match=r"Unknown keypoint 'nos'.*'nose'.*left_ear, nose, right_ear"):
        result.keypoints["nos"]
    both = KeypointSchema(count=3, names={0: ("a", "b", "c"), 1: ("d", "e", "f")})
    result = make(schema=both, kind=kind)
    assert result[1].keypoints["e"].tolist() == POINTS[1:2, 1].tolist()
    with pytest.raises(UsageError, match="differ"):
        result.keypoints["e"]
    with pytest.raises(UsageError, match="are unknown"):
        make(schema=None).keypoints["e"]


def test_lazy_image(tmp_path):
    reads = []

    def read():
        reads.append(1)
        return np.full((100, 200, 3), 9, np.uint8)

    result = Results(read, "a.jpg", NAMES, boxes=BOXES, keypoints=POINTS, schema=SCHEMA, orig_shape=(100, 200))
    assert (result.orig_shape, len(result), result.verbose()) == ((100, 200), 3, "2 persons, 1 dog, ")
    result.save_txt(tmp_path / "a.txt")
    result.update(boxes=result.boxes.data)
    people = list(result)
    assert reads == []
    assert [person.orig_img.shape for person in people] == [(100, 200, 3)] * 3
    assert np.array_equal(result.plot(), people[0].new().plot()) is False
    again = pickle.loads(pickle.dumps(result))
    assert (again.orig_img == 9).all()
    assert reads == [1]
    result.orig_img = np.zeros((100, 200, 3), np.uint8)
    assert not result.orig_img.any()


def test_image_at_half_size(make, tmp_path):
    """Boxes are in pixels of the whole image; a smaller one shows them at the same places."""
    image = np.zeros((50, 100, 3), np.uint8)
    image[10:45, 5:30] = 200  # where the first box is
    half = make(img=image, orig_shape=(100, 200))
    assert half.orig_shape == (100, 200)
    assert half.boxes.xyxyn.tolist() == make().boxes.xyxyn.tolist()
    assert half.plot().shape == (50, 100, 3)
    crop = cv2.imread(str(half[0].save_crop(tmp_path)[0]))
    assert crop.mean() > 100
    assert abs(crop.shape[0] - 45) < 3


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_and_keypoints_are_never_none(make, kind, dims):
    """Without boxes they surround the keypoints; without keypoints there are instances with none."""
    points = np.array([[[10, 20, 0.5], [30, 15, 0.7], [0, 0, 0.9]], [[np.nan] * 3] * 3])[..., :dims]
    result = make(None, points, kind=kind)
    confidence = 0.6 if dims == 3 else 1
    assert to_numpy(result.boxes.data)[0] == pytest.approx([10, 15, 30, 20, confidence, 0], abs=1e-6)
    assert to_numpy(result.boxes.data)[1].tolist() == [0] * 6
    assert type(result.boxes.data) is type(result.keypoints.data)
    bare = make(BOXES, None, kind=kind)
    assert bare.keypoints.shape == (3, 0, 3)
    assert "keypoints" not in bare.summary()[0]
    assert bare.plot().shape == (100, 200, 3)
    assert len(bare[1].to_csv().splitlines()[1].split(",")) == 7
    empty = make(None, None)
    assert (empty.boxes.shape, empty.keypoints.shape) == ((0, 6), (0, 3, 3))


def test_flat_table(make, tracked):
    """One column per value: as in predictions.csv, by the names of the keypoints."""
    result = make(tracked)
    rows = list(csv.DictReader(io.StringIO(result.to_csv(decimals=3))))
    summary = result.summary(decimals=3)
    names = SCHEMA.names[0]
    assert list(rows[0])[:8] == ["name", "class", "confidence", "x1", "y1", "x2", "y2", "track_id"]
    for row, expected in zip(rows, summary, strict=True):
        assert [float(row[key]) for key in ("x1", "y1", "x2", "y2")] == list(expected["box"].values())
        assert [float(row[f"{name}_y"]) for name in names] == expected["keypoints"]["y"]
        assert [float(row[f"{name}_conf"]) for name in names] == expected["keypoints"]["visible"]
        assert int(row["track_id"]) == expected["track_id"]
    normalized = next(csv.DictReader(io.StringIO(result.to_csv(normalize=True))))
    assert float(normalized[f"{names[0]}_x"]) == pytest.approx(float(rows[0][f"{names[0]}_x"]) / 200, abs=1e-4)
    unknown = make(schema=None).to_csv().splitlines()[0]
    assert unknown.endswith("keypoint_2_x,keypoint_2_y,keypoint_2_conf")
    sigma = make(sigmas=np.ones((3, 3, 2), np.float32)).to_csv().splitlines()[0]
    assert sigma.endswith(f"{names[2]}_conf,{names[2]}_sigma_x,{names[2]}_sigma_y")


def test_data_frame_of_pandas(make, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "polars", None)
    frame = make().to_df()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.shape == (3, 7 + 9)
    assert frame[f"{SCHEMA.names[0][1]}_x"].dtype == np.float64
    assert list(make(np.zeros((0, 6)), np.zeros((0, 3, 3))).to_df().columns) == list(frame.columns)
