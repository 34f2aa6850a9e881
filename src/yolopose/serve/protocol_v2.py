"""Open Inference Protocol v2 over HTTP: images as BYTES tensors, with the binary extension.

Specification: github.com/kserve/open-inference-protocol; the binary extension is that of NVIDIA Triton.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from yolopose._version import __version__
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.serve.access import AccessPolicy
from yolopose.serve.errors import RequestError
from yolopose.serve.models import LoadedModel
from yolopose.serve.service import PoseService, Prediction, list_poses
from yolopose.serve.web import Body, BodyBudget, json_response, parse_params, until_disconnect

Json = dict[str, Any]

INPUT = "image"
_LENGTH_HEADER = "inference-header-content-length"
_MAX_HEADER = 1 << 20  # bytes of JSON in a request with binary data
# parameters of other servers that have no effect here
_IGNORED = ("binary_data_output", "priority", "sequence_id", "sequence_start", "sequence_end", "headers")
_TYPES = {"num_detections": "INT32", "boxes": "FP32", "scores": "FP32", "classes": "INT64", "keypoints": "FP32"}


def protocol_routes(service: PoseService, policy: AccessPolicy, budget: BodyBudget) -> list[Route]:
    """Return the routes of the protocol."""
    handlers = _Handlers(service, policy, budget)
    model = "/v2/models/{model}"
    routes = [
        Route("/v2", handlers.server_metadata),
        Route("/v2/health/live", handlers.live),
        Route("/v2/health/ready", handlers.ready),
        Route("/v2/repository/index", handlers.index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", handlers.load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", handlers.unload, methods=["POST"]),
    ]
    for prefix in (model, f"{model}/versions/{{version}}"):
        routes += [
            Route(prefix, handlers.model_metadata),
            Route(f"{prefix}/ready", handlers.model_ready),
            Route(f"{prefix}/config", handlers.model_config),
            Route(f"{prefix}/infer", handlers.infer, methods=["POST"]),
        ]
    return routes


class _Handlers:
    """Handlers of the protocol; each takes a request and returns its response."""

    def __init__(self, service: PoseService, policy: AccessPolicy, budget: BodyBudget) -> None:
        self._service = service
        self._policy = policy
        self._budget = budget

    async def server_metadata(self, request: Request) -> Response:
        extensions = ["binary_tensor_data", "model_repository"]
        return json_response({"name": "yolopose", "version": __version__, "extensions": extensions})

    async def live(self, request: Request) -> Response:
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        is_ready = self._service.store.is_ready and not self._service.draining
        return json_response({"ready": is_ready}, 200 if is_ready else 503)

    async def model_metadata(self, request: Request) -> Response:
        model = self._model(request)
        return json_response(
            {
                "name": model.name,
                "versions": [str(model.version)],
                "platform": "yolopose",
                "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
                "outputs": [
                    {"name": name, "datatype": datatype, "shape": shape}
                    for name, (datatype, shape) in _output_shapes(model).items()
                ],
                "parameters": {"sha256": model.digest},
            }
        )

    async def model_ready(self, request: Request) -> Response:
        model = self._model(request)
        return json_response({"name": model.name, "ready": True})

    async def model_config(self, request: Request) -> Response:
        """Return the model in the form of Triton's configuration, which some clients read."""
        model = self._model(request)
        outputs = [
            {"name": name, "data_type": _triton_type(datatype), "dims": shape}
            for name, (datatype, shape) in _output_shapes(model).items()
        ]
        return json_response(
            {
                "name": model.name,
                "platform": "yolopose",
                "backend": "yolopose",
                "max_batch_size": 0,
                "input": [{"name": INPUT, "data_type": "TYPE_STRING", "dims": [-1]}],
                "output": outputs,
            }
        )

    async def index(self, request: Request) -> Response:
        store = self._service.store
        models = [store.get(name) for name in store.names]
        return json_response(
            [{"name": model.name, "version": str(model.version), "state": "READY", "reason": ""} for model in models]
        )

    async def load(self, request: Request) -> Response:
        """Replace a model by the present contents of its file; a request cannot name another file."""
        self._policy.check_admin(request.headers)
        async with Body(request, self._budget, self._service.options.read_timeout) as body:
            if body.strip() not in (b"", b"{}"):
                raise RequestError(400, "parameter", "Configurations and files are not accepted: the file is replaced.")
            model = await self._service.reload(request.path_params["model"])
        return json_response({"name": model.name, "version": str(model.version), "sha256": model.digest})

    async def unload(self, request: Request) -> Response:
        self._policy.check_admin(request.headers)
        raise RequestError(400, "unsupported", "Models cannot be unloaded: stop the server, or start it without them.")

    async def infer(self, request: Request) -> Response:
        service = self._service
        model = self._model(request)
        service.batcher.check_space(model.name)
        async with Body(request, self._budget, service.options.read_timeout) as body:
            header, images = await service.run(_read_request, body, request.headers.get(_LENGTH_HEADER))
            values, timeout = _read_params(header, service)
            outputs = _requested_outputs(header, model)
            params = service.defaults(model, values)
            service.batcher.check_space(model.name, len(images))
            work = asyncio.gather(*(service.predict(model, image, params, timeout=timeout) for image in images))
            predictions = await until_disconnect(request, _all_or_none(work))
        return await service.run(_make_response, model, header, outputs, predictions)

    def _model(self, request: Request) -> LoadedModel:
        model = self._service.store.get(request.path_params["model"])
        version = request.path_params.get("version")
        if version is not None and version != str(model.version):
            raise RequestError(404, "unknown_version", f"The model has version {model.version} only.")
        return model


