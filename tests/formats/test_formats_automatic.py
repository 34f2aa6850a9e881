from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formats_samples import need_openvino

from yolopose import YOLO
from yolopose.base.errors import DependencyError, ExportError, OutputError, UsageError
from yolopose.formats.pytorch import TorchRuntime

need_openvino()
torch = pytest.importorskip("torch")

from yolopose.formats import automatic, table  # noqa: E402

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The conversions that were made, in order."""
    made: list[Path] = []
    honest = automatic.export_network

    def noted(*args: object, **options: object) -> Path:
        made.append(honest(*args, **options))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(automatic, "export_network", noted)
    return made


def predicted(model: YOLO, **options: object) -> np.ndarray:
    model._runtimes.clear()  # as in another process
    (found,) = model(PICTURE, imgsz=64, conf=0.01, **options)
    assert isinstance(found.boxes.data, torch.Tensor)
    return found.boxes.data.numpy()


def test_converts_once_and_again_when_anything_changed(
    small: YOLO, converted: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = predicted(small, verbose=False)
    assert len(expected)
    np.testing.assert_allclose(predicted(small, runtime="auto"), expected, atol=1e-3)
    shown = capsys.readouterr().out
    assert "runtime=auto: OpenVINO computes; the weights are converted for it once, into " in shown
    assert str(converted[0]) in shown
    predicted(small, runtime="auto")
    predicted(small, runtime="openvino", verbose=False)
    assert f"from what was converted before ({converted[0]})" in capsys.readouterr().out
    assert len(converted) == 1
    damaged = next(converted[0].glob("*.bin"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    np.testing.assert_allclose(predicted(small, runtime="auto"), expected, atol=1e-3)
    assert len(converted) == 2
    converted[0].with_name(converted[0].name.replace("_openvino_model", ".sha256")).unlink()  # a run cut off before it
    predicted(small, runtime="auto")
    assert len(converted) == 3
    weight = next(small.model.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(1.5)
        other = predicted(small, runtime="auto")
        np.testing.assert_allclose(other, predicted(small), atol=1e-3)
        weight.copy_(before)
    assert len(set(converted)) == 2


def test_onnx_is_next_and_torch_last(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, absent = table.find_spec, {"openvino"}
    monkeypatch.setattr(table, "find_spec", lambda name: None if name in absent else honest(name))
    row = automatic._fastest()
    assert row is not None
    assert row.name == "onnx"
    with pytest.raises(DependencyError, match="pip install openvino"):
        predicted(small, runtime="openvino")
    absent.add("onnxscript")
    assert automatic._fastest() is None


def test_without_any_converter_torch_computes_and_says_why(
    small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(automatic, "_fastest", lambda: None)
    np.testing.assert_array_equal(predicted(small, runtime="auto"), predicted(small, runtime="torch"))
    assert "torch computes, since no faster engine is installed (pip install openvino)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ExportError("no such operator"), OutputError("the disk is full")])
def test_what_cannot_be_converted_or_kept(
    error: Exception, small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr(automatic, "export_network", failing)
    np.testing.assert_array_equal(predicted(small, runtime="auto"), predicted(small))
    assert f"torch computes, since OpenVINO cannot: {error}" in capsys.readouterr().err
    with pytest.raises(type(error), match=str(error)):
        predicted(small, runtime="openvino")


def test_a_gpu_is_torchs(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(automatic, "pick_device", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(automatic, "TorchRuntime", lambda *args: asked.append(args[1]) or TorchRuntime(args[0], "cpu"))
    predicted(small, runtime="auto", device=0)
    assert asked == [0]


def test_an_exported_file_has_one_engine(small: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small, "model_name", "gone.yaml")
    exported = YOLO(small.export(format="openvino", imgsz=64, verbose=False))
    assert exported(PICTURE, runtime="auto", verbose=False)
    with pytest.raises(UsageError, match="runtime=onnx does not run gone_openvino_model"):
        exported(PICTURE, runtime="onnx")
    with pytest.raises(UsageError, match="runtime"):
        exported(PICTURE, runtime="fast")
