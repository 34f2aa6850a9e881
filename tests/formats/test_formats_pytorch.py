from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from yolopose.base.errors import NotFoundError, UsageError
from yolopose.formats import open_runtime
from yolopose.runtime import from_raw
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

torch = pytest.importorskip("torch")

from yolopose.formats import pytorch  # noqa: E402
from yolopose.formats.pytorch import TorchRuntime, pick_device  # noqa: E402
from yolopose.nn import PoseModel, build_network  # noqa: E402

SPEC = PoseSpec(classes=("a", "b", "c"), keypoints=KeypointSchema(count=4, dims=3))


@pytest.fixture(scope="module")
def network() -> PoseModel:
    """A small network with random weights whose scores spread over 0…1."""
    torch.manual_seed(0)
    model = build_network("yolo11n-pose.yaml", spec=SPEC)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    for branch in model.head.cv3:
        torch.nn.init.normal_(branch[-1].weight, std=1)
        torch.nn.init.zeros_(branch[-1].bias)
    return model.eval()


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 3, 64, 96), dtype=np.uint8)


def test_raw_output_equals_that_of_the_network(network: PoseModel, batch: np.ndarray) -> None:
    runtime = TorchRuntime(network, "cpu")
    with torch.no_grad():
        expected = network(torch.from_numpy(batch).float() / 255).numpy()
    assert expected.shape == (3, 4 + 3 + 12, 126)
    for given in (batch, batch.astype(np.float32) / 255):
        found = runtime.raw(given)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    "choice",
    [
        {"conf": 0.3},
        {"conf": 0.001, "max_nms": 50},
        {"conf": 0.3, "multi_label": True},
        {"conf": 0.001, "multi_label": True, "max_nms": 40, "classes": [2, 0]},
        {"conf": 0.3, "classes": [1]},
        {"conf": 0.999999},
    ],
)
def test_candidates_equal_those_of_numpy(network: PoseModel, batch: np.ndarray, choice: dict) -> None:
    runtime = TorchRuntime(network, "cpu")
    found = runtime.infer(batch, **choice)
    expected = from_raw(runtime.raw(batch), (4, 3), **choice)
    assert len(expected.scores) > 20 or choice["conf"] > 0.9
    for part in ("boxes", "scores", "classes", "points", "batch_idx"):
        one, other = getattr(found, part), getattr(expected, part)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, err_msg=part)


def test_does_not_change_the_callers_network(batch: np.ndarray) -> None:
    model = build_network("yolo11n-pose.yaml", spec=SPEC).train()
    before, threads = copy.deepcopy(model.state_dict()), torch.get_num_threads()
    runtime = TorchRuntime(model, "cpu")
    first = runtime.raw(batch)
    assert model.training
    assert not model.is_fused
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "dfl" not in name)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(runtime.raw(batch), first)


def test_accepts_read_only_batches(network: PoseModel, batch: np.ndarray) -> None:
    frozen = batch.astype(np.float32) / 255
    copied = frozen.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(TorchRuntime(network, "cpu").raw(frozen), TorchRuntime(network, "cpu").raw(copied))
    np.testing.assert_array_equal(frozen, copied)


def test_metadata_and_to_array(network: PoseModel) -> None:
    runtime = TorchRuntime(network, "cpu")
    assert runtime.device == "cpu"
    assert (runtime.metadata.spec, runtime.metadata.stride, runtime.metadata.name) == (SPEC, 32, "yolo11n-pose")
    wrapped = runtime.to_array(np.eye(2, dtype=np.float32))
    assert isinstance(wrapped, torch.Tensor)
    assert wrapped.tolist() == [[1, 0], [0, 1]]
    given = ModelMetadata(spec=SPEC, imgsz=(320, 320))
    assert TorchRuntime(network, "cpu", metadata=given).metadata is given


