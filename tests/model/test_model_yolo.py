from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import DependencyError, DownloadError, ModelError, NotFoundError, UsageError

torch = pytest.importorskip("torch")


@pytest.fixture
def small(tmp_path: Path) -> YOLO:
    file = tmp_path / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return YOLO(file)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)


def test_from_yaml_to_poses(small: YOLO, image: np.ndarray) -> None:
    assert small.names == {0: "class0", 1: "class1", 2: "class2"}
    assert small.spec.keypoints.shape == (5, 2)
    (result,) = small(image, conf=0.0, max_det=4, imgsz=96, verbose=False)
    assert result.boxes.data.shape == (4, 6)
    assert result.keypoints.data.shape == (4, 5, 2)
    assert result.keypoints.conf is None
    assert isinstance(result.boxes.data, torch.Tensor)


def test_stream_yields_one_result_at_a_time(small: YOLO, image: np.ndarray) -> None:
    found = small.predict([image] * 3, stream=True, imgsz=96, verbose=False)
    assert next(iter(found)).orig_shape == (60, 100)
    assert len(list(found)) == 2


def test_emits_predict_callbacks(small: YOLO, image: np.ndarray) -> None:
    seen: list[tuple[str, int, int]] = []
    events = ("start", "batch_start", "postprocess_end", "batch_end", "end")
    for event in events:
        small.add_callback(
            f"on_predict_{event}", lambda run, event=event: seen.append((event, run.seen, len(run.results)))
        )
    small([image] * 3, imgsz=96, batch=2, verbose=False)
    first = [("start", 0, 0), ("batch_start", 0, 0), ("postprocess_end", 0, 2), ("batch_end", 2, 2)]
    assert seen == [*first, ("batch_start", 2, 0), ("postprocess_end", 2, 1), ("batch_end", 3, 1), ("end", 3, 1)]


@pytest.mark.parametrize("name", ["own.pt", "own.safetensors"])
def test_saved_networks_predict_the_same(name: str, small: YOLO, image: np.ndarray, tmp_path: Path) -> None:
    again = YOLO(small.save(tmp_path / name))
    first, second = (
        model(image, conf=0.0, max_det=4, imgsz=96, verbose=False)[0].boxes.data for model in (small, again)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert again.names == small.names


def test_load_affects_later_predictions(small: YOLO, image: np.ndarray, tmp_path: Path) -> None:
    file = small.save(tmp_path / "a.pt")
    other = YOLO(tmp_path / "small-pose.yaml")
    options = {"conf": 0.0, "max_det": 4, "imgsz": 96, "verbose": False}
    before = other(image, **options)[0].boxes.data
    after = other.load(file)(image, **options)[0].boxes.data
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, small(image, **options)[0].boxes.data, rtol=0, atol=0)


def test_load_logs_how_many_tensors_were_copied(
    small: YOLO, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wide-pose.yaml").write_text(SMALL.replace("nc: 3", "nc: 1"), encoding="utf-8")
    YOLO(tmp_path / "wide-pose.yaml").load(small.save(tmp_path / "a.pt"))
    line = capsys.readouterr().out
    total = len(small.model.state_dict())
    assert f"of {total} tensors" in line
    assert "of other shape" in line


def test_loads_public_weights_into_a_network_from_yaml(shared: Path) -> None:
    model = YOLO("yolo11n-pose.yaml").load(shared / "checkpoints/yolo11n-pose.pt")
    public = YOLO(shared / "checkpoints/yolo11n-pose.pt")
    assert public.names == {0: "person"}
    key = "model.0.conv.weight"
    torch.testing.assert_close(model.model.state_dict()[key], public.model.state_dict()[key])


def test_fuse_and_info(small: YOLO, image: np.ndarray) -> None:
    before = small(image, conf=0.0, max_det=4, imgsz=96, verbose=False)[0].boxes.data
    layers, parameters, gradients, gflops = info = small.info(verbose=False)
    assert (layers, parameters, gradients, gflops) == (info.layers, info.parameters, info.gradients, info.gflops)
    assert small.fuse().info(verbose=False).parameters < parameters
    after = small(image, conf=0.0, max_det=4, imgsz=96, verbose=False)[0].boxes.data
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("none.pt", NotFoundError, "The weights file none.pt does not exist"),
        ("yolo11n-pose.pt", DownloadError, "releases/download/v8.3.0/yolo11n-pose.pt"),
        ("none.yaml", NotFoundError, "none.yaml"),
        ("x.onnx", NotFoundError, "The exported file x.onnx does not exist"),
        ("image.jpg", UsageError, "neither a model YAML"),
        ("yolo12q-pose.yaml", ModelError, "has no scale 'q'"),
    ],
)
def test_refuses_models_that_cannot_be_opened(
    name: str, kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        YOLO(name)
    assert message in str(error.value)


@pytest.mark.parametrize("model", [26, None])
def test_refuses_models_that_are_not_paths(model: Any) -> None:
    with pytest.raises(UsageError, match="is not a path"):
        YOLO(model)


def test_refuses_other_tasks_and_planned_methods(small: YOLO) -> None:
    with pytest.raises(UsageError, match="poses only"):
        YOLO("yolo11n-pose.yaml", task="segment")
    with pytest.raises(UsageError, match="docs/architecture"):
        small.task_map  # noqa: B018
    assert not hasattr(small, "task_map")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = small.nothing


def test_options_are_checked(small: YOLO, image: np.ndarray) -> None:
    with pytest.raises(UsageError, match="Did you mean 'conf'"):
        small(image, cnof=0.4)
    with pytest.raises(UsageError, match="needs a data set"):
        small.val()


def test_missing_torch_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pt").touch()
    with pytest.raises(DependencyError, match="pip install"):
        YOLO(tmp_path / "a.pt")
