from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch

from yolopose import YOLO
from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats import open_runtime
from yolopose.formats.export_modules import Decoded
from yolopose.formats.onnx import OnnxRuntime
from yolopose.formats.pytorch import TorchRuntime
from yolopose.runtime import from_end2end

onnx = pytest.importorskip("onnx")


def opened(path: str) -> OnnxRuntime:
    runtime = open_runtime(path, device="cpu")
    assert isinstance(runtime, OnnxRuntime)
    return runtime


@pytest.mark.parametrize(
    ("opset", "dynamic"),
    [
        (13, False),
        (17, True),
        (18, False),
        (18, True),
        *(pytest.param(*other, marks=pytest.mark.slow) for other in ((13, True), (17, False), (22, False), (22, True))),
    ],
)
def test_output_of_every_opset_equals_that_of_torch(opset: int, dynamic: bool, small: YOLO) -> None:
    runtime = opened(small.export(format="onnx", imgsz=[64, 96], opset=opset, dynamic=dynamic, verbose=False))
    assert runtime.metadata.dynamic == dynamic
    assert runtime.metadata.imgsz == (64, 96)
    assert runtime.metadata.spec == small.spec
    torch = TorchRuntime(small.model, "cpu")
    for batch in [random_batch(3, 64, 96)] + [random_batch(5, 40, 136)] * dynamic:
        np.testing.assert_allclose(runtime.raw(batch), torch.raw(batch), atol=1e-3, rtol=1e-4)
    found, expected = (engine.infer(random_batch(2, 64, 96), conf=0.0) for engine in (runtime, torch))
    np.testing.assert_array_equal(found.batch_idx, expected.batch_idx)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_fixed_batch_is_padded_and_split(small: YOLO) -> None:
    runtime = opened(small.export(format="onnx", imgsz=64, batch=4, verbose=False))
    assert runtime.metadata.batch == 4
    batch = random_batch(6, 64, 64)
    np.testing.assert_allclose(runtime.raw(batch), TorchRuntime(small.model, "cpu").raw(batch), atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"half": True},
        *(pytest.param(more, marks=pytest.mark.slow) for more in ({"quantize": 16}, {"half": True, "opset": 15})),
    ],
)
def test_half_reduces_the_size_and_keeps_float32_inputs(options: dict, small: YOLO) -> None:
    full = Path(small.export(format="onnx", imgsz=64, verbose=False)).stat().st_size
    path = Path(small.export(format="onnx", imgsz=64, verbose=False, **options))
    assert path.stat().st_size < 0.8 * full
    batch = random_batch(1, 64, 64)
    found = opened(str(path)).raw(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, TorchRuntime(small.model, "cpu").raw(batch), atol=0.5)


@pytest.mark.slow
def test_predicts_and_validates(shared: Path, tmp_path: Path) -> None:
    model = YOLO(shared / "checkpoints/yolo11n-pose.pt")
    model.model_name = str(tmp_path / "n.pt")  # beside which the file goes; the real place is read-only
    (tmp_path / "n.pt").touch()
    exported = YOLO(model.export(format="onnx", dynamic=True, verbose=False))
    assert exported.names == model.names
    img = shared / "images/bus.jpg"
    (found,), (expected,) = (each(img, verbose=False) for each in (exported, model))
    np.testing.assert_allclose(found.boxes.data, expected.boxes.data.numpy(), atol=1e-2)
    np.testing.assert_allclose(found.keypoints.data, expected.keypoints.data.numpy(), atol=1e-2)
    with pytest.raises(UsageError, match="exported file: it can predict and validate"):
        exported.train(data="coco8-pose.yaml")


