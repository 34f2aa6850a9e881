"""Models of the server: opening, computing batches, and replacing a model while requests are running."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import UsageError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.data.images import letterbox_batch
from yolopose.geometry import Letterbox
from yolopose.predict.batching import fit_size
from yolopose.results import Results
from yolopose.runtime.binding import BoxRuntime
from yolopose.runtime.nms import Detections, nms
from yolopose.runtime.protocol import Candidates, Runtime, get_replicas
from yolopose.runtime.replicas import ReplicaPool
from yolopose.schema import ModelMetadata
from yolopose.serve.errors import RequestError
from yolopose.serve.images import Image, ImageLimits, decode

if TYPE_CHECKING:
    from yolopose.config import ServeOptions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SUFFIX = re.compile(r"_(openvino|ncnn|mnn)_model$")
_SMALL = 64  # pixels, side of the image that is computed when a model is opened


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictParams:
    """Parameters of one request, checked and resolved for a model.

    Attributes:
        imgsz: (height, width) of the network input, multiples of the stride.
        classes: class indices to keep, or None for all.
    """

    conf: float
    iou: float
    max_det: int
    imgsz: tuple[int, int]
    classes: tuple[int, ...] | None = None
    agnostic: bool = False


@dataclass(slots=True, eq=False)
class Job:
    """One image that waits for a model.

    Attributes:
        model: the model as it was when the request arrived; replacing it does not affect the job.
        pixels: (C, height, width) uint8, the network input.
        letterbox: position of the image in it.
        params: parameters of the request.
        data: contents of the image file, decoded again where a drawing needs the pixels.
        future: receives the result; cancelling it removes the job from the queue. None for a job that is not queued.
        queued: time at which it was queued, `perf_counter`.
        times: milliseconds by phase.
    """

    model: LoadedModel
    pixels: Image
    letterbox: Letterbox
    params: PredictParams
    data: bytes
    future: asyncio.Future[Results] | None = None
    queued: float = field(default_factory=perf_counter)
    times: dict[str, float] = field(default_factory=dict[str, float])

    def fits(self, other: Job) -> bool:
        """Return whether both jobs can be in one batch: same model, input size and threshold of its detector."""
        if self.model is not other.model or self.letterbox.out != other.letterbox.out or self.is_done:
            return False
        return not self.model.needs_boxes or self.params.conf == other.params.conf

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or nobody waits for one."""
        return self.future is not None and self.future.done()


