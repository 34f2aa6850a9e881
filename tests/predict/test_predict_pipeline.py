from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fake_runtime import SPEC, FakeRuntime, painted
from yolopose.base.errors import NotFoundError, SourceError, UsageError
from yolopose.config import PredictOptions
from yolopose.predict import predict
from yolopose.results import HostArray, Results
from yolopose.schema import ModelMetadata

FIXED = ModelMetadata(spec=SPEC, imgsz=(96, 128), dynamic=False, batch=2)


def options(**values: object) -> PredictOptions:
    return PredictOptions(**{"imgsz": 128, "verbose": False, **values})  # type: ignore[arg-type]  # any key


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return path


@pytest.mark.parametrize("shape", [(64, 128), (128, 128), (200, 300), (300, 100), (1000, 999)])
@pytest.mark.parametrize("fixed", [False, True])
def test_maps_boxes_and_keypoints_to_image_pixels(shape: tuple[int, int], fixed: bool) -> None:
    height, width = shape
    box = (width // 4, height // 8, width * 3 // 4, height // 2)
    runtime = FakeRuntime(FIXED) if fixed else FakeRuntime()
    (result,) = predict(runtime, painted(height, width, box), options())
    assert isinstance(result.boxes.data, HostArray)
    pixel = max(height, width) / 90  # one pixel of the input
    np.testing.assert_allclose(result.boxes.xyxy[0], box, atol=1.1 * pixel)
    np.testing.assert_allclose(result.keypoints.xy[0].ravel(), box, atol=1.1 * pixel)
    np.testing.assert_allclose(result.keypoints.conf, 0.75)
    assert (float(result.boxes.conf[0]), int(result.boxes.cls[0])) == (0.875, 0)
    assert result.orig_shape == shape
    assert result.names == {0: "red", 1: "green"}
    assert set(result.speed) == {"preprocess", "inference", "postprocess"}
    assert all(value is not None and value >= 0 for value in result.speed.values())


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_results_keep_order_and_are_independent_of_batch(batch: int) -> None:
    shapes = [(64, 128), (128, 64), (60, 128), (100, 100), (128, 64), (64, 128), (30, 60)]
    sources = [painted(h, w, (5 + i, 7, 25 + i, 20)) for i, (h, w) in enumerate(shapes)]
    alone = [next(predict(FakeRuntime(), source, options())) for source in sources]
    together = list(predict(FakeRuntime(), sources, options(batch=batch)))
    assert [result.path for result in together] == [f"image{i}.jpg" for i in range(len(shapes))]
    for one, other, source in zip(alone, together, sources, strict=True):
        assert np.shares_memory(other.orig_img, source)
        np.testing.assert_array_equal(one.boxes.data, other.boxes.data)
        np.testing.assert_array_equal(one.keypoints.data, other.keypoints.data)


def test_batches_have_one_rectangular_input_size() -> None:
    runtime = FakeRuntime()
    wide, tall = np.zeros((60, 120, 3), np.uint8), np.zeros((120, 60, 3), np.uint8)
    assert len(list(predict(runtime, [wide, wide, tall, wide, tall], options(batch=4)))) == 5
    assert runtime.shapes == [(3, 3, 64, 128), (2, 3, 128, 64)]  # the last tall one is of the next batch


def test_fixed_network_gets_its_size_and_batch(capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime(FIXED)
    list(predict(runtime, [np.zeros((60, 120, 3), np.uint8)] * 3, options(batch=16, imgsz=224)))
    assert runtime.shapes == [(2, 3, 96, 128), (1, 3, 96, 128)]
    assert "exported only for [96, 128]" in capsys.readouterr().err


@pytest.mark.parametrize(("imgsz", "shape"), [(65, (96, 96)), ([32, 65], (32, 96)), ((64,), (64, 64))])
def test_rounds_imgsz_up(imgsz: object, shape: tuple[int, int], capsys: pytest.CaptureFixture[str]) -> None:
    runtime = FakeRuntime()
    list(predict(runtime, np.zeros((shape[0] * 3, shape[1] * 3, 3), np.uint8), options(imgsz=imgsz)))
    assert runtime.shapes == [(1, 3, *shape)]
    assert ("rounded up" in capsys.readouterr().err) == (imgsz != (64,))


def test_tensors_are_network_input() -> None:
    torch = pytest.importorskip("torch")
    runtime = FakeRuntime()
    image = painted(32, 64, (10, 5, 30, 20), cls=1)
    batch = torch.from_numpy(np.ascontiguousarray(image[None, :, :, ::-1].transpose(0, 3, 1, 2))) / 255
    results = list(predict(runtime, torch.cat((batch, batch)), options(batch=2)))
    assert (runtime.shapes, runtime.types) == ([(2, 3, 32, 64)], [np.dtype(np.float32)])
    for result in results:
        np.testing.assert_allclose(result.boxes.xyxy, [[10, 5, 30, 20]])
        np.testing.assert_array_equal(result.orig_img, image)
    with pytest.raises(UsageError, match="only inputs of 96 × 128"):
        list(predict(FakeRuntime(FIXED), batch, options()))


def test_unreadable_image_has_empty_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "a.png", painted(64, 64, (10, 10, 30, 30)))
    (tmp_path / "b.png").write_bytes(b"rubbish")
    write(tmp_path / "c.png", painted(64, 64, (10, 10, 30, 30)))
    first, second, third = predict(FakeRuntime(), tmp_path, options(batch=4, save=True, project=str(tmp_path / "runs")))
    assert [len(first), len(second), len(third)] == [1, 0, 1]
    assert "b.png" in (second.error or "")
    assert second.keypoints.data.shape == (0, 2, 3)
    assert "image 2/3" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "runs/predict").iterdir()) == ["a.png", "c.png"]
    with pytest.raises(SourceError):
        list(predict(FakeRuntime(), tmp_path / "b.png", options()))
    assert first.path == str(good)