def test_logs_the_file_and_its_use(small: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.export(format="onnx", imgsz=64, keras=True)
    shown = capsys.readouterr()
    assert "ONNX, opset 18, float32" in shown.out
    assert "Compared with torch on an image: boxes within" in shown.out
    assert f"yolo pose predict model={path} source=" in shown.out
    assert shown.err.count("keras=True is not used in this version yet") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"opset": 9}, "13 to 23"),
        ({"opset": 30}, "13 to 23"),
        ({"int8": True}, "name a data set"),
        ({"nms": True, "classes": 9}, "unknown class 9"),
        ({"format": "hailo"}, "Supported: format=torchscript, format=onnx"),
        ({"workspace": 2}, "engine"),
        ({"imgsz": 0}, "imgsz"),
        ({"opsett": 3}, "Did you mean 'opset'"),
    ],
)
def test_refuses_impossible_exports_early(options: dict, words: str, small: YOLO) -> None:
    with pytest.raises(UsageError, match=words):
        small.export(**{"format": "onnx", **options})


def test_removes_a_file_with_different_output(small: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small, "model_name", "gone.yaml")
    honest = Decoded.forward
    monkeypatch.setattr(Decoded, "forward", lambda self, images: honest(self, images) * 1.01)
    with pytest.raises(ExportError, match="does not reproduce the network"):
        small.export(format="onnx", imgsz=64)
    assert not list(tmp_path.iterdir())


def rewritten(path: str, target: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> Path:
    model = onnx.load(path)
    record = change({entry.key: entry.value for entry in model.metadata_props})
    del model.metadata_props[:]
    for key, value in record.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(target))
    return target


@pytest.fixture(scope="module")
def plain(small: YOLO) -> str:
    return small.export(format="onnx", imgsz=64, verbose=False)


def test_reads_metadata_of_the_reference_package(plain: str, tmp_path: Path) -> None:
    path = rewritten(plain, tmp_path / "r.onnx", lambda found: {k: v for k, v in found.items() if k != "yolopose"})
    metadata = opened(str(path)).metadata
    assert metadata.spec.classes == ("class0", "class1", "class2")
    assert metadata.spec.keypoints.shape == (5, 2)
    assert (metadata.stride, metadata.batch, metadata.dynamic) == (8, 1, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {}, "metadata is missing"),
        (lambda found: {"names": "{0: 'a'}", "task": "detect"}, "task 'detect'"),
        (lambda found: {"names": "{0: 'a'}", "kpt_shape": "[5, 2]"}, "contradicts its metadata"),
        (lambda found: {"names": "__import__('os').getcwd()"}, "no valid metadata"),
        (lambda found: {"names": "[" * 300}, "no valid metadata"),
        (lambda found: {"yolopose": "{"}, "no valid metadata"),
        (lambda found: {"yolopose": "[]"}, "no valid metadata"),
        (lambda found: {"yolopose": json.dumps({"names": ["a"]})}, "name is missing"),
    ],
)
def test_refuses_wrong_metadata(
    change: Callable[[dict[str, str]], dict[str, str]], words: str, plain: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=words):
        opened(str(rewritten(plain, tmp_path / "w.onnx", change)))


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_files(content: bytes | None, plain: str, tmp_path: Path) -> None:
    path = tmp_path / "d.onnx"
    path.write_bytes(Path(plain).read_bytes()[:-5000] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        opened(str(path))


def test_refuses_a_gpu_without_onnxruntime_gpu(plain: str) -> None:
    with pytest.raises(UsageError, match="onnxruntime supports none"):
        open_runtime(plain, device=0)


def test_prediction_does_not_import_torch(plain: str) -> None:
    code = (
        "import sys, numpy, yolopose\n"
        f"yolopose.YOLO({plain!r})(numpy.zeros((50, 60, 3), numpy.uint8), verbose=False)\n"
        "print([name for name in ('torch', 'matplotlib', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_final_detections_are_filtered_only() -> None:
    raw = np.zeros((2, 3, 6 + 4), dtype=np.float32)
    raw[0, :, 4], raw[1, 0, 4] = (0.9, 0.5, 0.1), 0.7
    raw[0, :, 5] = (1, 0, 1)
    found = from_end2end(raw, (2, 2), conf=0.25)
    assert found.nms_done
    assert found.batch_idx.tolist() == [0, 0, 1]
    assert found.points.shape == (3, 2, 2)
    assert from_end2end(raw, (2, 2), conf=0.0, classes=[1]).classes.tolist() == [1, 1]
