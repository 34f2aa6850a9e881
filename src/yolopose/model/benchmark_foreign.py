"""`YOLO.benchmark` of a network of another package: accuracy and time on each engine that can run its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from time import perf_counter

from yolopose.base.errors import DependencyError, UsageError
from yolopose.base.log import LOGGER, quiet
from yolopose.config import PREDICT_CONF, VAL_CONF, BenchmarkOptions, ValOptions, run_location
from yolopose.data import load_dataset, read_image
from yolopose.data.dataset import Split
from yolopose.data.images import letterbox_batch
from yolopose.evaluate import validate
from yolopose.geometry import Letterbox
from yolopose.model.benchmark_table import Benchmark, BenchmarkRow, format_header, format_row
from yolopose.model.runtimes import RuntimeConfig
from yolopose.runtime import Runtime

_ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
_WARMUP_RUNS = 2
_TIMED_RUNS = 9


def benchmark_foreign(
    open_runtime: Callable[[RuntimeConfig], Runtime], name: str, options: BenchmarkOptions
) -> Benchmark:
    """Benchmark a network of another package.

    Args:
        open_runtime: opens it on an engine.
        name: as given to `YOLO`.
        options: engine (`format`: `onnx` or `openvino`), data set, `detector`.

    Raises:
        UsageError: no data set is given, or an option needs an export.
        DataError: the data set cannot be used.
    """
    if options.data is None:
        raise UsageError("A benchmark needs labeled images: give data=coco8-pose.yaml or your own data YAML.")
    if options.format not in ("", *_ENGINES) or options.half or options.int8 or options.nms:
        raise UsageError(
            f"{name} is run as it is, on format=onnx (ONNX Runtime) or format=openvino: omit half, int8, nms and other "
            "formats."
        )
    split: Split = options.split  # type: ignore[assignment]  # one of its choices
    image = read_image(load_dataset(options.data, download=None, splits=[split]).image_files(split)[0])
    table = Benchmark(run_location(options, "benchmark").create())
    LOGGER.info(format_header())
    for engine in [options.format] if options.format else _ENGINES:
        row = BenchmarkRow(_ENGINES[engine], engine)
        try:
            config = RuntimeConfig(device=str(options.device or ""), name=engine, detector=options.detector or "")
            row = _measure(row, open_runtime(config), options, letterbox_batch([image], [_identity(image.shape)]))
        except (DependencyError, UsageError) as error:
            row = replace(row, note=str(error).split(". ")[0])
            if options.format:
                raise
        table.rows.append(row)
        LOGGER.info(format_row(row))
    table.write(options.plots)
    LOGGER.info(f"Results saved to {table.save_dir}")
    return table


def _identity(shape: tuple[int, ...]) -> Letterbox:
    return Letterbox.fit((shape[0], shape[1]), (shape[0], shape[1]))


def _measure(row: BenchmarkRow, runtime: Runtime, options: BenchmarkOptions, batch: object) -> BenchmarkRow:
    """Return the row with accuracy, and the time of one image with its pre- and postprocessing."""
    settings = ValOptions(
        data=options.data, split=options.split, imgsz=list(runtime.metadata.imgsz), conf=VAL_CONF, plots=False,
        verbose=False,
    )  # fmt: skip
    with quiet():
        metrics = validate(runtime, settings)
    seconds: list[float] = []
    for _ in range(_WARMUP_RUNS + _TIMED_RUNS):
        start = perf_counter()
        runtime.infer(batch, conf=PREDICT_CONF)  # type: ignore[arg-type]  # uint8 (1, 3, H, W)
        seconds.append(perf_counter() - start)
    milliseconds = 1000 * median(seconds[_WARMUP_RUNS:])
    return replace(row, box=float(metrics.box.map), pose=float(metrics.pose.map), milliseconds=milliseconds)