def test_classes_and_limits() -> None:
    image = painted(64, 64, (2, 2, 20, 20)) | painted(64, 64, (30, 30, 60, 60), cls=1)
    for values, expected in (({}, [0, 1]), ({"classes": 1}, [1]), ({"classes": [1, 0]}, [0, 1]), ({"max_det": 1}, [0])):
        (result,) = predict(FakeRuntime(), image, options(**values))
        assert sorted(int(cls) for cls in result.boxes.cls) == expected
    (empty,) = predict(FakeRuntime(), np.zeros((64, 64, 3), np.uint8), options())
    assert empty.boxes.data.shape == (0, 6)
    assert empty.keypoints.data.shape == (0, 2, 3)


def test_checks_arguments_immediately() -> None:
    with pytest.raises(UsageError, match="unknown class 7"):
        predict(FakeRuntime(), np.zeros((9, 9, 3), np.uint8), options(classes=[7]))
    with pytest.raises(NotFoundError):
        predict(FakeRuntime(), "nothere.jpg", options())
    with pytest.raises(UsageError, match="needs a source"):
        predict(FakeRuntime(), None, options())


def test_results_are_lazy() -> None:
    runtime = FakeRuntime()
    results = predict(runtime, [np.zeros((64, 64, 3), np.uint8)] * 50, options())
    assert isinstance(next(results), Results)
    assert len(runtime.shapes) < 10


def test_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    image = painted(64, 128, (10, 10, 30, 30))
    list(predict(FakeRuntime(), [image, image * 0], options(verbose=True)))
    first, second, speed = capsys.readouterr().out.splitlines()
    assert first.startswith("image 1/2 image0.jpg: 64x128 1 red, ")
    assert first.endswith("ms")
    assert second.startswith("image 2/2 image1.jpg: 64x128 (no detections), ")
    assert speed.startswith("Speed: ")
    list(predict(FakeRuntime(), image, options(verbose=False)))
    assert capsys.readouterr().out == ""


def test_fast_decode_keeps_coordinates(tmp_path: Path) -> None:
    big = painted(1200, 1600, (400, 300, 1200, 900))
    (tmp_path / "big.jpg").write_bytes(cv2.imencode(".jpg", big)[1].tobytes())
    (plain,) = predict(FakeRuntime(), tmp_path / "big.jpg", options())
    (fast,) = predict(FakeRuntime(), tmp_path / "big.jpg", options(fast_decode=True, save=True, project=str(tmp_path)))
    assert fast.orig_shape == (1200, 1600)
    np.testing.assert_allclose(fast.boxes.data, plain.boxes.data, atol=13)  # a pixel of the input
    assert fast.orig_img.shape == (1200, 1600, 3)
    assert cv2.imread(str(tmp_path / "predict/big.jpg")).shape == (1200, 1600, 3)


def test_closing_results_finishes_files(tmp_path: Path) -> None:
    results = predict(
        FakeRuntime(), [painted(64, 64, (10, 10, 30, 30))] * 9, options(save_csv=True, project=str(tmp_path))
    )
    next(results)
    results.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(next((tmp_path / "predict").glob("*.csv")).read_text().splitlines()) == 2
