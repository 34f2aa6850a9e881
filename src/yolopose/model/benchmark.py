"""`YOLO.benchmark`: export, validate and time a network in every format available on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from yolopose.base.errors import ExportError, UsageError, YoloposeError
from yolopose.base.log import LOGGER, quiet
from yolopose.config import (
    PREDICT_CONF,
    VAL_CONF,
    BenchmarkOptions,
    BenchmarkSettings,
    ExportOptions,
    ValOptions,
    benchmark_settings,
)
from yolopose.data import load_dataset, read_image
from yolopose.data.dataset import Split
from yolopose.data.images import letterbox_batch
from yolopose.evaluate import validate
from yolopose.formats import Format, formats, get_format, open_runtime
from yolopose.geometry import Letterbox
from yolopose.model.benchmark_table import Benchmark, BenchmarkRow, format_header, format_row
from yolopose.runtime import Runtime
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.nn import PoseModel

_WARMUP_RUNS = 3
_TIMED_RUNS = 15


def benchmark(network: PoseModel, metadata: ModelMetadata, options: BenchmarkOptions, stem: str) -> Benchmark:
    """Benchmark a network in each format; see `YOLO.benchmark`.

    Args:
        network: the network.
        metadata: its metadata.
        options: formats, precision, input size and data YAML.
        stem: name of the exported files, without suffix.

    Raises:
        UsageError: the format does not exist, or no data set is known.
        DataError: the data set cannot be used.
        ExportError: `verbose` is a number, and the accuracy of a format is below it.
        OutputError: the run folder cannot be written.
    """
    from yolopose.formats.pytorch import TorchRuntime

    settings = benchmark_settings(options, metadata)
    selected = [get_format(settings.format)] if settings.format else [row for row in formats() if row.info.exportable]
    split: Split = settings.split  # type: ignore[assignment]  # one of its choices
    if settings.data is None:
        raise UsageError(
            "A benchmark needs labeled images: give data=coco8-pose.yaml or your own data YAML (these weights do not "
            "store one)."
        )
    image = load_dataset(settings.data, download=None, splits=[split]).image_files(split)[0]
    folder = settings.run.create()
    runner = _Runner(network, metadata, settings, folder / stem, settings.data, image)
    table = Benchmark(folder)
    LOGGER.info(format_header())
    torch_runtime = TorchRuntime(network, settings.device, False, metadata)
    table.rows.append(runner.measure(BenchmarkRow("PyTorch", "pytorch"), torch_runtime))
    LOGGER.info(format_row(table.rows[0]))
    for row in selected:
        table.rows.append(runner.run_format(row))
        LOGGER.info(format_row(table.rows[-1]))
    table.write(settings.plots)
    LOGGER.info(f"Results saved to {folder}")
    _check_accuracy(table, settings.verbose)
    return table


@dataclass(frozen=True, slots=True)
class _Runner:
    """What the formats have in common."""

    network: PoseModel
    metadata: ModelMetadata
    settings: BenchmarkSettings
    stem: Path
    data: str
    image: Path

    def run_format(self, row: Format) -> BenchmarkRow:
        """Export and measure one format; any error becomes the note of its row."""
        from yolopose.formats.exporting import write_network

        result = BenchmarkRow(row.info.title, row.info.name)
        try:
            with quiet():
                exported = write_network(
                    self.network, self.metadata, self._export_options(row), self.stem, read_image(self.image), self.data
                )
            result = replace(
                result, megabytes=exported.megabytes, seconds=exported.seconds, agreement=exported.agreement
            )
            return self.measure(result, open_runtime(exported.path, device=self.settings.device))
        except Exception as error:  # converters and engines raise errors of every type
            return replace(result, note=_first_sentence(error))

    def measure(self, row: BenchmarkRow, runtime: Runtime) -> BenchmarkRow:
        """Return the row with accuracy and time."""
        with quiet():
            metrics = validate(runtime, self._val_options())
        milliseconds = 1000 * self._seconds_per_image(runtime)
        return replace(row, box=float(metrics.box.map), pose=float(metrics.pose.map), milliseconds=milliseconds)

    def _export_options(self, row: Format) -> ExportOptions:
        settings = self.settings
        options = ExportOptions(format=row.info.name, imgsz=settings.imgsz, half=settings.half, int8=settings.int8)
        if settings.nms:  # NMS inside the file must keep what validation counts
            options = replace(options, nms=True, conf=VAL_CONF)
        if settings.int8:  # calibrate on images that are not evaluated
            options = replace(options, data=self.data, split="train", fraction=settings.fraction)
        return options

    def _val_options(self) -> ValOptions:
        """Return options with square inputs, since most formats accept only one size."""
        settings = self.settings
        return ValOptions(
            data=self.data, split=settings.split, imgsz=settings.imgsz, conf=VAL_CONF, rect=False, plots=False,
            verbose=False, device=settings.device,
        )  # fmt: skip

    def _seconds_per_image(self, runtime: Runtime) -> float:
        """Return the median time of the network, including thresholding, for one image."""
        image = read_image(self.image)
        size = self.settings.imgsz if runtime.metadata.dynamic else runtime.metadata.imgsz
        batch = letterbox_batch(
            [image], [Letterbox.fit((image.shape[0], image.shape[1]), size)], runtime.metadata.spec.channels
        )

        def run_once() -> float:
            start = perf_counter()
            runtime.infer(batch, conf=PREDICT_CONF)
            return perf_counter() - start

        return median([run_once() for _ in range(_WARMUP_RUNS + _TIMED_RUNS)][_WARMUP_RUNS:])


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    sentence = text.split(". ")[0].rstrip(".")
    return sentence if isinstance(error, YoloposeError) else f"{type(error).__name__}: {sentence}"[:200]


def _check_accuracy(table: Benchmark, minimum: bool | float) -> None:
    """Raise an error where the pose mAP50-95 of a format is below `verbose`, if that is a number."""
    if minimum in (False, True):
        return
    low = [f"{row.title} {row.pose:.3f}" for row in table.rows if row.pose is not None and row.pose < minimum]
    if low:
        raise ExportError(f"Pose mAP50-95 is below verbose={minimum:g} for {', '.join(low)} (see {table.save_dir}).")
