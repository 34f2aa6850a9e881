"""Every family in every scale: built, run, fused, counted, saved and opened again; the small ones exported too."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO, zoo
from yolopose.formats.registry import get_format, missing_packages
from yolopose.zoo import network_sizes

torch = pytest.importorskip("torch")
FAMILIES = [name.removesuffix("-pose.yaml") for name in zoo.model_yaml_names()]
SIZES = {size.name: size for size in network_sizes()}
QUICK = ("yolo12n-pose", "yolo26n-pose")  # the others' like is tested in their rooms


def networks(quick: tuple[str, ...] = QUICK) -> list[object]:
    names = [f"{family}{scale}-pose" for scale in "nsmlx" for family in FAMILIES]
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def seen(name: str) -> YOLO:
    """A network whose batch norms have seen numbers."""
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml")
    for key, value in model.model.state_dict().items():
        if "running" in key or key.endswith("bn.weight"):
            value.uniform_(0.8, 1.2)
    model.model.eval()
    return model


@pytest.mark.parametrize("name", networks())
def test_family_and_scale(name: str, tmp_path: Path) -> None:
    model = seen(name)
    network, image = model.model, torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        want = network(image)
        assert want.shape == (1, 4 + network.head.nc + 51, 126)
        assert torch.isfinite(want).all()
        fused = copy.deepcopy(network).fuse()
        limit = 1e-3 * want.abs().amax(2, keepdim=True)
        assert ((fused(image) - want).abs() <= limit).all()
        again = YOLO(model.save(tmp_path / "again.pt")).model
        torch.testing.assert_close(again(image), want, rtol=0, atol=0)
    assert (again.name, again.yaml, again.stride) == (network.name, network.yaml, (8, 16, 32))
    assert str(again.info(verbose=False)) == str(network.info(verbose=False))
    size, counted = SIZES[name], fused.info(verbose=False)
    assert counted.layers == size.fused_layers
    if network.head.nc == 1:
        assert counted.parameters == size.fused_parameters


@pytest.mark.slow
@pytest.mark.parametrize("end2end", [False, True])
@pytest.mark.parametrize("name", [f"{family}n-pose" for family in FAMILIES])
def test_export_computes_what_the_network_does(name: str, end2end: bool, tmp_path: Path) -> None:
    if end2end and "26" not in name:
        pytest.skip("one branch alone")
    pytest.importorskip("onnx")
    model = seen(name)
    model.model_name = str(tmp_path / f"{name}.pt")
    Path(model.model_name).touch()
    runtime = YOLO(model.export(format="onnx", imgsz=64, dynamic=True, end2end=end2end, verbose=False))._runtime()
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    network = model.model.select_output(end2end) if end2end else model.model
    with torch.no_grad():
        want = network(torch.from_numpy(image)).numpy()
    found = runtime.raw(image)
    if end2end:  # near-tied rows may change places
        want, found = np.sort(want, 1), np.sort(found, 1)
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo12n-pose", "yolo26n-pose"])
@pytest.mark.parametrize("kind", ["torchscript", "openvino", "coreml", "tflite", "ncnn", "mnn", "executorch"])
def test_newer_families_in_the_other_formats(kind: str, name: str, tmp_path: Path) -> None:
    row = get_format(kind)
    if missing := missing_packages((*row.info.export_requires, *row.info.run_requires)):
        pytest.skip(f"{missing[0]} is not installed")
    model = seen(name)
    model.model_name = str(tmp_path / f"{name}.pt")
    Path(model.model_name).touch()
    path = model.export(format=kind, imgsz=64, verbose=False)  # which compares, where this system runs it
    if row.info.runs_here:
        image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
        with torch.no_grad():
            want = model.model(torch.from_numpy(image)).numpy()
        np.testing.assert_allclose(YOLO(path)._runtime().raw(image), want, rtol=1e-3, atol=1e-2)
