"""Open Inference Protocol v2 with the real `tritonclient`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as tritonclient
from hostile_requests import GOOD
from running_server import BOX, Running, encoded, running
from tritonclient.utils import InferenceServerException

GREEN = encoded(".jpg", 200, 100, cls=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(model="fake=a.onnx,other=b.onnx") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    client = tritonclient.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def image_input(*images: bytes, binary: bool = True, shape: tuple[int, ...] | None = None) -> Any:
    tensor = tritonclient.InferInput("image", list(shape or (len(images),)), "BYTES")
    texts = images if binary else [base64.b64encode(image) for image in images]
    tensor.set_data_from_numpy(np.array(texts, dtype=np.object_).reshape(shape or len(images)), binary_data=binary)
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fake")
    assert client.is_model_ready("fake", "1")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("fake", "7")
    assert client.get_server_metadata()["name"] == "yolopose"
    metadata = client.get_model_metadata("other")
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert {output["name"]: output["shape"] for output in metadata["outputs"]}["keypoints"] == [-1, 2, 3]
    assert client.get_model_config("fake")["input"][0]["data_type"] == "TYPE_STRING"
    assert [model["name"] for model in client.get_model_repository_index()] == ["fake", "other"]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
@pytest.mark.parametrize("shape", [None, (2, 1)])
def test_inference(binary: bool, binary_output: bool, shape: tuple[int, int] | None, client: Any) -> None:
    names = ["num_detections", "boxes", "scores", "classes", "keypoints", "poses"]
    outputs = [tritonclient.InferRequestedOutput(name, binary_data=binary_output) for name in names]
    tensor = image_input(GOOD, GREEN, binary=binary, shape=shape)
    result = client.infer("fake", [tensor], outputs=outputs, request_id="7")
    assert result.get_response()["id"] == "7"
    arrays = {name: result.as_numpy(name) for name in names}
    assert arrays["num_detections"].tolist() == [1, 1]
    assert arrays["num_detections"].dtype == np.int32
    assert arrays["classes"].tolist() == [0, 1]
    np.testing.assert_allclose(arrays["scores"], [0.875, 0.875])
    np.testing.assert_allclose(arrays["boxes"], [BOX, BOX], atol=3)
    assert arrays["keypoints"].shape == (2, 2, 3)
    np.testing.assert_allclose(arrays["keypoints"][0, :, :2].ravel(), BOX, atol=2)
    poses = [json.loads(text) for text in arrays["poses"]]
    assert [pose["class"] for (pose,) in poses] == ["red", "green"]


def test_default_outputs_parameters_and_versions(client: Any) -> None:
    result = client.infer("fake", [image_input(GOOD)], model_version="1")
    assert result.as_numpy("scores").shape == (1,)
    parameters = {"conf": 0.9, "imgsz": 160, "classes": "0"}
    result = client.infer("fake", [image_input(GOOD)], parameters=parameters, timeout=10_000_000)
    assert result.as_numpy("num_detections").tolist() == [0]
    assert result.as_numpy("boxes").shape == (0, 4)
    assert result.as_numpy("keypoints").shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("image", "model", "message"),
    [
        (b"abc", "fake", "accepted format"),
        (GOOD[:60], "fake", "cannot be decoded"),
        (GOOD, "nothing", "[Uu]nknown model"),
    ],
)
def test_errors(image: bytes, model: str, message: str, client: Any) -> None:
    with pytest.raises(InferenceServerException, match=message):
        client.infer(model, [image_input(GOOD, image)])


def test_replacing_without_a_key(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no admin key"):
        client.load_model("fake")


def test_plain_json(server: Running) -> None:
    """KServe and others send JSON without the binary extension."""
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(GOOD).decode()]}
    body = {"inputs": [tensor], "outputs": [{"name": "boxes"}]}
    values = httpx.post(f"{server.address}/v2/models/fake/infer", json=body).raise_for_status().json()
    (output,) = values["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("boxes", "FP32", [1, 4])
    np.testing.assert_allclose(output["data"], BOX, atol=2)
