"""`YOLO.calibrate`: measure the confidences of a network, fit their calibration and write the calibrated weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.config import VAL_CONF, CalibrateOptions, ValOptions, run_location
from yolopose.evaluate import Validation, load_record, validate
from yolopose.evaluate.calibration import CalibrationResult, calibrate_record, plot_reliability, stored_keypoint_conf
from yolopose.evaluate.record import RunRecord, run_spec
from yolopose.formats.pytorch import TorchRuntime
from yolopose.results.tables import to_csv
from yolopose.schema import ModelMetadata
from yolopose.weights import make_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from yolopose.evaluate.metric import Float64
    from yolopose.nn import PoseModel


def calibrate(
    network: PoseModel,
    metadata: ModelMetadata,
    options: CalibrateOptions,
    name: str,
    train_args: dict[str, Any],
) -> CalibrationResult:
    """Fit the calibration of a network, and write tables, plot and weights.

    Args:
        network: the network; it is not changed.
        metadata: its metadata; an earlier calibration is replaced.
        options: data, split, method, ….
        name: name of the weights, for the file.
        train_args: training arguments, stored with the weights.

    Raises:
        UsageError: no data set is known, or the options contradict each other.
        DataError: the data set or run does not fit the network, or has too few detections.
        OutputError: a file cannot be written.
    """
    end2end = bool(options.end2end)
    output = None if options.output is None else Path(options.output)
    if output is not None and output.exists():
        raise UsageError(f"output={output} exists: name a new file.")
    if options.run is not None:
        record, keypoint_conf = _read_run(Path(options.run), metadata)
    else:
        record, keypoint_conf = _measure(network, replace(metadata, calibration=None), options)
    result = calibrate_record(
        record, keypoint_conf, method=options.method, conf=max(options.min_conf, VAL_CONF), end2end=end2end
    )
    folder = result.save_dir = run_location(options, "calibrate").create()
    write_text(folder / "calibration.csv", result.to_csv())
    bins = [{"Kind": part.kind, **row} for part in result.parts for row in result.reliability(part.kind)]
    write_text(folder / "reliability.csv", to_csv(bins, list(bins[0])))
    if options.plots:
        plot_reliability(result, folder / "reliability.png")
    result.weights = output or folder / f"{name}-calibrated.pt"
    write_checkpoint(
        result.weights,
        make_checkpoint(network, args=train_args, license=metadata.license, calibration=result.scale),
    )
    _log(result)
    return result


def _measure(
    network: PoseModel, metadata: ModelMetadata, options: CalibrateOptions
) -> tuple[RunRecord, Float64 | None]:
    """Validate the network without calibration; return the record and the confidences of all keypoints."""
    if not options.data:
        raise UsageError(
            "Calibration needs labeled images that the network was not trained on: give data= (a data YAML), or run= "
            "(the folder of a validation run, or of a training with folds=)."
        )
    runtime = TorchRuntime(network, options.device, False, replace(metadata, end2end=bool(options.end2end)))
    rows: list[Any] = []

    def keep(validation: Validation) -> None:
        damaged = validation.batch.damaged if validation.batch else ()
        rows.extend(item.points for index, item in enumerate(validation.detections) if index not in damaged)

    callbacks = Callbacks()
    callbacks.add("on_val_batch_end", keep)
    values = ValOptions(
        data=options.data,
        split=options.split,
        imgsz=options.imgsz,
        batch=options.batch,
        iou=options.iou,
        device=options.device,
        workers=options.workers,
        download=options.download,
        plots=False,
        verbose=options.verbose,
    )
    record = validate(runtime, values, callbacks=callbacks).record
    points = np.concatenate(rows) if rows else np.zeros((0, *metadata.spec.keypoints.shape))
    return record, points[..., 2].astype(np.float64) if points.shape[-1] == 3 else None


def _read_run(run: Path, metadata: ModelMetadata) -> tuple[RunRecord, Float64 | None]:
    record = load_record(run)
    spec = run_spec(record) if record.run_info else None
    if spec is None or spec.nc != metadata.spec.nc or spec.keypoints.shape != metadata.spec.keypoints.shape:
        raise DataError(
            f"The run in {run} has other classes or keypoints than this network: use a run of the same kind of network."
        )
    return record, stored_keypoint_conf(run if run.is_dir() else run.parent, record)


def _log(result: CalibrationResult) -> None:
    rows = result.summary(decimals=3)
    header = list(rows[0])
    widths = [max(len(str(row[name])) for row in [*rows, {name: name for name in header}]) for name in header]
    for row in [{name: name for name in header}, *rows]:
        LOGGER.info("  ".join(f"{row[name]!s:>{width}}" for name, width in zip(header, widths, strict=True)))
    for part in result.parts:
        before, after = result.ece_before[part.kind], result.ece[part.kind]
        if part.helps:
            LOGGER.info(
                f"Expected calibration error of {part.kind} confidences: {before:.3f} → {after:.3f}, by fits to other "
                "images."
            )
        else:
            LOGGER.info(
                f"The {part.kind} confidences stay as they are: the fit is not better on images that it did not use."
            )
    LOGGER.info(
        f"mAP is unchanged; thresholds such as conf=0.25 now have another meaning. Weights: {result.weights}. "
        "Predictions, validation and exports of these weights are calibrated."
    )
