"""A model in programs that fork, pickle, copy, have no console, or change numpy's error state."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from few_images import SMALL, write_images
from yolopose import YOLO
from yolopose.base.errors import UsageError
from yolopose.formats import open_runtime

torch = pytest.importorskip("torch")
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
OPTIONS: dict[str, Any] = {"imgsz": 64, "conf": 0.0, "max_det": 4, "verbose": False}
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "torchscript": "torch", "pt": "torch"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A network as weights and in three formats, as far as their packages are installed."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "small-pose.yaml").write_text(SMALL, encoding="utf-8")
    paths = {"pt": YOLO(folder / "small-pose.yaml").save(folder / "small.pt")}
    for name in ("onnx", "openvino", "torchscript"):
        try:
            paths[name] = Path(YOLO(paths["pt"]).export(format=name, imgsz=64, verbose=False))
        except ImportError:
            continue
    return paths


def file_of(kind: str, files: dict[str, Path]) -> Path:
    if kind not in files:
        pytest.skip(f"{PACKAGES[kind]} is not installed")
    return files[kind]


def points(model: YOLO) -> np.ndarray:
    return np.asarray(model(IMAGE, **OPTIONS)[0].keypoints.data)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("kind", ["pt", "onnx", "openvino", "torchscript"])
def test_models_are_pickled_and_copied(kind: str, used: bool, files: dict[str, Path]) -> None:
    model = YOLO(file_of(kind, files))
    model.overrides["max_det"] = 3
    expected = points(YOLO(files[kind]))
    if used:
        points(model)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        np.testing.assert_allclose(points(other), expected, atol=1e-4)
        assert other.overrides["max_det"] == 3
        assert other.names == model.names


def test_a_pickled_export_does_not_depend_on_the_current_folder(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of("onnx", files)
    monkeypatch.chdir(path.parent)
    data = pickle.dumps(YOLO(path.name))
    monkeypatch.chdir(tmp_path)
    assert len(points(pickle.loads(data))) == 4


@pytest.mark.parametrize("kind", ["onnx", "openvino", "torchscript"])
def test_runtimes_are_pickled_and_copied(kind: str, files: dict[str, Path]) -> None:
    runtime = open_runtime(file_of(kind, files), device="cpu")
    batch = np.zeros((1, 3, 64, 64), np.uint8)
    for other in (pickle.loads(pickle.dumps(runtime)), copy.deepcopy(runtime)):
        assert other is not runtime
        np.testing.assert_allclose(other.raw(batch), runtime.raw(batch), atol=1e-4)


def test_a_model_is_pickled_after_training(tmp_path: Path) -> None:
    (tmp_path / "small-pose.yaml").write_text(SMALL, encoding="utf-8")
    model = YOLO(tmp_path / "small-pose.yaml")
    data = write_images(tmp_path / "set")
    model.train(
        data=str(data), epochs=1, imgsz=32, batch=2, workers=0, plots=False, verbose=False, project=str(tmp_path)
    )
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(points(other), points(model), atol=1e-5)


FORK = """
import multiprocessing, os, sys
os.sched_getaffinity = lambda pid: {0, 1}  # two cores, also where this process may use one
import cv2, numpy as np, torch
torch.set_num_threads(2)
cv2.setNumThreads(2)
from yolopose import YOLO
kind, path, weights = sys.argv[1:]
image = np.random.default_rng(0).integers(0, 255, (400, 600, 3), dtype=np.uint8)
options = dict(imgsz=64, conf=0.0, max_det=4, verbose=False)
model = YOLO(path)
def predict(count, new=False):
    found = [len(result) for result in (YOLO(path) if new else model)([image] * count, **options)]
    assert found == [4] * count, found
def run(*job):
    process = multiprocessing.get_context("fork").Process(target=predict, args=job)
    process.start()
    process.join(60)
    state = "hangs" if process.is_alive() else process.exitcode
    process.kill()
    print(job, state)
    return state == 0
