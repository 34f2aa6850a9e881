"""Networks with two branches in every engine: both outputs, σ of keypoints, and files of the reference package."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from formats_samples import random_batch

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import ModelError, UsageError, WeightsError
from yolopose.formats import open_runtime
from yolopose.formats.metadata import read_metadata
from yolopose.formats.registry import get_format, missing_packages
from yolopose.formats.toolchain.worker_runtime import with_level_outputs
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

pytest.importorskip("torch")
pytest.importorskip("onnx")
DUAL = SMALL.replace("nc: 3\n", "nc: 3\nend2end: True\nreg_max: 1\n").replace("Pose,", "Pose26,")
FORMATS = ["onnx", *(["openvino"] if find_spec("openvino") else [])]


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> YOLO:
    import torch

    file = tmp_path_factory.mktemp("dual") / "dual-pose.yaml"
    file.write_text(DUAL, encoding="utf-8")
    torch.manual_seed(0)
    model = YOLO(file)
    for name, value in model.model.state_dict().items():
        if "cv3" in name and name.endswith("2.bias"):
            value.zero_()  # scores that are far apart
        elif "cv3" in name and name.endswith("2.weight"):
            value.mul_(20)
    model.model.eval()
    return model


def torch_engine(model: YOLO, **what: Any) -> Any:
    from yolopose.formats.pytorch import TorchRuntime

    plain = TorchRuntime(model.model, "cpu")
    return TorchRuntime(model.model, "cpu", metadata=replace(plain.metadata, **what))


def rows(found: Candidates) -> np.ndarray:
    parts = [found.batch_idx[:, None], found.scores[:, None], found.classes[:, None], found.boxes]
    parts += [values.reshape(len(values), -1) for values in (found.points, found.sigmas) if values is not None]
    return np.concatenate(parts, 1)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "options",
    [
        {"end2end": True, "dynamic": True, "uncertainty": True},
        {"uncertainty": True},
        pytest.param({"end2end": True}, marks=pytest.mark.slow),
        pytest.param({"nms": False, "opset": 17, "dynamic": True}, marks=pytest.mark.slow),
        pytest.param({"dynamic": True}, marks=pytest.mark.slow),
    ],
)
def test_file_has_the_output_of_torch(kind: str, options: dict[str, Any], dual: YOLO) -> None:
    if kind != "onnx":
        options = {key: value for key, value in options.items() if key != "opset"}
    engine = open_runtime(dual.export(format=kind, imgsz=[64, 96], verbose=False, **options), device="cpu")
    what = {"end2end": "end2end" in options or "nms" in options, "uncertainty": "uncertainty" in options}
    assert {key: getattr(engine.metadata, key) for key in what} == what
    torch = torch_engine(dual, **what)
    for batch in [random_batch(1, 64, 96)] + [random_batch(3, 32, 40)] * ("dynamic" in options):
        found, expected = (one.infer(batch, conf=0.3) for one in (engine, torch))
        assert len(expected.scores) > 10
        assert (found.sigmas is not None) == what["uncertainty"]
        assert found.nms_done == expected.nms_done == what["end2end"]
        np.testing.assert_allclose(np.sort(rows(found), 0), np.sort(rows(expected), 0), atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchscript", "mnn", "tflite", "executorch", "ncnn"])
@pytest.mark.parametrize("options", [{"end2end": True, "uncertainty": True}, {"uncertainty": True}])
def test_other_formats_have_the_output_of_torch(kind: str, options: dict[str, Any], dual: YOLO) -> None:
    row = get_format(kind)
    if missing := missing_packages((*row.info.export_requires, *row.info.run_requires)):
        pytest.skip(f"{missing[0]} is not installed")
    if not set(options) <= set(row.info.options):
        with pytest.raises(UsageError, match="; these support it: torchscript, onnx, "):
            dual.export(format=kind, imgsz=[64, 96], verbose=False, **options)
        return
    engine = open_runtime(dual.export(format=kind, imgsz=[64, 96], verbose=False, **options), device="cpu")
    batch = random_batch(1, 64, 96)
    found, expected = (one.infer(batch, conf=0.3) for one in (engine, torch_engine(dual, **options)))
    assert len(expected.scores) > 10
    np.testing.assert_allclose(np.sort(rows(found), 0), np.sort(rows(expected), 0), atol=2e-3)


@pytest.mark.parametrize("option", ["end2end", "uncertainty"])
def test_level_outputs_exclude_end2end_and_uncertainty(option: str) -> None:
    about = ModelMetadata(spec=PoseSpec(classes=("a",), keypoints=KeypointSchema(count=1, dims=3)), **{option: True})
    with pytest.raises(UsageError, match=f"{option}=True is not supported by 8-bit files with outputs per level"):
        with_level_outputs(SimpleNamespace(metadata=about, nms=None))  # type: ignore[arg-type]


def test_end2end_detections_equal_those_of_the_network(dual: YOLO) -> None:
    import torch

    batch = random_batch(2, 64, 96)
    network = dual.model.select_output(end2end=True)
    with torch.no_grad():
        want = network(torch.from_numpy(batch).float() / 255).numpy()
    network.select_output()
    found = torch_engine(dual, end2end=True).infer(batch, conf=0.3, classes=[0, 2])
    keep = (want[:, :, 4] > 0.3) & (want[:, :, 5] != 1)
    np.testing.assert_allclose(found.scores, want[keep][:, 4], atol=1e-5)
    assert set(found.classes.tolist()) <= {0, 2}


def test_sigma_is_in_image_pixels(dual: YOLO) -> None:
    small = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    wide = np.repeat(np.repeat(small, 2, 0), 2, 1)
    asked = {"imgsz": [64, 96], "conf": 0.3, "uncertainty": True, "verbose": False}
    one, plain = dual.predict(small, **asked)[0], dual.predict(small, **(asked | {"uncertainty": False}))[0]
    assert plain.keypoints.sigma is None
    np.testing.assert_allclose(one.keypoints.xy, plain.keypoints.xy, atol=1e-4)
    assert tuple(one.keypoints.sigma.shape) == (len(one), 5, 2)
    assert ((one.keypoints.sigma > 0) & (one.keypoints.sigma < 8)).all()
    candidates = torch_engine(dual, uncertainty=True).infer(
        np.ascontiguousarray(small[None, ..., ::-1].transpose(0, 3, 1, 2)), conf=0.3
    )
    first = candidates.scores.argmax()
    np.testing.assert_allclose(one.keypoints.sigma[0], candidates.sigmas[first], rtol=1e-4)
    part = one[1].numpy().keypoints
    np.testing.assert_allclose(part.sigma[0], one.keypoints.sigma[1])
    # the same image at half its size: what is seen is much alike, and each length counts twice
    half = dual.predict(wide, **asked)[0].keypoints.sigma
    assert np.median(half) == pytest.approx(2 * np.median(one.keypoints.sigma), rel=0.2)


def test_refuses_unavailable_outputs(dual: YOLO, small: YOLO, tmp_path: Path) -> None:
    img = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(UsageError, match="needs a network with the head Pose26"):
        small.predict(img, end2end=True)
    with pytest.raises(UsageError, match="needs a network with the head Pose26"):
        small.export(format="onnx", uncertainty=True)
    small.predict(img, nms=False, verbose=False)  # the reference package's word; no older head minds it
    assert dual.predict(img, nms=False, verbose=False, conf=0.0, max_det=400)[0].boxes.shape[0] == 300
    file = YOLO(dual.export(format="onnx", imgsz=64, verbose=False))
    with pytest.raises(UsageError, match="end2end=True is not available in"):
        file.predict(img, end2end=True)
    with pytest.raises(UsageError, match="uncertainty=True is not available in"):
        file.predict(img, uncertainty=True)
    again = YOLO(dual_file(tmp_path))
    again.fuse()
    with pytest.raises(ModelError, match="save them before fuse"):
        again.save(tmp_path / "x.pt")
    assert not (tmp_path / "x.pt").exists()


def dual_file(folder: Path) -> Path:
    file = folder / "dual-pose.yaml"
    file.write_text(DUAL, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("said", "shape", "finished"),
    [("True", [1, 300, 57], True), ("True", [1, 189, 57], True), ("False", [1, 56, 189], False),
     ("True", [1, 56, 8400], False)],
)  # fmt: skip
def test_reference_files_are_end2end_by_their_shape(said: str, shape: list[int], finished: bool) -> None:
    record = {"names": "{0: 'person'}", "kpt_shape": "[17, 3]", "end2end": said, "args": "{'nms': False}",
              "task": "pose", "stride": "32", "imgsz": "[96, 96]"}  # fmt: skip
    assert read_metadata(Path("x.onnx"), record, [1, 3, 96, 96], shape).end2end == finished
    with pytest.raises(WeightsError, match="contradicts its metadata"):
        read_metadata(Path("x.onnx"), record, [1, 3, 96, 96], [1, 55, 8400])
