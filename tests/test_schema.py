from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.schema import COCO_PERSON_SIGMAS, KeypointSchema, ModelMetadata, PoseSpec, class_names

PERSON = KeypointSchema.coco_person()


def test_coco_person_is_consistent() -> None:
    assert PERSON.shape == (17, 3)
    names = PERSON.keypoint_names(0)
    for index, mirrored in enumerate(PERSON.flip_idx or ()):
        swapped = names[index].replace("left", "L").replace("right", "left").replace("L", "right")
        assert names[mirrored] == swapped
    assert {point for edge in PERSON.skeleton for point in edge} == set(range(17))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (KeypointSchema(count=17, dims=3), COCO_PERSON_SIGMAS),
        (KeypointSchema(count=17, dims=2), [1 / 17] * 17),
        (KeypointSchema(count=4, dims=3), [0.25] * 4),
        (KeypointSchema(count=2, dims=3, sigmas=(0.1, 0.2)), [0.1, 0.2]),
    ],
)
def test_effective_sigmas(schema: KeypointSchema, expected: list[float]) -> None:
    np.testing.assert_allclose(schema.oks_sigmas, expected)


@pytest.mark.parametrize("schema", [PERSON, KeypointSchema(count=1, dims=2)])
def test_spec_round_trip(schema: KeypointSchema) -> None:
    spec = PoseSpec(classes=("person", "dog"), keypoints=schema)
    assert PoseSpec.from_dict(spec.to_dict()) == spec
    metadata = ModelMetadata(spec=spec, name="yolo11n-pose", imgsz=(320, 640), args={"epochs": 3})
    assert ModelMetadata.from_dict(metadata.to_dict()) == metadata
    assert ModelMetadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert metadata.to_dict()["kpt_shape"] == list(schema.shape)


@pytest.mark.parametrize(("key", "value"), [("stride", "32"), ("imgsz", [640]), ("args", None), ("kpt_shape", 3)])
def test_bad_metadata_names_the_key(key: str, value: object) -> None:
    good = ModelMetadata(spec=PoseSpec(classes=("person",), keypoints=PERSON)).to_dict()
    with pytest.raises(UsageError, match=key):
        ModelMetadata.from_dict({**good, key: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "kpt_shape is missing"),
        ({"kpt_shape": [0, 3]}, "not possible"),
        ({"kpt_shape": [17, 4]}, "not possible"),
        ({"kpt_shape": "17, 3"}, "list of integers"),
        ({"kpt_shape": [17]}, "must be two integers"),
        ({"kpt_shape": [3, 3], "flip_idx": [0, 0, 0]}, "exactly once"),
        ({"kpt_shape": [3, 3], "flip_idx": [0, 1]}, "exactly once"),
        ({"kpt_shape": [3, 3], "flip_idx": [0.5, 1, 2]}, "integers"),
        ({"kpt_shape": [2, 3], "kpt_names": ["a"]}, "1 names, but kpt_shape has 2"),
        ({"kpt_shape": [2, 3], "kpt_names": {"x": ["a", "b"]}}, "class index"),
        ({"kpt_shape": [2, 3], "skeleton": [[0, 2]]}, "skeleton edge"),
        ({"kpt_shape": [2, 3], "skeleton": [[0]]}, "skeleton edge"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1]}, "2 positive numbers"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": [0.1, -1]}, "2 positive numbers"),
        ({"kpt_shape": [2, 3], "kpt_oks_sigmas": ["a", "b"]}, "list of numbers"),
    ],
)
def test_bad_schemas_name_the_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        KeypointSchema.from_dict(values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("names", "nc", "expected"),
    [
        (["a", "b"], None, ("a", "b")),
        ({0: "a"}, 1, ("a",)),
        (None, 2, ("class0", "class1")),
        ({1: "b", 0: "a"}, 2, ("a", "b")),
        ({"1": "b", "0": "a"}, None, ("a", "b")),  # JSON has only text keys
    ],
)
def test_class_names(names: object, nc: object, expected: tuple[str, ...]) -> None:
    assert class_names(names, nc) == expected


@pytest.mark.parametrize(
    ("names", "nc"),
    [({0: "a", 2: "b"}, None), ({0: "a", "0": "b"}, None), (["a"], 2), (None, None), (None, 0), ("ab", 2), ([], None)],
)
def test_bad_class_names(names: object, nc: object) -> None:
    with pytest.raises(UsageError):
        class_names(names, nc)


def test_values_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PERSON.count = 3  # type: ignore[misc]