good = [run(1)]
predict(1)
good += [run(1), run(12)]
predict(12)
good += [run(1), run(12), run(1, True)]
predict(12)
sys.exit(0 if all(good) else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("kind", ["pt", "onnx", "openvino", "torchscript"])
def test_forked_processes_predict(kind: str, files: dict[str, Path]) -> None:
    command = [sys.executable, "-c", FORK, kind, str(file_of(kind, files)), str(files["pt"])]
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=env)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_openvino_explains_what_a_forked_process_cannot_do(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of("openvino", files)
    from yolopose.formats import openvino

    monkeypatch.setattr(openvino, "_freed_in", {os.getpid() + 1})
    with pytest.raises(UsageError, match="Open the network before the fork"):
        YOLO(files["openvino"])


CONSOLE = """
import sys
from pathlib import Path
class Window:
    def write(self, text):
        return len(text)
sys.stdout = sys.stderr = None if sys.argv[1] == "none" else Window()
from yolopose import YOLO
from yolopose.cli.main import main
model = YOLO(sys.argv[2])
model(Path(sys.argv[3]).parent / "images/val/0.png", imgsz=64)
model.train(data=sys.argv[3], epochs=1, imgsz=32, batch=2, workers=0, project=sys.argv[4], plots=False)
model.val(data=sys.argv[3], imgsz=64, plots=False, project=sys.argv[4])
model.info()
good = main(["version"]) == 0 and main(["help"]) == 0 and main(["predict", "conf=2"]) == 1
sys.stdout = sys.stderr = None  # which Python would flush at exit
sys.exit(0 if good else 1)
"""


@pytest.mark.parametrize("stream", ["none", "window"])
def test_all_modes_run_without_a_console(stream: str, files: dict[str, Path], tmp_path: Path) -> None:
    data = write_images(tmp_path / "set")
    command = [sys.executable, "-c", CONSOLE, stream, str(files["pt"]), str(data), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_numpy_errors_of_the_caller_do_not_matter(files: dict[str, Path], tmp_path: Path) -> None:
    data = write_images(tmp_path / "set")
    with np.errstate(all="raise"):
        model = YOLO(files["pt"])
        (result,) = model(IMAGE, save=True, save_txt=True, save_json=True, project=str(tmp_path), **OPTIONS)
        result.plot()
        assert len(result.summary()) == 4
        assert len(list(model.predict([IMAGE] * 3, stream=True, **OPTIONS))) == 3
        model.val(data=str(data), imgsz=64, project=str(tmp_path), verbose=False)
        model.train(data=str(data), epochs=1, imgsz=32, batch=2, workers=0, verbose=False, project=str(tmp_path))
        with pytest.raises(FloatingPointError):
            np.exp(np.float32(-200))


class TestOverrides:
    def test_options_are_used_and_calls_win(self, files: dict[str, Path]) -> None:
        model = YOLO(files["pt"])
        model.overrides["max_det"] = 1
        model.overrides.update(conf=0.0, agnostic_nms=True, imgsz=64)
        assert len(model(IMAGE, verbose=False)[0]) == 1
        assert len(model(IMAGE, max_det=2, verbose=False)[0]) == 2
        del model.overrides["max_det"]
        assert len(model(IMAGE, verbose=False)[0]) > 2

    def test_options_of_other_modes_are_left_out(self, files: dict[str, Path]) -> None:
        model = YOLO(files["pt"])
        model.overrides.update(epochs=3, save_json=False)
        assert len(model(IMAGE, **OPTIONS)[0]) == 4

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("max_dets", 1, "Unknown option 'max_dets' in model.overrides. Did you mean 'max_det'"),
            ("conf", 2, "in model.overrides is out of range"),
            ("model", "other.pt", "cannot be set in model.overrides: open another network"),
            ("task", "detect", "cannot be set in model.overrides"),
            ("stream", True, "give it to each call"),
            ("cfg", "a.yaml", "give it to each call"),
        ],
    )
    def test_what_cannot_be_used_is_an_error(
        self, name: str, value: object, message: str, files: dict[str, Path]
    ) -> None:
        model = YOLO(files["pt"])
        model.overrides[name] = value
        with pytest.raises(UsageError) as error:
            model(IMAGE, verbose=False)
        assert message in str(error.value)


@pytest.mark.parametrize("device", ["intel:cpu", "INTEL:CPU", "cpu:0", "CPU"])
@pytest.mark.parametrize("kind", ["pt", "onnx", "openvino", "torchscript"])
def test_names_of_the_cpu(kind: str, device: str, files: dict[str, Path]) -> None:
    assert len(YOLO(file_of(kind, files))(IMAGE, device=device, **OPTIONS)[0]) == 4


@pytest.mark.parametrize("kind", ["pt", "onnx", "openvino"])
def test_other_intel_devices_are_explained(kind: str, files: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="intel:npu"):
        YOLO(file_of(kind, files))(IMAGE, device="intel:npu", **OPTIONS)
