"""Scores of repeated trainings and of cross-validation: mean, spread, and the out-of-fold predictions as one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER
from yolopose.data.image_ids import image_ids, relative_names
from yolopose.evaluate.console import detail_lines, pixel_lines, table_head, table_rows
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page import write_report
from yolopose.evaluate.predictions import PREDICTIONS_FILE
from yolopose.evaluate.record import RECORD_FILE, RunRecord, column_types, load_record, run_spec
from yolopose.results.tables import to_csv

_INDEX_OF = {"det_image": "image", "gt_image": "image", "pair_gt": "gt", "pair_det": "det", "stored_det": "det"}
"""Columns that hold row indices, and the prefix of the columns that they index."""
_LISTED = ("metrics/mAP50-95(B)", "metrics/mAP50-95(P)", "metrics/mAP50(P)", "pixels/mean", "pixels/PCK@5px")


class FoldMetrics(PoseMetrics):
    """Scores of a cross-validation.

    As `PoseMetrics`, they are those of the out-of-fold predictions: each image is predicted by the network that was not
    trained on it.

    Attributes:
        rows: one dictionary per training: `repeat`, `fold`, `seed`, `images`, and the scores of `results_dict`.
    """

    rows: Sequence[Mapping[str, float]] = ()

    @property
    def mean(self) -> dict[str, float]:
        """Mean of each score over the trainings."""
        return {key: float(np.mean(self._values(key))) for key in self._keys}

    @property
    def std(self) -> dict[str, float]:
        """Standard deviation (n - 1) of each score over the trainings; NaN for one training."""
        return {
            key: float(np.std(values, ddof=1)) if len(values := self._values(key)) > 1 else float("nan")
            for key in self._keys
        }

    @property
    def _keys(self) -> list[str]:
        return [key for key in self.rows[0] if "/" in key or key == "fitness"] if self.rows else []

    def _values(self, key: str) -> list[float]:
        return [float(row.get(key, float("nan"))) for row in self.rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRun:
    """A finished training of a cross-validation.

    Attributes:
        repeat: number of the repetition, from 1.
        fold: number of the fold, from 1.
        seed: random seed of the training.
        folder: its run folder, with the record of its validation.
    """

    repeat: int
    fold: int
    seed: int
    folder: Path


def join_records(records: Sequence[RunRecord]) -> RunRecord:
    """Join the records of runs on different images of one data set.

    Raises:
        DataError: the runs have different classes or keypoints, or an image in common.
    """
    specs = {json.dumps(record.run_info["spec"], sort_keys=True) for record in records}
    names = tuple(name for record in records for name in record.image_names)
    if len(specs) > 1 or len(set(names)) < len(names):
        raise DataError("Runs can be joined only if they have the same classes and keypoints and no image in common.")
    arrays: dict[str, Any] = {}
    starts = {"image": 0, "gt": 0, "det": 0}
    parts: dict[str, list[Any]] = {name: [] for name in column_types()}
    for record in records:
        for name in parts:
            column = getattr(record, name)
            parts[name].append(column + starts[_INDEX_OF[name]] if name in _INDEX_OF else column)
        starts["image"] += len(record.image_names)
        starts["gt"] += len(record.gt_class)
        starts["det"] += len(record.det_score)
    for name, (dtype, _) in column_types().items():
        arrays[name] = np.concatenate(parts[name]).astype(dtype)
    infos = [record.run_info for record in records]
    info = {
        **infos[0],
        "split": "out-of-fold" if len(records) > 1 else infos[0]["split"],
        "refused": sum(int(item["refused"]) for item in infos),
        "refused_names": sorted({name for item in infos for name in item["refused_names"]})[:5],
    }
    info.pop("coco", None)
    return RunRecord(image_names=names, run_info=info, **arrays)


def collect_folds(runs: Sequence[FoldRun], folder: Path, data: str, *, plots: bool) -> FoldMetrics:
    """Join the predictions of all folds and write tables and report.

    `folder` gets `folds.csv` (scores of each training, mean and standard deviation), `keypoints.csv`, and, of the
    out-of-fold predictions, `detections.npz`, `predictions.json` and `report.html`; those of further repetitions are in
    `repeat2`, ….

    Args:
        runs: the finished trainings.
        folder: the run folder.
        data: name of the data set, for the report.
        plots: draw the curves and write the report.

    Returns:
        The metrics of the first repetition, with the scores of all trainings.

    Raises:
        OutputError: a file cannot be written.
    """
    rows: list[dict[str, float]] = []
    results: list[FoldMetrics] = []
    for repeat in sorted({run.repeat for run in runs}):
        members = [run for run in runs if run.repeat == repeat]
        records = [load_record(run.folder) for run in members]
        for run, record in zip(members, records, strict=True):
            metrics = _metrics(record)
            counts = {"repeat": run.repeat, "fold": run.fold, "seed": run.seed, "images": len(record.image_names)}
            rows.append({**counts, **metrics.results_dict})
        joined = join_records(records)
        joined = replace(joined, run_info={**joined.run_info, "data": data})
        target = folder if repeat == 1 else folder / f"repeat{repeat}"
        target.mkdir(exist_ok=True)
        metrics = FoldMetrics(dict(enumerate(joined.run_info["names"])))
        metrics.set_record(joined, run_spec(joined))
        metrics.save_dir = target
        joined.save(target / RECORD_FILE)
        _join_predictions(members, records, target / PREDICTIONS_FILE)
        write_text(target / "keypoints.csv", metrics.keypoints.to_csv())
        if plots:
            metrics.plot_curves(target)
            write_report(metrics, target)
        results.append(metrics)
    first = results[0]
    for metrics in results:
        metrics.rows = rows
    write_text(folder / "folds.csv", _table(first))
    _log(first, len(runs), len(results))
    return first


def _metrics(record: RunRecord) -> PoseMetrics:
    metrics = PoseMetrics(dict(enumerate(record.run_info["names"])))
    metrics.set_record(record, run_spec(record))
    return metrics


def _join_predictions(runs: Sequence[FoldRun], records: Sequence[RunRecord], target: Path) -> None:
    """Join the COCO predictions of the folds; ids of images are those of all images together."""
    files = [[Path(record.run_info["root"]) / name for name in record.image_names] for record in records]
    everything = [file for members in files for file in members]
    ids, names = image_ids(everything), relative_names(everything)
    rows: list[dict[str, Any]] = []
    for run, members in zip(runs, files, strict=True):
        path = run.folder / PREDICTIONS_FILE
        if not path.is_file():
            continue
        by_id = {image_id: file for file, image_id in image_ids(members).items()}
        for row in json.loads(path.read_text(encoding="utf-8")):
            file = by_id.get(row["image_id"])
            if file is not None:
                rows.append({**row, "image_id": ids[file], "file_name": names[file]})
    write_text(target, json.dumps(rows, separators=(",", ":")))


def _table(metrics: FoldMetrics) -> str:
    """Return the scores of the trainings, their mean and standard deviation, and the out-of-fold scores as CSV."""
    header = list(metrics.rows[0])
    rows: list[dict[str, Any]] = [dict(row) for row in metrics.rows]
    rows += [
        {"repeat": "mean", **metrics.mean},
        {"repeat": "std", **metrics.std},
        {"repeat": "out-of-fold", "images": len(metrics.record.image_names), **metrics.results_dict},
    ]
    return to_csv([{key: row.get(key, "") for key in header} for row in rows], header)


def _log(metrics: FoldMetrics, trainings: int, repeats: int) -> None:
    mean, std, joined = metrics.mean, metrics.std, metrics.results_dict
    LOGGER.info(f"Scores of {trainings} trainings (mean ± standard deviation), and of all predictions together:")
    for key in _LISTED:
        if key in mean:
            interval = metrics.intervals.get(key.removeprefix("metrics/"))
            span = f" ({interval.low:.3f} to {interval.high:.3f})" if interval else ""
            LOGGER.info(f"  {key:<22} {mean[key]:.3f} ± {std[key]:.3f}   together {joined[key]:.3f}{span}")
    if repeats > 1:
        LOGGER.info("Values together are those of the first repetition; the others are in repeat2, ….")
    lines = [table_head(), *table_rows(metrics, len(metrics.record.image_names)), *pixel_lines(metrics)]
    for line in [*lines, *detail_lines(metrics)]:
        LOGGER.info(line)
