"""`benchmark`: a network in every format that this machine can write and run, each measured in the same way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from yolopose.base.errors import ExportError, UsageError, YoloposeError
from yolopose.base.files import make_run_folder
from yolopose.base.log import LOGGER, quiet
from yolopose.base.settings import load_settings
from yolopose.config import BenchmarkOptions, ExportOptions, ValOptions
from yolopose.data import load_dataset, read_image
from yolopose.data.dataset import Split
from yolopose.data.images import letterbox_batch
from yolopose.evaluate import validate
from yolopose.formats import Format, formats, get_format, open_runtime
from yolopose.geometry import Letterbox
from yolopose.model.benchmark_table import Benchmark, Row, line, title
from yolopose.runtime import Runtime
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.nn import PoseModel

_WARM, _TIMED = 3, 15
_CONF = 0.001  # of measuring; a file with suppression inside must keep as much
_SHOWN_CONF = 0.25  # of timing, as in prediction


def benchmark(network: PoseModel, metadata: ModelMetadata | None, options: BenchmarkOptions, stem: str) -> Benchmark:
    """Export, opens, times and measures a network in each format; see `YOLO.benchmark`.

    Args:
        network: the network.
        metadata: the record that came with its weights.
        options: which formats, numbers and input size, and the data YAML to measure on.
        stem: name of the files, without suffix.

    Raises:
        UsageError: there is no such format, or no data set is known.
        DataError: the data set cannot be used.
        ExportError: `verbose` is a number, and the accuracy of a format is below it.
        OutputError: the run folder cannot be written.
    """
    from yolopose.formats.pytorch import TorchRuntime

    rows = [get_format(options.format)] if options.format else [row for row in formats() if row.info.exportable]
    known = metadata or network.default_metadata()
    split: Split = options.split  # type: ignore[assignment]  # one of its choices
    if options.data is None:
        raise UsageError(
            "A benchmark needs labeled images: give data=coco8-pose.yaml or your own data YAML (these weights do "
            "not remember one)."
        )
    img = load_dataset(options.data, download=None, splits=[split]).image_files(split)[0]
    parent = Path(options.project) if options.project else Path(load_settings().runs_dir) / "pose"
    folder = make_run_folder(parent, options.name or "benchmark", options.exist_ok)
    task = _Task(network, known, options, folder / stem, options.data, img)
    table = Benchmark(folder)
    LOGGER.info(title())
    table.rows.append(task.measured(Row("PyTorch", "pytorch"), TorchRuntime(network, options.device, False, known)))
    LOGGER.info(line(table.rows[0]))
    for row in rows:
        table.rows.append(task.of_format(row))
        LOGGER.info(line(table.rows[-1]))
    table.write(options.plots)
    LOGGER.info(f"Results saved to {folder}")
    _require(table, options.verbose)
    return table


@dataclass(frozen=True, slots=True)
class _Task:
    """What is the same for all formats."""

    network: PoseModel
    metadata: ModelMetadata
    options: BenchmarkOptions
    stem: Path
    data: str
    image: Path

    def of_format(self, row: Format) -> Row:
        """The row of one format; whatever its converter or engine meets stands in it, and the next one begins."""
        from yolopose.formats.exporting import write_network

        found = Row(row.info.title, row.info.name)
        try:
            with quiet():
                written = write_network(
                    self.network, self.metadata, self._export(row), self.stem, read_image(self.image), self.data
                )
            found = replace(found, megabytes=written.megabytes, seconds=written.seconds, agreement=written.agreement)
            return self.measured(found, open_runtime(written.path, device=self.options.device))
        except Exception as error:  # whatever the libraries of a format raise
            return replace(found, note=_in_short(error))

    def measured(self, row: Row, runtime: Runtime) -> Row:
        """The row with accuracy and time."""
        with quiet():
            metrics = validate(runtime, self._protocol())
        seconds = self._seconds(runtime)
        return replace(row, box=float(metrics.box.map), pose=float(metrics.pose.map), milliseconds=1000 * seconds)

    def _export(self, row: Format) -> ExportOptions:
        options = self.options
        chosen = ExportOptions(format=row.info.name, imgsz=options.imgsz, half=options.half, int8=options.int8)
        if options.nms:
            chosen = replace(chosen, nms=True, conf=_CONF)
        if options.int8:  # images that are not measured on
            chosen = replace(chosen, data=self.data, split="train", fraction=options.fraction)
        return chosen

    def _protocol(self) -> ValOptions:
        """Square for all, since most formats take one size alone."""
        options = self.options
        return ValOptions(
            data=self.data, split=options.split, imgsz=options.imgsz, conf=_CONF, rect=False, plots=False,
            verbose=False, device=options.device,
        )  # fmt: skip

    def _seconds(self, runtime: Runtime) -> float:
        """Median time of the network for one image, threshold included."""
        image, about = read_image(self.image), runtime.metadata
        sides = (self.options.imgsz,) if isinstance(self.options.imgsz, int) else tuple(self.options.imgsz)
        wanted = -(-sides[0] // about.stride) * about.stride, -(-sides[-1] // about.stride) * about.stride
        fit = Letterbox.fit((image.shape[0], image.shape[1]), wanted if about.dynamic else about.imgsz)
        batch = letterbox_batch([image], [fit])

        def once() -> float:
            start = perf_counter()
            runtime.infer(batch, conf=_SHOWN_CONF)
            return perf_counter() - start

        return median([once() for _ in range(_WARM + _TIMED)][_WARM:])


def _in_short(error: Exception) -> str:
    """The first sentence of an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    short = text.split(". ")[0].rstrip(".")
    return short if isinstance(error, YoloposeError) else f"{type(error).__name__}: {short}"[:200]


def _require(table: Benchmark, least: bool | float) -> None:
    """Raise an error where the pose mAP50-95 of a format is below a number that `verbose` gives."""
    if least in (False, True):
        return
    low = [f"{row.title} {row.pose:.3f}" for row in table.rows if row.pose is not None and row.pose < least]
    if low:
        raise ExportError(f"Pose mAP50-95 is below verbose={least:g} for {', '.join(low)} (see {table.save_dir}).")
