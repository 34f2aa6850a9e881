"""OpenAPI description of the server, made from the option table; `/docs` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from yolopose._version import __version__
from yolopose.config import PREDICT_CONF, option_specs
from yolopose.serve.images import ACCEPTED
from yolopose.serve.web import PREDICT_PARAMS

if TYPE_CHECKING:
    from yolopose.config import OptionSpec, ServeOptions

Json = dict[str, Any]

_SCHEMAS: dict[str, Json] = {
    "conf": {"type": "number", "description": "confidence threshold"},
    "iou": {"type": "number", "description": "IoU threshold of NMS"},
    "max_det": {"type": "integer", "description": "maximum number of detections"},
    "imgsz": {
        "type": "string",
        "example": "640",
        "description": "side of the network input in pixels, or height,width; that of the network by default",
    },
    "classes": {"type": "string", "example": "0,2", "description": "class indices to keep; all by default"},
    "agnostic_nms": {"type": "boolean", "description": "NMS across classes"},
}
_ERRORS = {
    "400": "A parameter or the image is wrong.",
    "401": "The API key is missing or wrong.",
    "403": "The page of another web site sent the request.",
    "404": "The model is unknown.",
    "408": "The body was not received in time.",
    "413": "The body or the image is too large.",
    "415": "The body is not an image in an accepted format.",
    "429": "The queue is full; Retry-After has the seconds to wait.",
    "503": "The server is starting or stopping.",
    "504": "The image was not computed in time.",
}


def describe(options: ServeOptions, models: list[str], *, needs_key: bool) -> Json:
    """Return the description.

    Args:
        options: options of the server.
        models: names of the models.
        needs_key: whether an API key is required.
    """
    paths: Json = {
        "/predict": {"post": _predict(options, models)},
        "/models": {"get": _get("Models", "Names, classes, keypoints and versions of the models.", "Models")},
        "/healthz": {"get": _get("Liveness", "200 while the process runs.", "Health", free=True)},
        "/readyz": {
            "get": _get("Readiness", "200 when requests can be answered, 503 while stopping.", "Health", free=True)
        },
        "/metrics": {"get": _get("Metrics", "Counters in the text format of Prometheus.", "Health", kind="text/plain")},
        "/stream": {"get": _stream()},
        **_protocol(),
    }
    description: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "yolopose",
            "version": __version__,
            "description": f"Poses in images. Images are {ACCEPTED}, at most {options.max_megapixels:g} million pixels "
            f"and {options.max_body_mb:g} MiB.",
        },
        "paths": paths,
        "components": {"schemas": _components()},
    }
    if needs_key:
        schemes = {"bearer": {"type": "http", "scheme": "bearer"}}
        schemes["header"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
        description["components"]["securitySchemes"] = schemes
        description["security"] = [{"bearer": []}, {"header": []}]
    return description


def _schema(spec: OptionSpec, options: ServeOptions) -> Json:
    default = getattr(options, spec.name)
    if spec.name == "conf" and default is None:
        default = PREDICT_CONF
    schema = dict(_SCHEMAS[spec.name])
    if schema["type"] in ("number", "integer"):
        schema |= {key: limit for key, limit in (("minimum", spec.low), ("maximum", spec.high)) if limit is not None}
    if spec.name == "max_det":
        schema["maximum"] = options.max_det
    if default is not None:
        schema["default"] = default
    return schema


def _predict(options: ServeOptions, models: list[str]) -> Json:
    specs = option_specs("serve")
    schemas = {name: _schema(specs[name], options) for name in PREDICT_PARAMS}
    schemas |= {
        "model": {"type": "string", "enum": models, "default": models[0], "description": "name of the model"},
        "format": {
            "type": "string",
            "enum": ["json", "image"],
            "default": "json",
            "description": "poses as JSON, or the image with the poses drawn as JPEG",
        },
        "timeout": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": options.timeout,
            "default": options.timeout,
            "description": "seconds after which the request is answered with 504",
        },
    }
    parameters = [
        {"name": name, "in": "query", "required": False, "description": schema.pop("description"), "schema": schema}
        for name, schema in ((name, dict(schema)) for name, schema in schemas.items())
    ]
    image = {"schema": {"type": "string", "format": "binary"}}
    form = {"type": "object", "required": ["file"], "properties": {"file": image["schema"], **schemas}}
    content = {"multipart/form-data": {"schema": form}, "image/jpeg": image, "image/png": image, "image/webp": image}
    return {
        "summary": "Poses in an image",
        "description": "The body is the image itself, or a multipart form with one file; parameters are in the query "
        "or in fields of the form. Keypoints have names; coordinates are pixels of the image.",
        "operationId": "predict",
        "tags": ["Prediction"],
        "parameters": parameters,
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "Poses",
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}},
                    "image/jpeg": image,
                },
            },
            **_errors(*_ERRORS),
        },
    }


def _errors(*codes: str) -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {code: {"description": _ERRORS[code], "content": content} for code in codes}


def _get(summary: str, description: str, tag: str, *, kind: str = "application/json", free: bool = False) -> Json:
    operation: Json = {
        "summary": summary,
        "description": description,
        "operationId": summary.lower(),
        "tags": [tag],
        "responses": {"200": {"description": summary, "content": {kind: {"schema": {}}}}},
    }
    return {**operation, "security": []} if free else operation


def _stream() -> Json:
    return {
        "summary": "Poses in a stream of frames (WebSocket)",
        "description": "Send each frame as a binary message, the bytes of an image file; each is answered by a JSON "
        "text as from /predict, with frame, track_id and smoothed keypoints. A JSON text changes settings from the "
        'next frame on: {"conf": 0.3, "smooth": false, "track": true, "tracker": "oks", "model": "…", "time": seconds, '
        '"reset": true, "key": "API key"}.',
        "operationId": "stream",
        "tags": ["Prediction"],
        "responses": {"101": {"description": "The protocol is switched to WebSocket."}},
    }


def _protocol() -> Json:
    name: Json = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    metadata = _get("Model metadata", "Inputs, outputs and version.", "Open Inference Protocol v2")
    infer = {
        "summary": "Inference",
        "description": "Input: image, BYTES [n], each element an image file (binary extension, or base64 in JSON). "
        "Outputs: num_detections [n], boxes, scores, classes and keypoints of all images one after the other, and "
        "poses, JSON for each image.",
        "operationId": "infer",
        "tags": ["Open Inference Protocol v2"],
        "parameters": [name],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {"schema": {}}},
        },
        "responses": {
            "200": {"description": "Outputs", "content": {"application/json": {"schema": {"type": "object"}}}}
        },
    }
    load = {
        "summary": "Replace a model",
        "description": "Reads the file of the model again; needs the admin key. Running requests are not interrupted.",
        "operationId": "load",
        "tags": ["Open Inference Protocol v2"],
        "parameters": [name],
        "responses": {"200": {"description": "The new version", "content": {"application/json": {"schema": {}}}}},
    }
    return {
        "/v2/models/{model}": {"get": {**metadata, "operationId": "metadata", "parameters": [name]}},
        "/v2/models/{model}/infer": {"post": infer},
        "/v2/repository/models/{model}/load": {"post": load},
    }


def _components() -> Json:
    number: Json = {"type": "number"}
    point = {"type": "object", "properties": {"x": number, "y": number, "confidence": number}}
    pose = {
        "type": "object",
        "properties": {
            "class": {"type": "string"},
            "class_id": {"type": "integer"},
            "confidence": number,
            "box": {"type": "object", "properties": dict.fromkeys(("x1", "y1", "x2", "y2"), number)},
            "keypoints": {"type": "object", "additionalProperties": point},
            "track_id": {"type": "integer", "description": "in streams"},
        },
        "required": ["class", "class_id", "confidence", "box", "keypoints"],
    }
    times = ("decode", "queue", "inference", "postprocess", "total")
    prediction = {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string", "description": "start of the SHA-256 of the model file"},
            "width": {"type": "integer"},
            "height": {"type": "integer"},
            "poses": {"type": "array", "items": {"$ref": "#/components/schemas/Pose"}},
            "time_ms": {"type": "object", "properties": dict.fromkeys(times, number)},
        },
    }
    texts = {"type": "object", "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}
    return {"Pose": pose, "Prediction": prediction, "Error": {"type": "object", "properties": {"error": texts}}}