async def _all_or_none(work: asyncio.Future[list[Prediction]]) -> list[Prediction]:
    """Await several predictions; when one fails, the others are cancelled."""
    try:
        return await work
    finally:
        work.cancel()


def _output_shapes(model: LoadedModel) -> dict[str, tuple[str, list[int]]]:
    count, dims = model.metadata.spec.keypoints.shape
    shapes: dict[str, list[int]] = {"num_detections": [-1], "boxes": [-1, 4], "scores": [-1], "classes": [-1]}
    shapes["keypoints"] = [-1, count, dims]
    return {**{name: (_TYPES[name], shape) for name, shape in shapes.items()}, "poses": ("BYTES", [-1])}


def _triton_type(datatype: str) -> str:
    return {"BYTES": "TYPE_STRING"}.get(datatype, f"TYPE_{datatype}")


# -- requests -----------------------------------------------------------------------------------------------------


def _invalid(message: str) -> RequestError:
    return RequestError(400, "invalid_request", message)


def _read_request(body: bytes, header_length: str | None) -> tuple[Json, list[bytes]]:
    """Return the JSON of a request, and the images of its input.

    Raises:
        RequestError: the request does not follow the protocol.
    """
    length = len(body)
    if header_length is not None:
        if not (header_length.isascii() and header_length.isdecimal()) or int(header_length[:20]) > len(body):
            raise _invalid("Inference-Header-Content-Length is not a number of bytes within the body.")
        length = int(header_length[:20])
        if length > _MAX_HEADER:
            raise _invalid(f"The JSON of the request is larger than {_MAX_HEADER} bytes.")
    try:
        header = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise _invalid("The body is not JSON of the Open Inference Protocol.") from error
    inputs = header.get("inputs") if isinstance(header, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _invalid(f"Give exactly one input, {INPUT!r}, of datatype BYTES.")
    return cast(Json, header), _read_images(cast(Json, inputs[0]), body[length:])


def _read_images(tensor: Json, binary: bytes) -> list[bytes]:
    if tensor.get("name") != INPUT or tensor.get("datatype") != "BYTES":
        raise _invalid(f"The input must have the name {INPUT!r} and the datatype BYTES; each element is an image file.")
    shape = tensor.get("shape")
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side <= 100_000 for side in shape):
        raise _invalid("The shape of the input must be a list of positive integers, such as [1].")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if any(name.startswith("shared_memory") for name in parameters or ()):
        raise _invalid("Shared memory is not supported: send the image in the request.")
    if size is None:
        images = _read_json_data(tensor.get("data"))
    elif size == len(binary):
        images = _read_binary_data(binary)
    else:
        raise _invalid("binary_data_size is not the number of bytes after the JSON.")
    if len(images) != int(np.prod(shape)):
        raise _invalid(f"The input has the shape {shape[:8]}, but {len(images)} elements.")
    return images


def _read_json_data(data: Any) -> list[bytes]:
    """Decode images that are base64 texts in a list, which may be nested."""
    while isinstance(data, list) and data and isinstance(data[0], list):
        data = [item for part in data if isinstance(part, list) for item in part]
    if not isinstance(data, list) or not data:
        raise _invalid("The input has no data: give binary data, or a list of images as base64 text.")
    try:
        return [base64.b64decode(item, validate=True) for item in data]
    except (binascii.Error, TypeError, ValueError) as error:
        raise _invalid("Images in JSON must be base64 text; better send them as binary data.") from error


