"""`yolo doctor data=…`: examine a data set, compare its labels with a model, print, and write page and fixed copy."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER, quiet
from yolopose.base.progress import progress
from yolopose.config import DoctorOptions, run_location
from yolopose.data.dataset import load_dataset
from yolopose.data.doctor import (
    MIN_CONF,
    Detections,
    Finding,
    Report,
    SplitSurvey,
    Survey,
    add_vectors,
    find_disputes,
    run_checks,
    survey_dataset,
    write_fixed_copy,
)
from yolopose.tools.doctor_page import write_page

if TYPE_CHECKING:
    from yolopose.model import YOLO
    from yolopose.results import Results

PAGE_FILE = "doctor.html"
JSON_FILE = "doctor.json"
_SHOWN_EXAMPLES = 3
_COLORS = {"error": "red", "warning": "yellow", "notice": "cyan"}


def doctor(options: DoctorOptions) -> Report:
    """Examine a data set as the options ask; print the report and write its files.

    Args:
        options: `data` is the data YAML.

    Returns:
        The report; its `findings` have counts, examples and edits.

    Raises:
        UsageError: `data` is missing, or the model has other keypoints.
        NotFoundError: the data YAML does not exist.
        DataError: the data YAML cannot be read; with `strict`, an error was found.
        OutputError: a file cannot be written.
    """
    if options.data is None:
        raise UsageError("The doctor needs a data set: give data=my-data.yaml.")
    as_json = options.format == "json"
    with quiet() if as_json else nullcontext():
        dataset = load_dataset(options.data, download=options.download)
        side = options.imgsz if isinstance(options.imgsz, int) else max(options.imgsz)
        survey = survey_dataset(dataset, imgsz=side, workers=options.workers)
        if options.model:
            model = _open_model(survey, options)
            find_disputes(survey, _predict(survey, model, options))
            if model.is_own_network:
                add_vectors(survey, _embed(survey, model, options))
        report = run_checks(survey)
        if as_json:
            print(report.to_json())
        else:
            print_report(report, offer_fix=options.fix is None)
        if options.html:
            folder = run_location(options, "doctor").create()
            write_text(folder / JSON_FILE, report.to_json())
            LOGGER.info(f"Wrote {write_page(report, folder / PAGE_FILE, options.images)}")
        if options.fix:
            copy = write_fixed_copy(report, options.fix)
            LOGGER.info(f"Wrote a fixed copy with {copy.changes} changes: data={copy.yaml_path}")
    if options.strict and report.counts["error"]:
        raise DataError(f"{dataset.yaml_path}: the doctor reports {report.summary()} (strict=True allows no errors).")
    return report


def _open_model(survey: Survey, options: DoctorOptions) -> YOLO:
    """Open the model whose predictions are compared with the labels.

    Raises:
        UsageError: the keypoints of the model are not those of the data set.
    """
    from yolopose.model import YOLO  # loads torch for weights

    model = YOLO(str(options.model))
    count = survey.spec.keypoints.count
    if model.spec.keypoints.count != count:
        raise UsageError(
            f"{options.model} predicts {model.spec.keypoints.count} keypoints, but {options.data} has {count}: their "
            "labels cannot be compared. Give a model that was trained on this data set, or on one with its keypoints."
        )
    return model


def _predict(survey: Survey, model: YOLO, options: DoctorOptions) -> Iterator[tuple[SplitSurvey, int, Detections]]:
    """Yield the detections of each readable image."""
    count = survey.spec.keypoints.count
    for split in survey.distinct_splits:
        images = np.flatnonzero((split.sizes > 0).all(axis=1)).tolist()
        if not images:
            continue
        files = [str(split.files[image]) for image in images]
        results = model.predict(
            files, stream=True, conf=MIN_CONF, imgsz=options.imgsz, device=options.device, verbose=False
        )
        shown = progress(zip(images, results, strict=True), f"predicting {split.name}", len(images))
        for image, result in shown:
            if result.error is None:
                yield split, image, _detections(result, count)


def _embed(survey: Survey, model: YOLO, options: DoctorOptions) -> dict[str, npt.NDArray[np.float32]]:
    """Return the vectors of the images of each split; NaN for those that cannot be read."""
    from yolopose.predict.embedding import SIDE

    vectors: dict[str, npt.NDArray[np.float32]] = {}
    for split in survey.distinct_splits:
        images = np.flatnonzero((split.sizes > 0).all(axis=1)).tolist()
        files = [str(split.files[image]) for image in images]
        # an empty source is an error, and one unreadable image as well
        rows = model.embed(files, stream=True, imgsz=SIDE, device=options.device, verbose=False) if files else ()
        for image, row in zip(images, progress(rows, f"comparing {split.name}", len(images)), strict=True):
            if split.name not in vectors:
                vectors[split.name] = np.full((len(split.files), len(row)), np.nan, dtype=np.float32)
            vectors[split.name][image] = row.cpu().numpy()
    return vectors


def _detections(result: Results, count: int) -> Detections:
    host = result.cpu().numpy()
    boxes: Any = host.boxes
    number = len(boxes)
    points = np.zeros((number, count, 3), dtype=np.float64)
    if number:
        data: Any = host.keypoints.data
        points[..., 2] = 1.0
        points[..., : data.shape[2]] = data
    return Detections(
        boxes=np.asarray(boxes.xyxy, dtype=np.float64),
        scores=np.asarray(boxes.conf, dtype=np.float64),
        classes=np.asarray(boxes.cls).astype(np.int64),
        keypoints=points,
    )


def print_report(report: Report, *, offer_fix: bool = True) -> None:
    """Print the report as a table: each finding with reason, fix and first examples; then the suggested options.

    Args:
        report: the report.
        offer_fix: mention `fix=` if it can repair something.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    survey = report.survey
    console = Console(width=None if sys.stdout.isatty() else 118, highlight=False)
    images = ", ".join(
        f"{split.name} {len(split.files)} images with {len(split.classes)} instances" for split in survey.splits
    )
    console.print(Text(f"{survey.dataset.yaml_path}: {images}"))
    if report.findings:
        table = Table(show_lines=True, expand=True)
        for name in ("severity", "check", "problem", "fix="):
            table.add_column(name, overflow="fold", ratio=1 if name == "problem" else None)
        for finding in report.findings:
            severity = Text(finding.severity, style=_COLORS[finding.severity])
            table.add_row(severity, finding.check, _problem(report, finding), "yes" if finding.fixable else "")
        console.print(table)
    for item in report.advice:
        console.print(Text(f"suggested {item.option}={item.value}: {item.reason}"))
    console.print(Text(f"{survey.dataset.yaml_path.name}: {report.summary()}"), style="bold")
    fixable = [finding for finding in report.findings if finding.fixable]
    if fixable and offer_fix:
        console.print(Text(f"fix=FOLDER writes a copy that repairs {len(fixable)} of them."))


def _problem(report: Report, finding: Finding) -> Any:
    from rich.text import Text

    text = Text(finding.title, style="bold")
    lines: Sequence[str] = [
        f"Why: {finding.why}",
        f"Fix: {finding.how}",
        *(f"– {describe_example(report, example)}" for example in finding.examples[:_SHOWN_EXAMPLES]),
    ]
    more = finding.count - min(len(finding.examples), _SHOWN_EXAMPLES)
    text.append("".join(f"\n{line}" for line in lines), style="not bold")
    if finding.examples and more > 0:
        text.append(f"\n– and {more} more", style="not bold")
    return text


def describe_example(report: Report, example: Any) -> str:
    """Return an example as one line: file, row, text."""
    place = report.relative(example.file)
    row = f", row {example.row}" if example.row else ""
    return f"{place}{row}: {example.text}" if place else example.text