class LoadedModel:
    """A model in memory with its engine.

    Args:
        name: name of the model in requests.
        version: number of times that the name was loaded, from 1.
        digest: SHA-256 of the file.
        runtime: the engine.
        imgsz: default input size, (height, width).
        limits: largest images.

    Attributes:
        metadata: classes, keypoints, stride and sizes of the network.
        slots: number of images that are computed at the same time, each on its share of the cores.
        step: number of images in one call of the engine; None for the whole batch.
        needs_boxes: whether a detector finds the instances first.
    """

    def __init__(
        self, name: str, version: int, digest: str, runtime: Runtime, imgsz: tuple[int, int], limits: ImageLimits
    ) -> None:
        self.name = name
        self.version = version
        self.digest = digest
        self.metadata: ModelMetadata = runtime.metadata
        self.imgsz = imgsz
        self.needs_boxes = needs_boxes(runtime)
        self._runtime = runtime
        self._limits = limits
        on_cpu = runtime.device == "cpu"
        replicas = get_replicas(runtime, physical_cores()) if on_cpu else [runtime]
        self._pool = ReplicaPool(replicas)
        self.slots = len(replicas)
        # on a CPU, images of a batch take as long together as one after the other, and a replica computes on one core
        self.step = (self.metadata.batch or 1) if on_cpu and self.slots == physical_cores() else None

    @property
    def tag(self) -> str:
        """Short hash of the file, for responses."""
        return self.digest[:12]

    def resolve_imgsz(self, imgsz: tuple[int, int] | None) -> tuple[int, int]:
        """Return the input size of a request, rounded up to multiples of the stride; fixed where the file has one."""
        if not self.metadata.dynamic:
            return self.metadata.imgsz
        stride = self.metadata.stride
        height, width = imgsz or self.imgsz
        return -(-height // stride) * stride, -(-width // stride) * stride

    def prepare(self, data: bytes, params: PredictParams) -> tuple[Image, Letterbox, Image]:
        """Decode an image and letterbox it.

        Returns:
            (C, height, width) uint8 network input, its letterbox, and the image, (H, W, 3) BGR or (H, W, 4).

        Raises:
            RequestError: the image is not accepted.
        """
        metadata = self.metadata
        image = decode(data, self._limits, alpha=metadata.spec.channels == 4)
        letterbox = fit_size(
            (image.shape[0], image.shape[1]),
            params.imgsz,
            rect=metadata.dynamic,
            stride=metadata.stride,
            native_size=metadata.native_size,
        )
        return letterbox_batch([image], [letterbox], metadata.spec.channels)[0], letterbox, image

    def compute(self, jobs: Sequence[Job], all_cores: bool) -> list[Results]:
        """Compute jobs of one input size.

        Args:
            jobs: the images.
            all_cores: whether nothing else is computed at the same time.

        Returns:
            One result per job; `Job.times` have the phases.
        """
        if all_cores:
            return self._compute(self._runtime, jobs)
        with self._pool.acquire() as replica:
            return self._compute(replica, jobs)

    def predict(self, images: Sequence[bytes], params: PredictParams) -> list[Results]:
        """Compute image files in this thread, those of one input size together.

        Raises:
            RequestError: an image is not accepted.
        """
        jobs: list[Job] = []
        for data in images:
            pixels, letterbox, _ = self.prepare(data, params)
            jobs.append(Job(self, pixels, letterbox, params, data))
        results: dict[int, Results] = {}
        for size in {job.letterbox.out for job in jobs}:
            indices = [index for index, job in enumerate(jobs) if job.letterbox.out == size]
            batch = self.compute([jobs[index] for index in indices], all_cores=True)
            results |= dict(zip(indices, batch, strict=True))
        return [results[index] for index in range(len(jobs))]

    def _compute(self, runtime: Runtime, jobs: Sequence[Job]) -> list[Results]:
        start = perf_counter()
        batch = np.stack([job.pixels for job in jobs])
        candidates = runtime.infer(batch, conf=min(job.params.conf for job in jobs), classes=_common_classes(jobs))
        inferred = perf_counter()
        results: list[Results] = []
        for job, part in zip(jobs, _split(candidates, len(jobs)), strict=True):
            # the threshold of a top-down network is that of its boxes, which the detector has applied
            min_score = -np.inf if self.needs_boxes else job.params.conf
            results.append(self._result(job, _suppress(part, job.params, min_score)))
        seconds = perf_counter() - inferred
        for job in jobs:
            job.times["queue"] = 1000 * (start - job.queued)
            job.times["inference"] = 1000 * (inferred - start) / len(jobs)
            job.times["postprocess"] = 1000 * seconds / len(jobs)
        return results

    def _result(self, job: Job, detections: Detections) -> Results:
        spec = self.metadata.spec
        boxes = job.letterbox.boxes_to_source(detections.boxes)
        points = job.letterbox.points_to_source(detections.points)
        sigmas = None if detections.sigmas is None else job.letterbox.lengths_to_source(detections.sigmas)
        rows = np.column_stack((boxes, detections.scores, detections.classes)).astype(np.float32)
        return Results(
            partial(decode, job.data, self._limits),  # the pixels are needed only for a drawing
            "image",
            spec.names,
            orig_shape=job.letterbox.source,
            boxes=rows,
            keypoints=points.astype(np.float32),
            schema=spec.keypoints,
            sigmas=sigmas,
            visible=detections.visible,
        )

    def warm_up(self) -> None:
        """Compute a black image on all replicas, so that a damaged engine is noticed before it is used."""
        side = max(_SMALL, self.metadata.stride)
        height, width = (side, side) if self.metadata.dynamic else self.metadata.imgsz
        pixels = np.zeros((1, self.metadata.spec.channels, height, width), dtype=np.uint8)
        self._runtime.infer(pixels, conf=0.5)
        with self._pool.acquire() as replica:
            replica.infer(pixels, conf=0.5)


def _common_classes(jobs: Sequence[Job]) -> tuple[int, ...] | None:
    classes = {job.params.classes for job in jobs}
    return classes.pop() if len(classes) == 1 else None


def _split(candidates: Candidates, count: int) -> Iterator[Candidates]:
    """Yield the candidates of each image of a batch."""
    bounds = np.searchsorted(candidates.batch_idx, np.arange(count + 1)).tolist()
    for start, stop in pairwise(bounds):
        yield _select(candidates, slice(start, stop))


def _select(candidates: Candidates, rows: Any) -> Candidates:
    return Candidates(
        boxes=candidates.boxes[rows],
        scores=candidates.scores[rows],
        classes=candidates.classes[rows],
        points=candidates.points[rows],
        batch_idx=np.zeros_like(candidates.batch_idx[rows]),
        nms_done=candidates.nms_done,
        sigmas=None if candidates.sigmas is None else candidates.sigmas[rows],
        visible=None if candidates.visible is None else candidates.visible[rows],
    )


def _suppress(candidates: Candidates, params: PredictParams, min_score: float) -> Detections:
    """Apply the parameters of a request to the candidates of its image with a score above `min_score`."""
    mask: npt.NDArray[np.bool_] = candidates.scores > min_score
    if params.classes is not None:
        mask &= np.isin(candidates.classes, np.array(params.classes))
    if not mask.all():
        candidates = _select(candidates, mask)
    (detections,) = nms(candidates, 1, iou=params.iou, max_det=params.max_det, agnostic=params.agnostic)
    return detections


# -- opening ------------------------------------------------------------------------------------------------------

OpenRuntime = Callable[[Path, "ServeOptions"], tuple[Runtime, tuple[int, int]]]
"""Opens a file; returns the engine and the default input size."""


def open_runtime(path: Path, options: ServeOptions) -> tuple[Runtime, tuple[int, int]]:
    """Open a weights file or an exported file.

    Raises:
        NotFoundError, WeightsError, UsageError, DependencyError: it cannot be used; see `YOLO`.
    """
    from yolopose.config import PredictOptions
    from yolopose.model import YOLO

    model = YOLO(path)
    common: dict[str, Any] = {
        "device": options.device,
        "half": options.half,
        "runtime": options.runtime,
        "end2end": options.end2end,
        "verbose": False,
    }
    runtime = model._runtime_for(PredictOptions(**common))
    if needs_boxes(runtime):
        if options.detector is None:
            raise UsageError(
                f"{path} estimates the pose inside given boxes. Name a network that finds the instances "
                "(detector=yolo11n-pose.pt, or any other model that yolopose runs), or use detector=image if one "
                "instance fills each image."
            )
        runtime = model._runtime_for(PredictOptions(**common, detector=options.detector))
    sides = options.imgsz if options.imgsz is not None else model.overrides.get("imgsz", runtime.metadata.imgsz)
    sides = [sides] if isinstance(sides, int) else list(sides)
    return runtime, (sides[0], sides[-1])


def needs_boxes(runtime: Runtime) -> bool:
    """Return whether an engine estimates poses in the boxes of a detector (top-down)."""
    return isinstance(runtime, BoxRuntime) and runtime.needs_boxes


def parse_models(text: str | None) -> dict[str, Path]:
    """Return the files of the option `model` by name: `a.onnx`, `person=a.onnx,mouse=b.onnx`.

    Raises:
        UsageError: there is none, a name is impossible, or two models have the same one.
    """
    if not text:
        raise UsageError("A server needs a model: yolo serve model=yolo11n-pose.onnx.")
    files: dict[str, Path] = {}
    for entry in text.strip("[]").split(","):
        name, sign, file = (part.strip().strip("'\"") for part in entry.partition("="))
        path = Path(file if sign else name)
        name = name if sign else _SUFFIX.sub("", path.stem if path.suffix else path.name)
        if not sign:
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not possible as the name of a model: use letters, digits, '.', '_' and '-'.")
        if name in files:
            raise UsageError(f"Two models have the name {name!r}: give names, as in model=first={path},second={path}.")
        files[name] = path
    return files


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder with their names."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            total.update(file.name.encode() if path.is_dir() else b"")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    return total.hexdigest()


class ModelStore:
    """The models of the server by name.

    Args:
        options: options of the server.
        open_file: opens a file.
    """

    def __init__(self, options: ServeOptions, open_file: OpenRuntime = open_runtime) -> None:
        self._options = options
        self._open_file = open_file
        self._files = parse_models(options.model)
        self._limits = ImageLimits(round(options.max_megapixels * 1e6))
        self._models: dict[str, LoadedModel] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def names(self) -> list[str]:
        """Names of the models; the first is the default."""
        return list(self._files)

    @property
    def is_ready(self) -> bool:
        """Whether all models are loaded."""
        return len(self._models) == len(self._files)

    def get(self, name: str | None = None) -> LoadedModel:
        """Return a loaded model, by default the first.

        Raises:
            RequestError: the model is unknown or not loaded yet.
        """
        name = self.names[0] if name is None else name
        if name not in self._files:
            raise RequestError(404, "unknown_model", f"Unknown model. The models are: {', '.join(self.names)}.")
        if name not in self._models:
            raise RequestError(503, "not_ready", "The model is being loaded.", retry_after=1)
        return self._models[name]

    def load(self, name: str) -> LoadedModel:
        """Load a model from its file; the previous one remains in use until this succeeds.

        Raises:
            YoloposeError: the file cannot be used.
        """
        path = self._files[name]
        previous = self._models.get(name)
        runtime, imgsz = self._open_file(path, self._options)
        digest = file_digest(path) if path.exists() else ""
        version = previous.version + 1 if previous else 1
        model = LoadedModel(name, version, digest, runtime, imgsz, self._limits)
        model.warm_up()
        self._models[name] = model
        return model

    async def reload(self, name: str, executor: Executor) -> LoadedModel:
        """Replace a model by the contents of its file, without interrupting requests.

        Raises:
            RequestError: the model is unknown, or the file cannot be used.
        """
        if name not in self._files:
            raise RequestError(404, "unknown_model", f"Unknown model. The models are: {', '.join(self.names)}.")
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                model = await asyncio.get_running_loop().run_in_executor(executor, self.load, name)
            except Exception as error:  # engines raise errors of any type
                message = str(error) if isinstance(error, YoloposeError) else f"{type(error).__name__}: {error}"
                LOGGER.error(f"The model {name} was not replaced: {message}")
                raise RequestError(
                    422, "not_replaced", f"The file of {name} cannot be used; the previous model continues to answer."
                ) from error
        LOGGER.info(f"Model {name}: version {model.version}, {model.tag}.")
        return model


def default_params(options: ServeOptions, model: LoadedModel) -> PredictParams:
    """Return the parameters of a request that has none."""
    from yolopose.config import PREDICT_CONF, parse_classes

    return PredictParams(
        conf=PREDICT_CONF if options.conf is None else options.conf,
        iou=options.iou,
        max_det=options.max_det,
        imgsz=model.resolve_imgsz(None),
        classes=parse_classes(options.classes, model.metadata.spec.names),
        agnostic=options.agnostic_nms,
    )


def with_params(params: PredictParams, values: dict[str, Any], model: LoadedModel) -> PredictParams:
    """Return parameters with the values of a request.

    Raises:
        RequestError: the model does not have the class.
    """
    from yolopose.config import parse_classes

    try:
        values["classes"] = parse_classes(values.get("classes", params.classes), model.metadata.spec.names)
    except UsageError as error:
        raise RequestError(400, "parameter", str(error)) from error
    if "imgsz" in values:
        sides = values.pop("imgsz")
        sides = [sides] if isinstance(sides, int) else list(sides)
        values["imgsz"] = model.resolve_imgsz((sides[0], sides[-1]))
    return replace(params, **values)