def _read_binary_data(binary: bytes) -> list[bytes]:
    """Split elements that are each preceded by their length, 4 bytes, little-endian."""
    images: list[bytes] = []
    position = 0
    while position < len(binary):
        if position + 4 > len(binary):
            raise _invalid("The binary data end within a length.")
        (length,) = struct.unpack_from("<I", binary, position)
        position += 4
        if position + length > len(binary):
            raise _invalid("The binary data end within an image.")
        images.append(binary[position : position + length])
        position += length
    return images


def _read_params(header: Json, service: PoseService) -> tuple[Json, float | None]:
    """Return the parameters of a request, and its timeout in seconds."""
    parameters = header.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _invalid("parameters must be an object.")
    texts: dict[str, str] = {}
    timeout: float | None = None
    for name, value in parameters.items():
        if name in _IGNORED:
            continue
        if name == "timeout":  # microseconds, as in Triton
            if not isinstance(value, int) or value < 0:
                raise _invalid("timeout must be a number of microseconds.")
            timeout = value / 1e6 or None
            continue
        texts[str(name)] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return parse_params(texts, service.options), timeout


def _requested_outputs(header: Json, model: LoadedModel) -> dict[str, bool]:
    """Return the names of the requested outputs, and whether each is sent as binary data."""
    known = _output_shapes(model)
    parameters = header.get("parameters")
    binary = bool(parameters.get("binary_data_output")) if isinstance(parameters, dict) else False
    outputs = header.get("outputs")
    if not outputs:
        return dict.fromkeys(known, binary)
    requested: dict[str, bool] = {}
    for output in outputs if isinstance(outputs, list) else [{}]:
        output = cast(Json, output if isinstance(output, dict) else {})
        name = output.get("name")
        if name not in known:
            raise _invalid(f"The outputs are {', '.join(known)}.")
        own = output["parameters"] if isinstance(output.get("parameters"), dict) else {}
        if any(key.startswith("shared_memory") or key == "classification" for key in own):
            raise _invalid("Shared memory and classification are not supported for outputs.")
        requested[name] = bool(own.get("binary_data", binary))
    return requested


# -- responses ----------------------------------------------------------------------------------------------------


def _make_response(
    model: LoadedModel, header: Json, outputs: dict[str, bool], predictions: Sequence[Prediction]
) -> Response:
    arrays = output_arrays(model, [prediction.results for prediction in predictions])
    tensors: list[Json] = []
    parts: list[bytes] = []
    for name, binary in outputs.items():
        array = arrays[name]
        datatype = _TYPES.get(name, "BYTES")
        shape = [len(array)] if isinstance(array, list) else list(array.shape)
        tensor: Json = {"name": name, "datatype": datatype, "shape": shape}
        if binary:
            parts.append(_to_binary(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = [item.decode() for item in array] if isinstance(array, list) else array.ravel().tolist()
        tensors.append(tensor)
    values: Json = {"model_name": model.name, "model_version": str(model.version), "outputs": tensors}
    if isinstance(header.get("id"), str):
        values["id"] = header["id"][:200]
    response = json_response(values)
    if not parts:
        return response
    length = len(response.body)
    headers = {"inference-header-content-length": str(length)}
    return Response(bytes(response.body) + b"".join(parts), 200, headers, "application/octet-stream")


def output_arrays(model: LoadedModel, results: Sequence[Results]) -> dict[str, npt.NDArray[Any] | list[bytes]]:
    """Return the outputs for several images; their detections follow each other.

    Args:
        model: the model.
        results: one result per image.
    """
    boxes = np.concatenate([to_numpy(cast(Any, result.boxes).data) for result in results])
    points = np.concatenate([to_numpy(cast(Any, result.keypoints).data) for result in results])
    poses = [json.dumps(list_poses(result, model), separators=(",", ":")).encode() for result in results]
    return {
        "num_detections": np.array([len(result) for result in results], dtype=np.int32),
        "boxes": boxes[:, :4].astype(np.float32),
        "scores": boxes[:, 4].astype(np.float32),
        "classes": boxes[:, 5].astype(np.int64),
        "keypoints": points.astype(np.float32),
        "poses": poses,
    }


def _to_binary(array: npt.NDArray[Any] | list[bytes]) -> bytes:
    if isinstance(array, list):
        return b"".join(struct.pack("<I", len(item)) + item for item in array)
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes()
