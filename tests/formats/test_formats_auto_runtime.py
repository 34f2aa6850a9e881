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
from yolopose.formats.engine_choice import EngineChoice, measure_engines, read_choice, write_choice  # noqa: E402
from yolopose.formats.pytorch import TorchRuntime  # noqa: E402

BATCH = random_batch(2, 64, 96)


def computed(model: YOLO, name: str | None, device: object = "cpu") -> np.ndarray:
    model._runtimes.clear()  # as in another process
    return model._runtime(RuntimeConfig(device, name=name)).raw(BATCH)  # type: ignore[attr-defined]


@pytest.fixture
def openvino_is_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only OpenVINO beside torch, and faster."""
    monkeypatch.setattr(auto_runtime, "_installed", lambda: [registry.get_format("openvino")])
    choice = EngineChoice("openvino", {"torch": 2.0, "openvino": 1.0})
    monkeypatch.setattr(auto_runtime, "measure_engines", lambda *_: choice)


@pytest.mark.usefixtures("openvino_is_fastest")
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


def test_engines_that_can_be_used(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, absent = registry.find_spec, {"openvino"}
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in absent else honest(name))
    assert [row.info.name for row in auto_runtime._installed()] == ["onnx"]
    with pytest.raises(DependencyError, match="pip install openvino"):
        computed(small, "openvino")
    absent.add("onnxscript")
    assert auto_runtime._installed() == []


def test_uses_torch_without_converters(
    small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(auto_runtime, "_installed", lambda: [])
    np.testing.assert_array_equal(computed(small, "auto"), computed(small, "torch"))
    assert "using torch, no other engine is installed (pip install openvino)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ExportError("unknown operator"), OutputError("the disk is full")])
def test_failed_conversion(
    error: Exception, small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> Path:
        raise error

    monkeypatch.setattr(auto_runtime, "export_network", failing)
    np.testing.assert_array_equal(computed(small, "auto"), computed(small, None))
    assert f"OpenVINO is not used, since it failed: {error}" in capsys.readouterr().err
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


class TimedEngine:
    """An engine that takes the next of the given numbers of seconds, on a clock of its own."""

    now = 0.0

    def __init__(self, *seconds: float) -> None:
        self._seconds = seconds
        self._calls = 0

    def infer(self, batch: np.ndarray, *, conf: float) -> None:
        assert batch.shape == (1, 3, 64, 96)
        TimedEngine.now += self._seconds[min(self._calls, len(self._seconds) - 1)]
        self._calls += 1


def test_the_fastest_engine_is_chosen_after_a_warm_up(tmp_path: Path) -> None:
    engines = {"slow": TimedEngine(0.03), "fast": TimedEngine(9.0, 9.0, 0.02), "slower": TimedEngine(0.01, 0.01, 0.04)}
    choice = measure_engines(engines, (64, 96), lambda: TimedEngine.now)  # type: ignore[arg-type]
    assert choice.name == "fast"
    assert choice.milliseconds == pytest.approx({"slow": 30, "fast": 20, "slower": 40})
    path = tmp_path / "new/choice.json"
    write_choice(path, choice)
    assert read_choice(path) == choice
    for damaged in ("", "[]", '{"format": 1, "engine": "x", "milliseconds": {}}', '{"format": 0}'):
        path.write_text(damaged)
        assert read_choice(path) is None


def test_measures_once_for_each_kind_of_network(
    small: YOLO, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[list[str]] = []

    def measure(engines: dict[str, object], size: tuple[int, int]) -> EngineChoice:
        measured.append(list(engines))
        return EngineChoice("torch", dict.fromkeys(engines, 1.5))

    monkeypatch.setattr(auto_runtime, "_installed", lambda: [registry.get_format("openvino")])
    monkeypatch.setattr(auto_runtime, "measure_engines", measure)
    expected = computed(small, "torch")
    for log in ("measured torch 1.5 ms, openvino 1.5 ms; using torch", "torch is the fastest engine on this machine"):
        np.testing.assert_array_equal(computed(small, "auto"), expected)
        assert log in capsys.readouterr().out
    assert measured == [["torch", "openvino"]]
