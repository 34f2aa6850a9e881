"""Options of `yolo serve` and `yolo triton`; see `options.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolopose.config.options import DeviceSpec, ImageSize, OptionValues, option


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class ServedModelOptions(OptionValues):
    """Models of the server, and defaults of requests."""

    model: str | None = option(
        None, "weights or exported file; several as NAME=FILE,NAME=FILE; without NAME=, the name of the file"
    )
    device: DeviceSpec = option(None, "device: cpu, 0, mps; the best available one by default")
    half: bool = option(False, "compute in 16 bits where the device is faster with it")
    runtime: str | None = option(
        None,
        "runtime for weights: auto converts them once to the fastest installed one; torch by default",
        choices=(None, "auto", "openvino", "onnx", "torch"),
    )
    end2end: bool | None = option(
        None, "True: use the NMS-free output of a YOLO26 network instead of NMS over all anchors"
    )
    detector: str | None = option(
        None,
        "for top-down networks (rtmpose-m): model that finds the instances, or image if one instance fills each image",
    )
    imgsz: ImageSize | None = option(
        None, "default input size of requests; that of the network by default", low=1, high=100_000
    )
    conf: float | None = option(None, "default confidence threshold of requests, 0.25 by default", low=0, high=1)
    iou: float = option(0.7, "default IoU threshold of NMS", low=0, high=1)
    max_det: int = option(300, "maximum number of detections per image; requests may lower it", low=1, high=30_000)
    classes: int | Sequence[int] | None = option(None, "default class indices to keep", low=0)
    agnostic_nms: bool = option(False, "NMS across classes")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class ServerLimitOptions(OptionValues):
    """Batching and limits of the server."""

    batch: int = option(8, "largest number of images that are computed together", low=1, high=1024)
    max_delay_ms: float = option(
        5.0, "longest time that a batch waits for images that are being decoded, milliseconds", low=0, high=10_000
    )
    queue: int = option(64, "images that wait for a model; further requests are answered with 429", low=1, high=100_000)
    timeout: float = option(
        30.0, "seconds until a request that is not computed is answered with 504", low=0.01, high=3600
    )
    max_body_mb: float = option(16.0, "largest body of a request, MiB", low=0.001, high=1024)
    max_megapixels: float = option(50.0, "largest image, million pixels", low=0.001, high=1000)
    max_imgsz: int = option(1280, "largest imgsz of a request", low=32, high=100_000)
    connections: int = option(1000, "open connections; further ones are closed with 503", low=1, high=100_000)
    streams: int = option(16, "open WebSocket streams", low=0, high=10_000)
    read_timeout: float = option(
        20.0, "seconds within which a client must send its request and read its response", low=0.1, high=3600
    )
    drain: float = option(30.0, "seconds that running requests get after SIGTERM", low=0, high=3600)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ServeOptions(ServerLimitOptions, ServedModelOptions):
    """Options of `serve`: an HTTP server for one or several models."""

    host: str = option("127.0.0.1", "address to listen on; others than this computer need an API key")
    port: int = option(8000, "port to listen on; 0 for a free one", low=0, high=65535)
    api_key_file: str | None = option(
        None, "file with the API keys of clients, one a line; or the variable YOLOPOSE_API_KEY"
    )
    admin_key_file: str | None = option(
        None, "file with the keys of administrators, who may replace models; or the variable YOLOPOSE_ADMIN_KEY"
    )
    insecure: bool = option(False, "listen on other addresses than this computer without an API key")
    hosts: str | None = option(
        None, "names under which the server is reached without an API key, separated by commas; localhost by default"
    )
    origins: str | None = option(
        None, "origins of other web pages that may use the server, such as https://example.org, separated by commas"
    )
    tracker: str = option("oks", "default tracker of streams: oks, bytetrack, ocsort or botsort")
    page: bool = option(True, "serve the page at / and the documentation at /docs")
    verbose: bool = option(True, "print a line for each request")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TritonOptions(OptionValues):
    """Options of `triton`: write a model repository for NVIDIA Triton Inference Server."""

    model: str | None = option(None, "ONNX file")
    output: str = option("model_repository", "folder of the repository; other models in it stay unchanged")
    name: str | None = option(None, "name of the model; that of the file by default")
    batch: int = option(8, "largest batch of Triton's dynamic batching", low=1, high=1024)
    max_delay_ms: float = option(5.0, "longest time that a batch waits for further images, milliseconds", low=0)
    instances: int = option(1, "instances of the network", low=1, high=64)
    device: str = option("cpu", "where the network runs: cpu or gpu", choices=("cpu", "gpu"))
