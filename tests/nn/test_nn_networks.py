"""Whole networks against golden values: outputs, sizes, state_dict names."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nn_golden import fill, image

from yolopose.nn import build_network

OUTPUTS = [
    *(f"yolo11{scale}-pose_nc1_k17x3" for scale in "nsmlx"),
    "yolo11n-pose_nc3_k5x2",
    "yolov8n-pose_nc1_k17x3",
    "yolov8m-pose_nc2_k4x3",
    "yolov8x-pose_nc1_k17x3",
    "yolo12n-pose_nc1_k17x3",
    "yolo26n-pose_nc1_k17x3",
    "yolo26m-pose_nc1_k17x3",
]
EXCERPT = (
    "yolo11n-pose_nc3_k5x2",
    "yolov8m-pose_nc2_k4x3",
    "yolo12n-pose_nc1_k17x3",
    "yolo26n-pose_nc1_k17x3",
)
"""Networks whose golden outputs are in the repository."""

FIXTURES = Path(__file__).parents[1] / "fixtures"
LAYERS = {
    "yolo11": "196 196 246 372 372",
    "yolov8": "144 144 184 224 224",
    "yolo12": "287 287 307 503 503",
    "yolo26": "359 359 379 491 491",
}
FUSED_LAYERS = {
    "yolo11": "109 109 134 199 199",
    "yolov8": "81 81 101 121 121",
    "yolo12": "168 168 178 292 292",
    "yolo26": "128 128 138 196 196",
}
FUSED_PARAMETERS = {
    "yolo11": (2_900_369, 9_933_513, 20_949_913, 26_199_193, 58_842_553),
    "yolov8": (3_289_964, 11_615_724, 26_447_596, 44_465_580, 69_462_204),
    "yolo12": (2_874_945, 9_751_593, 21_024_793, 27_258_953, 61_058_873),
    "yolo26": (2_960_395, 10_390_323, 21_599_075, 25_995_363, 57_649_077),
}


def assert_rows_close(got: torch.Tensor, want: np.ndarray[Any, Any]) -> None:
    """Compare within 1e-4 of the largest value of each row, at least the float32 error of values in 0…1."""
    rows = want.reshape(len(want), -1)
    error = np.abs(got.numpy().reshape(rows.shape) - rows).max(1)
    assert (error <= np.maximum(1e-4 * np.abs(rows).max(1), 5e-7)).all()


@pytest.mark.parametrize("key", OUTPUTS)
def test_outputs_match_golden(key: str, request: pytest.FixtureRequest) -> None:
    folder = FIXTURES if key in EXCERPT else request.getfixturevalue("shared") / "fixtures"
    golden = np.load(folder / "network_outputs.npz")
    match = re.fullmatch(r"(.*)_nc(\d+)_k(\d+)x(\d)", key)
    assert match
    name, nc, count, dims = match.groups()
    model = build_network(f"{name}.yaml", nc=int(nc), kpt_shape=(int(count), int(dims)))
    fill(model).eval()
    with torch.no_grad():
        maps = model.features(image())
        output = model.head.outputs(maps)
        assert_rows_close(model(image())[0], golden[key])
    for level, features in enumerate(maps, start=3):
        assert_rows_close(features[0, :8], golden[f"{key}.p{level}"])
    assert_rows_close(output.boxes[0, ::4], golden[f"{key}.boxes"])
    assert_rows_close(output.scores[0], golden[f"{key}.scores"])
    assert_rows_close(output.kpts[0, ::4], golden[f"{key}.kpts"])


@pytest.mark.parametrize("name", ["yolo26n-pose", "yolo26m-pose"])
def test_final_detections_match_golden(name: str, shared: Path) -> None:
    golden = np.load(shared / "fixtures" / "network_outputs.npz")
    model = fill(build_network(f"{name}.yaml", nc=1)).eval().select_output(end2end=True)
    with torch.no_grad():
        found = model(torch.from_numpy(golden["noise_picture"]))[0].numpy()
    want = golden[f"{name}_nc1_k17x3.e2e"]
    assert found.shape == want.shape
    assert (np.diff(found[:, 4]) <= 0).all()
    near = (
        np.abs(found[:, None, :4] - want[None, :, :4]).max(2).argmin(0)
    )  # rows with nearly equal scores may change places
    assert len(set(near)) == len(want)
    np.testing.assert_allclose(found[:, 4], want[:, 4], rtol=1e-6, atol=1e-6)
    assert (np.abs(found[near] - want).max(0) <= np.maximum(1e-4 * np.abs(want).max(0), 5e-7)).all()


@pytest.mark.parametrize("scale", "nsmlx")
@pytest.mark.parametrize("family", FUSED_PARAMETERS)
def test_sizes_match_golden(family: str, scale: str) -> None:
    name, index = f"{family}{scale}-pose", "nsmlx".index(scale)
    golden = json.loads((FIXTURES / "model_sizes.json").read_text())[name]
    for nc, suffix in ((None, ""), (1, "_nc1")):
        with torch.device("meta"):
            model = build_network(f"{name}.yaml", nc=nc)
        info = model.info(verbose=False)
        assert info.parameters == golden[f"params{suffix}"]
        assert info.gradients == info.parameters - 16 * (family != "yolo26")  # the bins of the boxes
        assert round(info.gflops, 3) == golden[f"gflops_640{suffix}"]
        assert info.layers == int(LAYERS[family].split()[index])
        fused = model.eval().fuse().info(verbose=False)
        assert fused.layers == int(FUSED_LAYERS[family].split()[index])
        assert fused.parameters == FUSED_PARAMETERS[family][index] or (nc == 1 and family != "yolov8")


@pytest.mark.parametrize("name", ["yolo11n-pose", "yolov8n-pose", "yolo12n-pose", "yolo26n-pose"])
def test_state_dict_has_public_names_order_and_shapes(name: str) -> None:
    with gzip.open(FIXTURES / "state_dicts.json.gz", "rt") as file:
        lines = json.load(file)[name]
    with torch.device("meta"):
        state = build_network(f"{name}.yaml").state_dict()
    kinds = {torch.float32: "float32", torch.int64: "int64"}
    assert [f"{key} {tuple(value.shape)} {kinds[value.dtype]}" for key, value in state.items()] == lines
