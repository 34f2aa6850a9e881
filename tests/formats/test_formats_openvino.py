from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from formats_samples import random_batch, require_openvino

from yolopose import YOLO
from yolopose.base.errors import ExportError, NotFoundError, UsageError, WeightsError
from yolopose.base.yamlfile import read_yaml, to_yaml
from yolopose.formats import open_runtime
from yolopose.formats.export_modules import Decoded
from yolopose.formats.openvino import OpenvinoRuntime, import_openvino
from yolopose.model.runtimes import RuntimeConfig

require_openvino()
pytest.importorskip("torch")

from yolopose.formats import openvino as room  # noqa: E402
from yolopose.formats.pytorch import TorchRuntime  # noqa: E402


@pytest.fixture(scope="module")
def folders(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small network as it is exported with some options; nothing may be sent meanwhile."""
    reached: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", lambda self, place: reached.append(place))
        patch.setattr(socket, "getaddrinfo", lambda *place, **_: reached.append(place))
        made = {}
        for name, options in {"fixed": {"batch": 4}, "dynamic": {"dynamic": True}, "half": {"half": True}}.items():
            made[name] = tmp_path_factory.mktemp(name) / "s_openvino_model"
            shutil.move(small.export(format="openvino", imgsz=[64, 96], verbose=False, **options), made[name])
    assert reached == []
    return made


def opened(path: Path) -> OpenvinoRuntime:
    runtime = open_runtime(path, device="cpu")
    assert isinstance(runtime, OpenvinoRuntime)
    return runtime


@pytest.mark.parametrize("name", ["fixed", "dynamic"])
def test_output_equals_that_of_torch(name: str, folders: dict[str, Path], small: YOLO) -> None:
    runtime, torch = opened(folders[name]), TorchRuntime(small.model, "cpu")
    assert runtime.metadata.spec == small.spec
    assert (runtime.metadata.dynamic, runtime.metadata.imgsz) == (name == "dynamic", (64, 96))
    assert runtime.metadata.batch == {"fixed": 4, "dynamic": 0}[name]
    for batch in [random_batch(6, 64, 96)] + [random_batch(3, 40, 136), random_batch(1, 64, 64)] * (name == "dynamic"):
        for given in (batch, batch.astype(np.float32) / 255):
            found = runtime.raw(given)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, torch.raw(given), atol=1e-3, rtol=1e-4)
    found, expected = (engine.infer(random_batch(2, 64, 96), conf=0.0) for engine in (runtime, torch))
    np.testing.assert_array_equal(found.batch_idx, expected.batch_idx)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_raw_returns_a_copy_and_accepts_read_only_batches(folders: dict[str, Path]) -> None:
    runtime, batch = opened(folders["fixed"]), random_batch(4, 64, 96)
    batch.flags.writeable = False
    first = runtime.raw(batch)
    kept = first.copy()
    runtime.raw(255 - batch)
    np.testing.assert_array_equal(first, kept)


def test_half_reduces_the_size_and_keeps_float32_inputs(folders: dict[str, Path], small: YOLO) -> None:
    sizes = [next(folders[name].glob("*.bin")).stat().st_size for name in ("half", "fixed")]
    assert sizes[0] < 0.6 * sizes[1]
    batch = random_batch(1, 64, 96)
    np.testing.assert_allclose(
        opened(folders["half"]).raw(batch), TorchRuntime(small.model, "cpu").raw(batch), atol=0.5
    )


def test_computes_in_float32_unless_half_is_requested(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hint(runtime: OpenvinoRuntime) -> str:
        return runtime._network._compile("u8").get_property("INFERENCE_PRECISION_HINT").get_type_name()

    assert hint(opened(folders["fixed"])) == "f32"
    monkeypatch.setattr(room, "_has_bfloat16", lambda: False)
    without = room.load(folders["fixed"], "cpu", half=True)
    assert (without.half, hint(without)) == (False, "f32")
    monkeypatch.setattr(room, "_has_bfloat16", lambda: True)
    assert room.load(folders["fixed"], "cpu", half=True)._settings["INFERENCE_PRECISION_HINT"] == "bf16"


def test_sends_no_telemetry(folders: dict[str, Path]) -> None:
    import_openvino()
    assert find_spec("openvino_telemetry") is not None  # there for programs of the user's own
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
    for name in ("convert_impl", "telemetry_utils", "utils"):
        used = sys.modules[f"openvino.tools.ovc.{name}"].tm
        assert used.__name__ == "openvino.tools.ovc.telemetry_stub"


def test_names_in_graph_and_folder(folders: dict[str, Path]) -> None:
    graph = next(folders["fixed"].glob("*.xml"))
    model = room._core().read_model(str(graph))
    assert [model.inputs[0].any_name, model.outputs[0].any_name] == ["images", "output0"]
    record = read_yaml(folders["fixed"] / "metadata.yaml", "record")
    assert {key: record[key] for key in ("task", "stride", "batch", "imgsz", "kpt_shape")} == {
        "task": "pose", "stride": 8, "batch": 4, "imgsz": [64, 96], "kpt_shape": [5, 2]
    }  # fmt: skip
    assert record["names"] == {0: "class0", 1: "class1", 2: "class2"}
    assert open_runtime(graph).metadata == opened(folders["fixed"]).metadata


def as_the_reference_writes(folder: Path, target: Path, change: Callable[[dict], dict]) -> Path:
    """A copy without our own record, and with the other one changed."""
    target.mkdir()
    model = room._core().read_model(str(next(folder.glob("*.xml"))))
    model.set_rt_info("", ["model_info"])
    import_openvino().save_model(model, str(target / "s.xml"), compress_to_fp16=False)
    record = change(read_yaml(folder / "metadata.yaml", "record"))
    if record:
        (target / "metadata.yaml").write_text(to_yaml(record), encoding="utf-8")
    return target


def test_reads_metadata_of_the_reference_package(folders: dict[str, Path], tmp_path: Path) -> None:
    path = as_the_reference_writes(folders["dynamic"], tmp_path / "r_openvino_model", lambda found: found)
    metadata = opened(path).metadata
    assert metadata.spec.classes == ("class0", "class1", "class2")
    assert metadata.spec.keypoints.shape == (5, 2)
    assert (metadata.stride, metadata.batch, metadata.dynamic, metadata.imgsz) == (8, 0, True, (64, 96))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {}, "metadata is missing"),
        (lambda found: {**found, "task": "detect"}, "task 'detect'"),
        (lambda found: {**found, "names": {0: "a"}}, "contradicts its metadata"),
        (lambda found: {**found, "kpt_shape": "many"}, "no valid metadata"),
    ],
)
def test_refuses_wrong_metadata(
    change: Callable[[dict], dict], words: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=words):
        opened(as_the_reference_writes(folders["fixed"], tmp_path / "w_openvino_model", change))


@pytest.mark.parametrize(
    ("suffix", "change"),
    [
        (".xml", lambda file: file.write_bytes(file.read_bytes()[:-5000])),
        (".xml", lambda file: file.write_bytes(b"")),
        (".xml", lambda file: file.write_text("<net/>")),
        (".xml", lambda file: file.unlink()),
        (".xml", lambda file: shutil.copyfile(file, file.with_name("second.xml"))),
        (".bin", lambda file: file.write_bytes(file.read_bytes()[:-5000])),
        (".bin", lambda file: file.unlink()),
    ],
)
def test_damaged_folders(
    suffix: str, change: Callable[[Path], object], folders: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "d_openvino_model"
    shutil.copytree(folders["fixed"], path)
    change(next(path.glob(f"*{suffix}")))
    with pytest.raises(WeightsError, match=r"damaged|should hold one \.xml") as error:
        opened(path)
    assert len(str(error.value).splitlines()) == 1


def test_refuses_missing_paths_and_other_devices(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone_openvino_model"):
        YOLO(tmp_path / "gone_openvino_model")
    with pytest.raises(UsageError, match="on the CPU only"):
        open_runtime(folders["fixed"], device=0)


def test_refuses_another_runtime(folders: dict[str, Path]) -> None:
    model, batch = YOLO(folders["dynamic"]), random_batch(1, 64, 64)
    found = model._runtime(RuntimeConfig("cpu", name="auto")).raw(batch)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found, opened(folders["dynamic"]).raw(batch))
    with pytest.raises(UsageError, match=r"runtime=onnx cannot run .*s_openvino_model"):
        model(np.zeros((64, 64, 3), dtype=np.uint8), runtime="onnx")
    with pytest.raises(UsageError, match="runtime"):
        model(np.zeros((64, 64, 3), dtype=np.uint8), runtime="fast")


def test_removes_a_folder_with_different_output(small: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small, "model_name", "gone.yaml")
    honest = Decoded.forward
    monkeypatch.setattr(Decoded, "forward", lambda self, images: honest(self, images) * 1.01)
    with pytest.raises(ExportError, match="does not reproduce the network"):
        small.export(format="openvino", imgsz=64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("slash", ["", "/"])
def test_prediction_does_not_import_torch(slash: str, folders: dict[str, Path]) -> None:
    code = (
        "import sys, numpy, yolopose\n"
        f"model = yolopose.YOLO({str(folders['dynamic']) + slash!r})\n"
        "model(numpy.zeros((50, 60, 3), numpy.uint8), verbose=False, imgsz=64)\n"
        "print([name for name in ('torch', 'matplotlib', 'onnxruntime', 'openvino_telemetry') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_validation_equals_that_of_the_network(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "data/coco-mini", tmp_path / "coco-mini")
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "n.pt")
    model, data = YOLO(tmp_path / "n.pt"), tmp_path / "coco-mini/coco-mini.yaml"
    exported = YOLO(model.export(format="openvino", dynamic=True, verbose=False))
    imgs = sorted((tmp_path / "coco-mini/images/val").iterdir())
    for found, expected in zip(*(each(imgs, verbose=False) for each in (exported, model)), strict=True):
        np.testing.assert_allclose(found.boxes.data, expected.boxes.data.numpy(), atol=1e-2)
        np.testing.assert_allclose(found.keypoints.data, expected.keypoints.data.numpy(), atol=1e-2)
    found, expected = (each.val(data=data, plots=False, verbose=False).results_dict for each in (exported, model))
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-3), key
