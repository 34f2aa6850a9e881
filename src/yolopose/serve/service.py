"""Prediction for all interfaces of the server: admission, decoding, batching, deadlines, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from yolopose._version import __version__
from yolopose.base.cpu import available_cpus
from yolopose.base.errors import UsageError
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.serve.batching import Batcher
from yolopose.serve.errors import RequestError
from yolopose.serve.models import (
    Job,
    LoadedModel,
    ModelStore,
    OpenRuntime,
    PredictParams,
    default_params,
    open_runtime,
    with_params,
)

if TYPE_CHECKING:
    from yolopose.config import ServeOptions

T = TypeVar("T")
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one image.

    Attributes:
        model: the model that computed it.
        results: boxes and keypoints in pixels of the image.
        times: milliseconds: decode, queue, inference, postprocess, total.
    """

    model: LoadedModel
    results: Results
    times: dict[str, float]


class Metrics:
    """Counters of the server in the format of Prometheus.

    Args:
        service: what the gauges report.
    """

    def __init__(self, service: PoseService) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "yolopose_requests", "Requests by path and status.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "yolopose_request_seconds", "Duration of requests.", ["path"], buckets=_SECONDS, registry=self.registry
        )
        self.images = Counter("yolopose_images", "Computed images.", ["model"], registry=self.registry)
        self.phases = Histogram(
            "yolopose_phase_seconds",
            "Time of an image in each phase.",
            ["model", "phase"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batches = Histogram(
            "yolopose_batch_images", "Images in a batch.", ["model"], buckets=_IMAGES, registry=self.registry
        )
        self.streams = Gauge("yolopose_streams", "Open WebSocket streams.", registry=self.registry)
        self._waiting = Gauge(
            "yolopose_waiting_images", "Images that wait for a model.", ["model"], registry=self.registry
        )
        self._versions = Gauge(
            "yolopose_model_version", "Number of times that a model was loaded.", ["model"], registry=self.registry
        )
        Gauge("yolopose_info", "Version of the server.", ["version"], registry=self.registry).labels(__version__).set(1)
        self._service = service

    def text(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        for name in self._service.store.names:
            self._waiting.labels(name).set(self._service.batcher.waiting(name))
            version = self._service.store.get(name).version if self._service.store.is_ready else 0
            self._versions.labels(name).set(version)
        return generate_latest(self.registry)


class PoseService:
    """All that the interfaces of the server share.

    Args:
        options: options of the server.
        open_file: opens a model file.

    Attributes:
        store: the models.
        batcher: their queues.
        metrics: counters.
        draining: whether the server is stopping: it still answers, but is not ready.
    """

    def __init__(self, options: ServeOptions, open_file: OpenRuntime = open_runtime) -> None:
        self.options = options
        self.store = ModelStore(options, open_file)
        for name in self.store.names:
            self.store.load(name)
        if options.detector is not None and not any(self.store.get(name).needs_boxes for name in self.store.names):
            raise UsageError(
                f"detector={options.detector} is for top-down networks, such as rtmpose-m; the models of this server "
                "find the instances themselves: omit detector=."
            )
        self.defaults(self.store.get())  # an impossible default is reported at the start
        slots = max(self.store.get(name).slots for name in self.store.names)
        self.metrics = Metrics(self)
        self.batcher = Batcher(
            options.batch, options.max_delay_ms / 1000, options.queue, slots, on_batch=self._count_batch
        )
        self.draining = False
        self._pool = ThreadPoolExecutor(available_cpus(), thread_name_prefix="yolopose-decode")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="yolopose-load")

    def _count_batch(self, model: LoadedModel, count: int) -> None:
        self.metrics.batches.labels(model.name).observe(count)

    def defaults(self, model: LoadedModel, values: dict[str, Any] | None = None) -> PredictParams:
        """Return the parameters of a request, with the defaults of the server for those not given."""
        return with_params(default_params(self.options, model), values or {}, model)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the threads that decode and draw."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    async def predict(
        self,
        model: LoadedModel,
        data: bytes,
        params: PredictParams,
        *,
        timeout: float | None = None,
        keep_image: bool = False,
    ) -> Prediction:
        """Compute one image.

        Args:
            model: the model.
            data: contents of the image file.
            params: parameters of the request.
            timeout: seconds until the request fails; that of the server by default.
            keep_image: whether the result holds the decoded pixels.

        Raises:
            RequestError: the image is not accepted, the queue is full, or the time is over.
            asyncio.CancelledError: the client has gone; the image is not computed if it was waiting.
        """
        limit = min(timeout or self.options.timeout, self.options.timeout)
        try:
            return await asyncio.wait_for(self._predict(model, data, params, keep_image), limit)
        except (asyncio.TimeoutError, TimeoutError):
            raise RequestError(
                504, "timeout", "The image was not computed in time. Try again later.", retry_after=1
            ) from None

    async def _predict(self, model: LoadedModel, data: bytes, params: PredictParams, keep_image: bool) -> Prediction:
        start = perf_counter()
        with self.batcher.admit(model.name):
            pixels, letterbox, image = await self.run(model.prepare, data, params)
            decoded = perf_counter()
            future: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
            job = Job(model, pixels, letterbox, params, data, future)
            if not keep_image:
                del image  # only the network input waits in the queue
            self.batcher.put(job)
        results = await future
        if keep_image:
            results.orig_img = image  # pyright: ignore[reportPossiblyUnboundVariable]
        times = {"decode": 1000 * (decoded - start), **job.times, "total": 1000 * (perf_counter() - start)}
        self.metrics.images.labels(model.name).inc()
        for phase, milliseconds in times.items():
            self.metrics.phases.labels(model.name, phase).observe(milliseconds / 1000)
        return Prediction(model, results, times)

    async def reload(self, name: str) -> LoadedModel:
        """Replace a model by the contents of its file; see `ModelStore.reload`."""
        return await self.store.reload(name, self._loader)

    async def reload_all(self) -> None:
        """Replace all models; those whose file cannot be used remain."""
        for name in self.store.names:
            try:
                await self.reload(name)
            except RequestError:  # logged by the store
                continue

    def close(self) -> None:
        """End all threads; waiting images are refused."""
        self.batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loader.shutdown(wait=False, cancel_futures=True)


def pose_values(prediction: Prediction) -> dict[str, Any]:
    """Return a result as plain values: poses with keypoints by name, in pixels of the image."""
    results = prediction.results
    height, width = results.orig_shape
    return {
        "model": prediction.model.name,
        "version": prediction.model.tag,
        "width": width,
        "height": height,
        "poses": list_poses(results, prediction.model),
        "time_ms": {phase: round(value, 2) for phase, value in prediction.times.items()},
    }


def list_poses(results: Results, model: LoadedModel) -> list[dict[str, Any]]:
    """Return the poses of an image as plain values."""
    spec = model.metadata.spec
    boxes, keypoints = results.boxes, results.keypoints
    assert boxes is not None and keypoints is not None  # noqa: S101, PT018  # both are always computed
    points = _rounded(keypoints.data)
    sigmas = None if keypoints.sigma is None else _rounded(keypoints.sigma)
    measured = None if results.raw_keypoints is None else _rounded(results.raw_keypoints.data)
    poses: list[dict[str, Any]] = []
    for index, (row, corners) in enumerate(zip(boxes.data.tolist(), _rounded(boxes.xyxy), strict=True)):
        class_id = int(row[-1])
        names = unique_names(spec.keypoints.keypoint_names(class_id))
        pose: dict[str, Any] = {
            "class": spec.names.get(class_id, f"class{class_id}"),
            "class_id": class_id,
            "confidence": round(row[-2], 5),
            "box": dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True)),
            "keypoints": _named(names, points[index]),
        }
        if boxes.is_track:
            pose["track_id"] = int(row[4])
        if measured is not None:
            pose["raw_keypoints"] = _named(names, measured[index])
        if sigmas is not None:
            for name, (sigma_x, sigma_y) in zip(names, sigmas[index], strict=True):
                pose["keypoints"][name] |= {"sigma_x": sigma_x, "sigma_y": sigma_y}
        poses.append(pose)
    return poses


def _rounded(values: Any) -> list[Any]:
    return np.round(to_numpy(values).astype(np.float64), 4).tolist()


def _named(names: tuple[str, ...], points: list[list[float]]) -> dict[str, dict[str, float]]:
    keys = ("x", "y", "confidence")
    return {name: dict(zip(keys, point, strict=False)) for name, point in zip(names, points, strict=True)}


def unique_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return keypoint names as keys: repeated ones get a number."""
    if len(set(names)) == len(names):
        return names
    unique: list[str] = []
    for name in names:
        key = name
        number = 1
        while key in unique:
            number += 1
            key = f"{name} {number}"
        unique.append(key)
    return tuple(unique)
