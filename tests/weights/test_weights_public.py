"""Public checkpoints of several writing versions: tensors, metadata, and outputs of their networks."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weights_craft import STORAGES, View, archive, call, checkpoint, encode, module, network, op, program

from yolopose.base.errors import WeightsError
from yolopose.schema import KeypointSchema
from yolopose.weights import Checkpoint, load_network, read_checkpoint

FORMULA = {
    "ck_8.0.196_yolov8n-pose": ("8.0.196", "yolov8n-pose"),
    "ck_8.3.0_yolo11n-pose": ("8.3.0", "yolo11n-pose"),
    "ck_8.4.190_yolo11n-pose": ("8.4.190", "yolo11n-pose"),
    "ck_8.4.190_yolo26n-pose": ("8.4.190", "yolo26n-pose"),
}


def wave(name: str, count: int) -> np.ndarray:
    return np.sin(0.7 * np.arange(count) + zlib.crc32(name.encode()) % 1000)


def image() -> torch.Tensor:
    y, x = np.mgrid[:96, :160]
    return torch.tensor(np.stack([0.5 + 0.5 * np.sin(0.05 * x * (c + 1) + 0.03 * y) for c in range(3)])[None]).float()


@pytest.mark.parametrize("file", FORMULA)
def test_metadata_and_tensor_names(shared: Path, file: str) -> None:
    found = read_checkpoint(shared / "checkpoints" / f"{file}.pt")
    version, name = FORMULA[file]
    assert (found.origin, found.version, found.epoch, found.dtype) == ("reference", version, -1, "float16")
    assert found.metadata is not None
    assert (found.metadata.name, found.metadata.stride, found.metadata.imgsz) == (name, 32, (640, 640))
    assert found.spec.classes == ("person",)
    assert found.spec.keypoints == KeypointSchema.coco_person()
    assert found.model_yaml["scale"] == "n"
    lines = (shared / "fixtures" / f"{name}.state_dict.txt").read_text().splitlines()
    assert list(found.state) == [line.split()[0] for line in lines if line]


@pytest.mark.parametrize("file", FORMULA)
def test_tensors_follow_the_formula(shared: Path, file: str) -> None:
    state = read_checkpoint(shared / "checkpoints" / f"{file}.pt").state
    kinds = {".bn.running_var": (1, 0.5, True), ".bn.running_mean": (0, 0.1, False), ".bn.bias": (0, 0.1, False)}
    checked = 0
    for name, value in state.items():
        for ending, (base, scale, absolute) in kinds.items():
            if name.endswith(ending):
                values = wave(name, value.numel())
                expected = base + scale * (abs(values) if absolute else values)
                np.testing.assert_allclose(value.numpy(), expected, rtol=1e-3, atol=1e-4)
                checked += 1
    assert checked > 150
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("file", FORMULA)
def test_network_outputs_match_the_reference(shared: Path, file: str) -> None:
    model, _ = load_network(shared / "checkpoints" / f"{file}.pt")
    with torch.no_grad():
        found = model(image())[0].numpy()
    expected = np.load(shared / "fixtures" / "network_outputs.npz")[f"{FORMULA[file][1]}_nc1_k17x3"]
    limit = 2e-3 if "26" in file else 1e-3  # FP16 in the file; boxes of one pixel's height there
    assert np.all(abs(found - expected) <= limit * abs(expected).max(1, keepdims=True))


def test_public_weights_are_read(shared: Path) -> None:
    model, found = load_network(shared / "checkpoints" / "yolo11n-pose.pt")
    assert len(found.state) == 541
    assert model.name == "yolo11n-pose"
    assert model.spec == found.spec
    assert not model.training


def read(tmp_path: Path, **changes: Any) -> Checkpoint:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(program(encode(checkpoint(**changes))), STORAGES))
    return read_checkpoint(path)


def test_ema_wins_over_model(tmp_path: Path) -> None:
    found = read(tmp_path, ema=network(names={0: "rat"}), model=network(names={0: "mouse"}))
    assert found.spec.classes == ("rat",)


@pytest.mark.parametrize(
    ("names", "nc", "classes"),
    [
        ({0: "a", 1: "b"}, 2, ("a", "b")),
        (["a", "b"], 2, ("a", "b")),
        ({0: "a"}, 3, ("a", "1", "2")),
        ({1: "b"}, 2, ("0", "b")),
        (None, 2, ("0", "1")),
    ],
)
def test_class_names_are_padded(tmp_path: Path, names: Any, nc: int, classes: tuple[str, ...]) -> None:
    model = network(names=names, nc=nc)
    model.state["_modules"]["model"].state["_modules"]["0"].state["nc"] = nc
    assert read(tmp_path, model=model).spec.classes == classes


@pytest.mark.parametrize("names", [["a", "b"], {0: "a", 5: "b"}, {-1: "a"}, {"x": "a"}])
def test_too_many_names_are_an_error(tmp_path: Path, names: Any) -> None:
    with pytest.raises(WeightsError, match="but its network has 1"):
        read(tmp_path, model=network(names=names))


@pytest.mark.parametrize(
    ("places", "shape"),
    [
        ({"model": (5, 3), "yaml": [6, 2], "head": (4, 2)}, (5, 3)),
        ({"yaml": [6, 2], "head": (4, 2)}, (6, 2)),
        ({"head": (4, 2)}, (4, 2)),
        ({"head": call("torch", "Size", encode((7, 3)))}, (7, 3)),
    ],
    ids=["model", "yaml", "head", "size"],
)
def test_kpt_shape_of_network_yaml_or_head(tmp_path: Path, places: dict[str, Any], shape: tuple[int, int]) -> None:
    model = network(kpt_shape=places.get("model"), yaml={"kpt_shape": places.get("yaml")})
    model.state["_modules"]["model"].state["_modules"]["0"].state["kpt_shape"] = places.get("head")
    assert read(tmp_path, model=model).spec.keypoints.shape == shape


@pytest.mark.parametrize("shape", [(0, 3), (4, 4), (4,), "43", (4.0, 2), (10**9, 3), View("0", 12, (2,), (1,))])
def test_broken_kpt_shape(tmp_path: Path, shape: Any) -> None:
    with pytest.raises(WeightsError, match="its kpt_shape is"):
        read(tmp_path, model=network(kpt_shape=shape))


def test_keypoint_names_of_the_right_length_are_read(tmp_path: Path) -> None:
    names = {0: ["a", "b", "c", "d"], 1: ["too", "few"], "x": ["a", "b", "c", "d"]}
    assert read(tmp_path, model=network(kpt_names=names)).spec.keypoints.names == {0: ("a", "b", "c", "d")}
    assert read(tmp_path, model=network(kpt_names=["a", "b", "c", "d"])).spec.keypoints.names[0][3] == "d"


def test_only_persons_get_the_coco_schema(tmp_path: Path) -> None:
    person, bear = (read(tmp_path, model=network(names=[name], kpt_shape=(17, 3))) for name in ("person", "bear"))
    assert person.spec.keypoints == KeypointSchema.coco_person()
    assert bear.spec.keypoints == KeypointSchema(count=17, dims=3)


def test_arguments_fall_back_to_those_of_the_model(tmp_path: Path) -> None:
    args = module("IterableSimpleNamespace", "ultralytics.utils")
    args.state = {"imgsz": [96, 160], "data": "a.yaml", "device": View("0", 12, (1,), (1,))}
    found = read(tmp_path, train_args=None, model=network(args=args))
    assert found.train_args == {"imgsz": [96, 160], "data": "a.yaml"}
    assert found.metadata is not None
    assert found.metadata.imgsz == (96, 160)


def test_network_saved_without_a_dict(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(archive(program(encode(network())), STORAGES))
    assert read_checkpoint(path).spec.classes == ("mouse",)


def test_bare_state_dict_is_read(tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2).bfloat16()}
    for content in (state, {"state_dict": state}, {"model": state}):
        torch.save(content, tmp_path / "x.pt")
        found = read_checkpoint(tmp_path / "x.pt")
        assert found.metadata is None
        assert {name: value.dtype for name, value in found.state.items()} == dict.fromkeys(state, torch.float32)
        assert torch.equal(found.state["a.weight"], state["a.weight"])
    with pytest.raises(WeightsError, match=r'not a model.*YOLO\("yolo11n-pose\.yaml"\)\.load\('):
        load_network(tmp_path / "x.pt")


def test_network_of_another_task(tmp_path: Path) -> None:
    model = network(yaml={"nc": 1, "backbone": []}, kpt_shape=None)
    del model.state["_modules"]["model"].state["_modules"]["0"].state["kpt_shape"]
    (tmp_path / "x.pt").write_bytes(archive(program(encode(checkpoint(model=model))), STORAGES))
    assert len(read_checkpoint(tmp_path / "x.pt").state) == 3
    with pytest.raises(WeightsError, match="another task than poses"):
        load_network(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": None}, "its keys are: epoch, ema, model"),
        ({"model": {"a": 1}}, "its keys are: a"),
        ({"model": network(_modules=[1])}, "_modules of a PoseModel in it is not a dict"),
        ({"model": network(_buffers={"a": 1})}, "a in it is not a tensor"),
        ({"model": network(nc=0, yaml={}, _modules={}, kpt_shape=(4, 2))}, "number of classes is 0"),
    ],
)
def test_broken_network(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        read(tmp_path, **content)


ODD = [
    None, True, 0, -1, 2**63, 1.5, float("nan"), "", "x", [], (), {}, [[]], {"a": 1}, {0: 1}, [1] * 300,
    module("Conv2d"),
    View("0", 12, (2,), (1,)), View("0", 12, (0,), (1,)), View("1", 1, (), (), kind="LongStorage"),
]  # fmt: skip


@pytest.mark.parametrize("key", ["epoch", "train_args", "train_metrics", "date", "version", "license", "ema"])
def test_odd_value_beside_the_network(tmp_path: Path, key: str) -> None:
    for value in ODD:
        try:
            found = read(tmp_path, **{key: value})
        except WeightsError:
            assert key == "ema"
        else:
            assert isinstance(found.train_args, dict)
            assert isinstance(found.date, str)


@pytest.mark.parametrize("key", ["names", "yaml", "nc", "stride", "args", "kpt_names", "kpt_shape", "_modules"])
def test_odd_value_in_the_network(tmp_path: Path, key: str) -> None:
    for value in ODD:
        try:
            found = read(tmp_path, model=network(**{key: value}))
        except WeightsError:
            continue
        assert found.metadata is None or found.metadata.spec.nc == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_dict_of_any_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    state = torch.nn.BatchNorm2d(3).half().state_dict()
    torch.save(state, tmp_path / "x.pt", pickle_protocol=protocol)
    found = read_checkpoint(tmp_path / "x.pt")
    assert list(found.state) == list(state)
    assert found.dtype == "float16"


def test_file_with_other_content(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(archive(program(op("EMPTY_LIST"))))
    with pytest.raises(WeightsError, match="holds a list, neither a network nor a state_dict"):
        read_checkpoint(tmp_path / "x.pt")