@pytest.mark.parametrize("able", [False, True])
def test_half_on_the_cpu(network: PoseModel, batch: np.ndarray, able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor computes in bfloat16: scores within 8 bits, and positions decoded in float32."""
    monkeypatch.setattr(pytorch, "cpu_supports_bf16", lambda: able)
    runtime = TorchRuntime(network, "cpu", half=True)
    assert runtime.half is able
    expected, found = TorchRuntime(network, "cpu").raw(batch), runtime.raw(batch)
    assert found.dtype == np.float32
    assert np.array_equal(found, expected) is not able
    apart = np.abs(found - expected)
    assert np.median(apart[:, 4:7]) < 0.02
    assert np.median(apart[:, :4]) < 0.5
    # bfloat16 holds 8 bits: positions beyond 64 would be multiples of 0.5
    far = found[:, 7:9][found[:, 7:9] > 64]
    assert (far * 2 % 1 != 0).mean() > 0.9


def test_replicas_compute_the_same_on_their_share_of_the_cores(network: PoseModel, batch: np.ndarray) -> None:
    runtime = TorchRuntime(network, "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        replicas = runtime.replicas(2)
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda replica: (replica.raw(batch), torch.get_num_threads()), replicas))
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(torch.get_num_threads).result()
        assert ([threads for _, threads in found], later, torch.get_num_threads()) == ([1, 1], 2, 2)
    finally:
        torch.set_num_threads(before)
    for output, _ in found:
        np.testing.assert_allclose(output, runtime.raw(batch), atol=2e-3)
    assert replicas[0].network is runtime.network
    assert TorchRuntime(network, "cpu", compile=True).replicas(2)[0].compile


def test_failed_compilation_states_the_remedy(
    network: PoseModel, batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("no compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(UsageError, match=r"compile=True: .*no compiler"):
        TorchRuntime(network, "cpu", compile=True).raw(batch)


@pytest.mark.slow
@pytest.mark.parametrize("how", [True, "default"])
def test_compiled_output_equals_that_of_the_network(network: PoseModel, batch: np.ndarray, how: bool | str) -> None:
    compiled = TorchRuntime(network, "cpu", compile=how)
    for size in (64, 32):
        part = np.ascontiguousarray(batch[:, :, :size])
        np.testing.assert_allclose(compiled.raw(part), TorchRuntime(network, "cpu").raw(part), atol=5e-3)


@pytest.mark.parametrize("device", ["cpu", "CPU", " cpu ", ["cpu"], torch.device("cpu")])
def test_cpu(device: object) -> None:
    assert pick_device(device) == torch.device("cpu")


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Card {index}")


@pytest.mark.parametrize(
    ("device", "index"),
    [(0, 0), ("0", 0), ("cuda", 0), ("cuda:1", 1), ([1], 1), ("[1]", 1), ((1,), 1), (None, 0), ("", 0)],
)
def test_gpu_spellings(monkeypatch: pytest.MonkeyPatch, device: object, index: int) -> None:
    pretend_gpus(monkeypatch, 2)
    assert pick_device(device) == torch.device("cuda", index)


def test_uses_the_cpu_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    assert pick_device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "said"),
    [(2, "GPU 2.*Card 0.*Card 1"), ("0,1", "2 devices"), ([0, 1], "2 devices"), ("gpu", "is not valid"),
     ("cuda:x", "is not valid"), (-1, "is not valid"), (True, "is not valid"), ({}, "is not valid")],
)  # fmt: skip
def test_refuses_invalid_devices(monkeypatch: pytest.MonkeyPatch, device: object, said: str) -> None:
    pretend_gpus(monkeypatch, 2)
    with pytest.raises(UsageError, match=said):
        pick_device(device)


def test_missing_gpu_error_lists_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch, 0)
    monkeypatch.setattr(torch.backends, "mps", SimpleNamespace(is_available=lambda: False))
    for device in (0, "cuda", "mps"):
        with pytest.raises(UsageError, match="sees the CPU and no CUDA GPU"):
            pick_device(device)


def test_open_runtime_refuses_unknown_suffixes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pt"):
        open_runtime(tmp_path / "model.xyz")
    with pytest.raises(NotFoundError):
        open_runtime(tmp_path / "nothere.pt", device="cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU")
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu(network: PoseModel, batch: np.ndarray, half: bool) -> None:
    runtime = TorchRuntime(network, 0, half=half)
    expected = TorchRuntime(network, "cpu").raw(batch)
    found = runtime.raw(batch)
    assert runtime.to_array(found).device.type == "cuda"
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=(2e-2 if half else 1e-3) * np.abs(expected).max())
    candidates = runtime.infer(batch, conf=0.3)
    np.testing.assert_allclose(candidates.scores, from_raw(found, (4, 3), conf=0.3).scores, atol=1e-6)
