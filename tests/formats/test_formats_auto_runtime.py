from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch, require_openvino

from yolopose import YOLO
from yolopose.base.errors import DependencyError, ExportError, OutputError
from yolopose.model.runtimes import RuntimeConfig
from yolopose.schema import ModelMetadata

require_openvino()
torch = pytest.importorskip("torch")

from yolopose.formats import auto_runtime, registry  # noqa: E402
from yolopose.formats.pytorch import TorchRuntime  # noqa: E402

BATCH = random_batch(2, 64, 96)


def computed(model: YOLO, name: str | None, device: object = "cpu") -> np.ndarray:
    model._runtimes.clear()  # as in another process
    return model._runtime(RuntimeConfig(device, name=name)).raw(BATCH)  # type: ignore[attr-defined]


def test_converts_once_and_again_when_the_cache_is_damaged(
    small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Path] = []
    honest = auto_runtime.export_network

    def noted(*args: object) -> Path:
        made.append(honest(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(auto_runtime, "export_network", noted)
    expected = computed(small, None)
    np.testing.assert_allclose(computed(small, "auto"), expected, atol=1e-3)
    assert "runtime=auto: using OpenVINO; converting the weights once, into " in capsys.readouterr().out
    computed(small, "openvino")
    assert f"runtime=openvino: using OpenVINO, converted earlier ({made[0]})" in capsys.readouterr().out
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    (found,) = small(image, runtime="openvino", imgsz=64, conf=0.0, verbose=False)
    assert isinstance(found.boxes.data, torch.Tensor)  # as the results of weights always do
    assert len(found.boxes)
    assert capsys.readouterr().out == ""
    assert len(made) == 1
    damaged = next(made[0].glob("*.bin"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    np.testing.assert_allclose(computed(small, "auto"), expected, atol=1e-3)
    assert made == made[:1] * 2
    made[0].with_name(made[0].name.replace("_openvino_model", ".sha256")).unlink()  # a run that was cut off before it
    monkeypatch.setattr(auto_runtime, "export_network", lambda *_: pytest.fail("as expected"))
    with pytest.raises(pytest.fail.Exception, match="as expected"):
        computed(small, "auto")


def test_fingerprint_depends_on_weights(small: YOLO) -> None:
    def identity() -> str:
        metadata = ModelMetadata(spec=small.spec, name="small")
        return auto_runtime._fingerprint(small.model, metadata, registry.get_format("openvino"))

    first, weight = identity(), next(small.model.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] += 1e-6
        assert identity() != first
        weight.copy_(before)
    assert identity() == first


def test_order_of_engines(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, absent = registry.find_spec, {"openvino"}
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in absent else honest(name))
    row = auto_runtime._fastest_installed()
    assert row is not None
    assert row.info.name == "onnx"
    with pytest.raises(DependencyError, match="pip install openvino"):
        computed(small, "openvino")
    absent.add("onnxscript")
    assert auto_runtime._fastest_installed() is None


def test_uses_torch_without_converters(
    small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto_runtime, "_fastest_installed", lambda: None)
    np.testing.assert_array_equal(computed(small, "auto"), computed(small, "torch"))
    assert "using torch, no faster engine is installed (pip install openvino)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ExportError("unknown operator"), OutputError("the disk is full")])
def test_failed_conversion(
    error: Exception, small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr(auto_runtime, "export_network", failing)
    np.testing.assert_array_equal(computed(small, "auto"), computed(small, None))
    assert f"using torch, since OpenVINO failed: {error}" in capsys.readouterr().err
    with pytest.raises(type(error), match=str(error)):
        computed(small, "openvino")


def test_uses_torch_on_a_gpu(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(auto_runtime, "pick_device", lambda device: torch.device("cuda", 0))
    monkeypatch.setattr(
        auto_runtime, "TorchRuntime", lambda *args: asked.append(args[1]) or TorchRuntime(args[0], "cpu")
    )
    computed(small, "auto", device=0)
    assert asked == [0]
