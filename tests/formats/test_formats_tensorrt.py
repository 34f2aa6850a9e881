"""TensorRT with a stub that runs the graph with onnxruntime, since no test machine has TensorRT."""

from __future__ import annotations

import ctypes
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from formats_samples import assert_agrees, random_batch, require_installed

from yolopose import YOLO
from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats import open_runtime

require_installed("torch", "onnx", "onnxscript")

import torch  # noqa: E402

from yolopose.formats import tensorrt as room  # noqa: E402


class Stub(ModuleType):
    """The part of `tensorrt` that the module uses; `asked` records the settings."""

    __version__ = "10.stub"
    Logger = type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None})
    BuilderFlag = SimpleNamespace(TF32="TF32", FP16="FP16")
    MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")

    def __init__(self) -> None:
        super().__init__("tensorrt")
        self.__spec__ = ModuleSpec("tensorrt", None)
        self.asked: dict[str, object] = {}
        self.graph: bytes | None = None
        self.fails = False

    def Builder(self, logger: object) -> SimpleNamespace:
        asked = self.asked
        config = SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: asked.update({pool: size}),
            clear_flag=lambda flag: asked.update({flag: False}),
            set_flag=lambda flag: asked.update({flag: True}),
            add_optimization_profile=lambda profile: None,
        )
        return SimpleNamespace(
            create_network=lambda flags: None,
            create_builder_config=lambda: config,
            create_optimization_profile=lambda: SimpleNamespace(
                set_shape=lambda name, *shapes: asked.update({name: shapes})
            ),
            build_serialized_network=lambda network, config: None if self.fails else self.graph,
        )

    def OnnxParser(self, network: object, logger: object) -> SimpleNamespace:
        def parse(path: str) -> bool:
            self.graph = Path(path).read_bytes()
            return True

        return SimpleNamespace(parse_from_file=parse)

    def Runtime(self, logger: object) -> SimpleNamespace:
        return SimpleNamespace(deserialize_cuda_engine=lambda plan: None if plan[:4] == b"junk" else Engine(plan))


class Engine:
    def __init__(self, plan: bytes) -> None:
        self.session = onnxruntime.InferenceSession(plan)
        self.places: dict[str, int] = {}

    def get_tensor_name(self, index: int) -> str:
        return ("images", "output0")[index]

    def create_execution_context(self) -> Engine:
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        assert name == "images"
        self.shape = shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "output0"
        cells = self.shape[2] * self.shape[3] * 5 // 64  # those of strides 4 and 8
        return (self.shape[0], 17, cells)

    def set_tensor_address(self, name: str, place: int) -> None:
        self.places[name] = place

    def execute_async_v3(self, stream: int) -> None:
        count = int(np.prod(self.shape))
        values = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.places["images"])).reshape(self.shape)
        output = self.session.run(None, {"images": values})[0]
        assert output.shape == self.get_tensor_shape("output0")  # the buffer has exactly this size
        ctypes.memmove(self.places["output0"], np.ascontiguousarray(output).ctypes.data, output.nbytes)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub()
    monkeypatch.setitem(sys.modules, "tensorrt", found)
    monkeypatch.setattr(room, "_pick_gpu", lambda device: torch.device("cpu"))
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return found


def test_exports_and_runs(stub: Stub, small: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(small.export(format="tensorrt", imgsz=[64, 96], batch=2, half=True, workspace=2))
    assert "unverified" in capsys.readouterr().out
    assert stub.asked == {"TF32": False, "FP16": True, "WORKSPACE": 2 * 2**30}
    content = path.read_bytes()
    length = int.from_bytes(content[:4], "little")
    record = json.loads(content[4 : 4 + length])  # what other tools look for
    assert (record["task"], record["batch"], record["imgsz"], record["kpt_shape"]) == ("pose", 2, [64, 96], [5, 2])
    assert content[4 + length :] == stub.graph
    assert_agrees(open_runtime(path), small, [random_batch(3, 64, 96)])


@pytest.mark.slow
def test_any_size(stub: Stub, small: YOLO) -> None:
    runtime = open_runtime(small.export(format="engine", imgsz=64, dynamic=True, verbose=False))
    assert stub.asked["images"] == ((1, 3, 8, 8), (1, 3, 64, 64), (16, 3, 128, 128))
    assert_agrees(runtime, small, [random_batch(18, 64, 64), random_batch(1, 128, 64)])


def test_failed_build_and_damaged_files(stub: Stub, small: YOLO, tmp_path: Path) -> None:
    stub.fails = True
    with pytest.raises(ExportError, match="see its messages above"):
        small.export(format="engine", imgsz=64)
    path = tmp_path / "x.engine"
    record = json.dumps({"names": {"0": "a"}, "kpt_shape": [5, 2]}).encode()
    path.write_bytes(len(record).to_bytes(4, "little") + record + b"junk")
    with pytest.raises(WeightsError, match="another type of GPU"):
        open_runtime(path)
    path.write_bytes(b"short")
    with pytest.raises(WeightsError, match="metadata is missing"):
        open_runtime(path)


def test_without_a_gpu(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", Stub())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="needs an NVIDIA GPU"):
        small.export(format="engine", imgsz=64)


def test_missing_tensorrt_error_has_the_install_command(small: YOLO) -> None:
    if "tensorrt" in sys.modules:
        pytest.skip("tensorrt is installed")
    with pytest.raises(ImportError, match="pip install tensorrt"):
        small.export(format="engine", imgsz=64)
