"""Run all checks on a data set; the report, and its short form at the start of a training."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolopose.base.log import LOGGER
from yolopose.data.dataset import Dataset

# Importing the modules of checks registers them, in the order of the report.
from yolopose.data.doctor import schema_checks  # isort: skip
from yolopose.data.doctor import image_checks, row_checks, keypoint_checks  # isort: skip
from yolopose.data.doctor import disputes, similar_images  # isort: skip
from yolopose.data.doctor.advice import Advice, training_advice
from yolopose.data.doctor.findings import CHECKS, SEVERITIES, Example, Finding, plural
from yolopose.data.doctor.survey import Survey, survey_annotations, survey_dataset
from yolopose.data.labels import Annotations

MODULES = (schema_checks, image_checks, row_checks, keypoint_checks, disputes, similar_images)
_MAX_LINES = 4  # findings in the short report
_MAX_IMAGES = 2000  # of a split, in the short report


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """All findings of a data set.

    Attributes:
        survey: images and labels.
        findings: errors first.
        advice: suggested options of training.
    """

    survey: Survey
    findings: list[Finding]
    advice: list[Advice]

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings by severity."""
        counts = Counter(finding.severity for finding in self.findings)
        return {severity: counts[severity] for severity in SEVERITIES}

    def summary(self) -> str:
        """Return the number of findings as text: `2 errors, 1 warning, 3 notices`."""
        parts = [plural(count, severity) for severity, count in self.counts.items() if count]
        return ", ".join(parts) or "no problems"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; paths of examples are relative to the root of the data set."""
        dataset = self.survey.dataset
        return {
            "data": str(dataset.yaml_path),
            "root": str(dataset.root),
            "splits": {
                split.name: {
                    "images": len(split.files),
                    "instances": len(split.classes),
                    "without_labels": int((~split.has_labels).sum()),
                }
                for split in self.survey.splits
            },
            "counts": self.counts,
            "findings": [self._finding(finding) for finding in self.findings],
            "advice": {item.option: {"value": item.value, "reason": item.reason} for item in self.advice},
        }

    def to_json(self) -> str:
        """Return `to_dict()` as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, default=float)

    def relative(self, path: Path | None) -> str:
        """Return a path relative to the root of the data set, where it is below it."""
        if path is None:
            return ""
        root = self.survey.dataset.root
        return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()

    def _finding(self, finding: Finding) -> dict[str, Any]:
        return {
            "check": finding.check,
            "severity": finding.severity,
            "title": finding.title,
            "count": finding.count,
            "why": finding.why,
            "how": finding.how,
            "fixable": finding.fixable,
            "values": dict(finding.values),
            "examples": [self._example(example) for example in finding.examples],
        }

    def _example(self, example: Example) -> dict[str, Any]:
        values: dict[str, Any] = {"text": example.text, "file": self.relative(example.file)}
        for key in ("split", "row", "keypoint"):
            value = getattr(example, key)
            if value not in (None, ""):
                values[key] = value
        split = self.survey.split(example.split)
        if split is not None and example.image is not None:
            values["image"] = self.relative(split.files[example.image])
        return values


def examine(dataset: Dataset, *, imgsz: int = 640, workers: int | None = None) -> Report:
    """Read a data set and run all checks.

    Args:
        dataset: the data set.
        imgsz: side of the network input, pixels, with which box sizes are compared.
        workers: number of threads that read images; None or 0 chooses.
    """
    return run_checks(survey_dataset(dataset, imgsz=imgsz, workers=workers))


def run_checks(survey: Survey) -> Report:
    """Run all checks on a survey."""
    findings = [finding for item in CHECKS.values() for finding in item.findings(survey)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(survey, findings, training_advice(survey))


def log_short_report(dataset: Dataset, annotations: Mapping[str, Annotations], imgsz: int) -> None:
    """Log the problems that loaded labels show, in at most six lines; nothing if there are none.

    No file is read, and of large data sets only a sample of the instances is examined.

    Args:
        dataset: the data set.
        annotations: labels by split.
        imgsz: side of the network input, pixels.
    """
    is_sample = any(len(labels) > _MAX_IMAGES for labels in annotations.values())
    if is_sample:
        annotations = {name: _sample(labels) for name, labels in annotations.items()}
    survey = survey_annotations(dataset, annotations, imgsz)
    checks = [item for item in CHECKS.values() if item.quick and not (is_sample and item.needs_all)]
    findings = [finding for item in checks for finding in item.findings(survey)]
    findings = [finding for finding in findings if finding.severity != "notice"]
    if not findings:
        return
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    lines = [f"  {finding.severity}: {finding.title}" for finding in findings[:_MAX_LINES]]
    more = len(findings) - len(lines)
    lines += [f"  and {more} more"] if more else []
    sample = f" in a sample of {_MAX_IMAGES} images" if is_sample else ""
    LOGGER.warning(
        f"{dataset.yaml_path.name}: {plural(len(findings), 'problem')} of the data set{sample}; "
        f"`yolo doctor data={dataset.yaml_path}` shows where, and fixes what it can:\n" + "\n".join(lines)
    )


def _sample(labels: Annotations) -> Annotations:
    """Return up to `_MAX_IMAGES` images at even intervals, so that the time of the short report is bounded."""
    count = len(labels)
    return labels if count <= _MAX_IMAGES else labels.subset([i * count // _MAX_IMAGES for i in range(_MAX_IMAGES)])
