"""Our own format: round trips in both kinds of file, golden files of released formats, and damaged files."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolopose.base.errors import OutputError, UsageError, WeightsError
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec
from yolopose.weights import Checkpoint, read_checkpoint, write_checkpoint

GOLDEN = Path(__file__).parent / "golden"


def golden() -> Checkpoint:
    """Content of the golden files of format 1."""
    keypoints = KeypointSchema(
        count=3,
        dims=2,
        names={0: ("nose", "left", "right"), 2: ("a", "b", "ç")},
        flip_idx=(0, 2, 1),
        skeleton=((0, 1),),
        sigmas=(0.1, 0.2, 0.3),
    )
    args = {"imgsz": [320, 640], "lr0": 0.01, "data": "mouse.yaml", "resume": None, "cos_lr": True}
    metadata = ModelMetadata(
        spec=PoseSpec(classes=("mouse", "rat", "Ñu"), keypoints=keypoints),
        name="tiny-pose",
        stride=64,
        imgsz=(320, 640),
        license="Apache-2.0",
        version="0.1.0",
        args=args,
    )
    return Checkpoint(
        state={
            "model.0.conv.weight": torch.arange(6.0).reshape(2, 3) / 8,
            "model.0.bn.num_batches_tracked": torch.tensor(7),
            "model.0.empty": torch.empty(0, 4),
        },
        model_yaml={"nc": 3, "kpt_shape": [3, 2], "backbone": [[-1, 1, "Conv", [8, 3, 2]]], "scale": None},
        metadata=metadata,
        train_args=args,
        metrics={"metrics/mAP50-95(P)": 0.5, "fitness": 0.25},
        epoch=4,
        date="2025-01-02T03:04:05+00:00",
        version="0.1.0",
        license="Apache-2.0",
        extra={"optimizer": {"state": {0: {"exp_avg": torch.ones(2), "step": 3}}, "betas": [0.9, 0.999]}, "best": None},
    )


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_same(found[key], value)
    else:
        assert found == expected


def assert_same_checkpoint(found: Checkpoint, expected: Checkpoint, extra: bool = True) -> None:
    for name in Checkpoint.__slots__:
        if name == "state":
            assert_same(dict(sorted(found.state.items())), dict(sorted(expected.state.items())))
        elif name != "extra":
            assert_same(getattr(found, name), getattr(expected, name))
    assert_same(found.extra, expected.extra if extra else {})


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = write_checkpoint(tmp_path / f"best{suffix}", golden())
    assert_same_checkpoint(read_checkpoint(path), golden(), extra=suffix == ".pt")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["format_1.bin", "format_1_safetensors.bin"])
def test_golden_files_of_released_formats_are_read(name: str) -> None:
    assert (GOLDEN / name).stat().st_size < 20_000
    assert_same_checkpoint(read_checkpoint(GOLDEN / name), golden(), extra="safetensors" not in name)


def test_torch_reads_our_format_with_weights_only(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", golden())
    content = torch.load(path, weights_only=True)
    assert content["format"] == 1
    assert_same(content["state"], golden().state)
    assert_same(content["extra"], golden().extra)


def test_kind_is_detected_by_content(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.safetensors", golden()).rename(tmp_path / "best.pt")
    assert read_checkpoint(path).epoch == 4


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_half_precision_except_where_it_overflows(tmp_path: Path, suffix: str) -> None:
    values = {
        "weight": torch.tensor([1.0, 1 / 3]),
        "running_var": torch.tensor([1e6, 1 / 3]),
        "broken": torch.tensor([torch.inf, 1 / 3]),
        "count": torch.tensor(70000),
    }
    path = write_checkpoint(tmp_path / f"best{suffix}", Checkpoint(state=values), half=True)
    found = read_checkpoint(path)
    assert found.dtype == "float16"
    assert_same(found.state["weight"], values["weight"].half().float())
    assert_same(found.state["broken"], values["broken"].half().float())
    assert_same(found.state["running_var"], values["running_var"])
    assert_same(found.state["count"], values["count"])
    whole = write_checkpoint(tmp_path / f"whole{suffix}", replace(golden(), state={"a": torch.zeros(10_000)}))
    half = write_checkpoint(tmp_path / f"half{suffix}", replace(golden(), state={"a": torch.zeros(10_000)}), half=True)
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(20_000, abs=200)


def test_numpy_scalars_and_paths_become_plain(tmp_path: Path) -> None:
    args = {"lr0": np.float32(0.5), "data": Path("a/b.yaml"), "imgsz": (320, 640), 3: np.int64(4)}
    path = write_checkpoint(tmp_path / "best.pt", Checkpoint(state={}, train_args=args))  # type: ignore[arg-type]
    assert read_checkpoint(path).train_args == {"lr0": 0.5, "data": str(Path("a/b.yaml")), "imgsz": [320, 640], 3: 4}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_unstorable_value_is_named_and_the_old_file_remains(tmp_path: Path, suffix: str) -> None:
    path = write_checkpoint(tmp_path / f"best{suffix}", golden())
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"args\.hooks\[1\], which is a function"):
        write_checkpoint(path, Checkpoint(state={}, train_args={"hooks": [1, lambda: None]}))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.pt or \.safetensors, not as 'best\.onnx'"):
        write_checkpoint(tmp_path / "best.onnx", golden())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_full_disk_raises_output_error(tmp_path: Path, suffix: str) -> None:
    resource, signal = pytest.importorskip("resource"), pytest.importorskip("signal")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OutputError, match="Cannot write"):
            write_checkpoint(tmp_path / f"best{suffix}", Checkpoint(state={"a": torch.zeros(100_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def changed(path: Path, **changes: Any) -> Path:
    """Write a golden checkpoint with changed values."""
    content = torch.load(GOLDEN / "format_1.bin", weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not ...}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2; yolopose .* supports formats up to 1. Upgrade"),
        ({"format": "1"}, "format number is 1"),
        ({"format": True}, "format number is True"),
        ({"format": ...}, "format number is None"),
        ({"state": [1]}, "state is not a dict of tensors"),
        ({"state": {"a": 1}}, "state is not a dict of tensors"),
        ({"yaml": ...}, "yaml is missing"),
        ({"metrics": [1]}, "metrics: expected a mapping, got a list"),
        ({"metadata": {"kpt_shape": [3, 2]}}, "metadata cannot be read"),
        ({"metadata": {"kpt_shape": [3, 2], "imgsz": 640}}, "metadata cannot be read"),
        ({"metadata": 7}, "metadata cannot be read"),
        ({"writer": "another"}, "neither a network nor a state_dict"),
    ],
)
def test_unusable_header_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(changed(tmp_path / "best.pt", **changes))


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors({"a": TENSOR}), "damaged"),
        (safetensors({"a": {**TENSOR, "data_offsets": [0, 400]}}, b"\0" * 4), "damaged"),
        (safetensors({"a": {**TENSOR, "shape": [-1]}}, b"\0" * 4), "damaged"),
        (safetensors({"a": {**TENSOR, "dtype": "F8_E4M3", "shape": [4]}}, b"\0" * 4), "float8"),
        (safetensors(b"{" + b'"a":{' * 5000), "damaged"),
        (safetensors({"__metadata__": {"yolopose": "{"}}), "metadata is not valid JSON"),
        (safetensors({"__metadata__": {"yolopose": "[" * 5000}}), "metadata is not valid JSON"),
        (safetensors({"__metadata__": {"yolopose": "[]"}}), "metadata is not a JSON object"),
        (safetensors({"__metadata__": {"yolopose": '{"a":' * 60 + "1" + "}" * 60}}), "nested too deep"),
        (safetensors({"__metadata__": {"yolopose": '{"format": 3}'}}), "has format 3"),
    ],
    ids=["cut", "offset", "side", "type", "deep", "record", "deep record", "list", "deep dicts", "newer"],
)
def test_damaged_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(path)


def test_foreign_safetensors_are_read_as_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}, b"\0\x3c\0\x40"))
    found = read_checkpoint(path)
    assert found.origin == "safetensors"
    assert_same(found.state, {"a": torch.tensor([1.0, 2.0])})
    with pytest.raises(WeightsError, match="so they are not a model"):
        _ = found.spec


if __name__ == "__main__":  # how the golden files were made
    write_checkpoint(GOLDEN / "x.pt", golden()).rename(GOLDEN / "format_1.bin")
    write_checkpoint(GOLDEN / "x.safetensors", golden()).rename(GOLDEN / "format_1_safetensors.bin")
