"""Content of `doctor.html`: findings, examples as image crops with their labels, σ, suggested options."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import YoloposeError
from yolopose.base.files import write_bytes
from yolopose.data.doctor import Dispute, Example, Finding, Report, SplitSurvey
from yolopose.data.images import read_reduced
from yolopose.evaluate.page.build import read_part, render_page
from yolopose.evaluate.page.content import embedded_json, figure_schema, to_json_values

Json = dict[str, Any]

_SIDE = 400  # longer side of an embedded crop, pixels
_JPEG_QUALITY = 74
_MARGIN = 0.4  # around an instance, as a share of its longer side
_MIN_CROP = 64  # pixels of the image
_MAX_BYTES = 4_700_000  # of all images
_MAX_LISTED = 100  # examples of a finding that the page lists as text
_MAX_INSTANCES = 40  # drawn in a crop


def write_page(report: Report, path: Path, images: int) -> Path:
    """Write the page.

    Args:
        report: the report.
        path: the file.
        images: number of images shown at most, distributed over the findings.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written.
    """
    content = page_content(report, images)
    style = read_part("style.css") + _read_own("doctor.css")
    page = render_page(_read_own("page.html"), style, [read_part("tools.js"), _read_own("doctor.js")], content)
    write_bytes(path, page, sync=False)
    return path


def _read_own(name: str) -> str:
    return (files("yolopose.tools.doctor_page") / "parts" / name).read_text(encoding="utf-8")


def page_content(report: Report, images: int) -> Json:
    """Return all that the page shows as plain values."""
    survey = report.survey
    schema = figure_schema(survey.spec.keypoints, survey.spec.names, 0)[0]
    findings = [_finding(report, finding) for finding in report.findings]
    _add_cards(report, findings, images)
    splits = [
        (
            split.name,
            f"{len(split.files):,} images, {len(split.classes):,} instances, "
            f"{int((~split.has_labels).sum()):,} images without a label file",
        )
        for split in survey.splits
    ]
    facts = [
        ("Data", str(survey.dataset.yaml_path)),
        *splits,
        ("Classes", ", ".join(survey.spec.classes[:30])),
        ("Keypoints", f"{survey.spec.keypoints.count} ({survey.spec.keypoints.dims} values each)"),
        ("Input size", f"{survey.imgsz} pixels"),
    ]
    return to_json_values(
        {
            "title": survey.dataset.yaml_path.name,
            "summary": report.summary(),
            "counts": report.counts,
            "facts": facts,
            "findings": findings,
            "advice": [[item.option, item.value, item.reason] for item in report.advice],
            "edges": [list(edge) for edge in schema.skeleton],
            "names": list(schema.keypoint_names(0)),
        }
    )


def _finding(report: Report, finding: Finding) -> Json:
    return {
        "check": finding.check,
        "severity": finding.severity,
        "title": finding.title,
        "count": finding.count,
        "why": finding.why,
        "how": finding.how,
        "fixable": finding.fixable,
        "sigmas": dict(finding.values) if "current_map" in finding.values else None,
        "examples": [
            [report.relative(example.file), example.row, example.text] for example in finding.examples[:_MAX_LISTED]
        ],
        "cards": [],
    }


def _add_cards(report: Report, contents: list[Json], images: int) -> None:
    """Add image crops, one example per finding after another, until `images` or the size limit is reached."""
    remaining = images
    max_bytes = _MAX_BYTES
    queues = [_cards(report, finding) for finding in report.findings]
    active = list(range(len(queues)))
    while active:
        for number in list(active):
            card = next(queues[number], None) if remaining > 0 else None
            if card is None:
                active.remove(number)
                continue
            max_bytes -= len(embedded_json(to_json_values(card)))
            if max_bytes < 0:
                return
            contents[number]["cards"].append(card)
            remaining -= 1


def _cards(report: Report, finding: Finding) -> Iterator[Json]:
    """Yield the cards of the examples of a finding that belong to an image that can be read."""
    for example in finding.examples:
        split = report.survey.split(example.split)
        if split is not None and example.image is not None:
            card = _card(report, finding, example, split, example.image)
            if card is not None:
                yield card


def _card(report: Report, finding: Finding, example: Example, split: SplitSurvey, image: int) -> Json | None:
    height, width = split.sizes[image].tolist()
    if not height:
        return None
    dispute = _dispute(report, finding, example)
    window = _window(split, image, example, dispute)
    jpeg = _crop(split.files[image], window, (height, width))
    if jpeg is None:
        return None
    other = None
    if example.other is not None:
        pixels = _crop(example.other, None, None)
        other = {"name": report.relative(example.other), "jpeg": pixels} if pixels else None
    return {
        "name": report.relative(split.files[image]),
        "row": example.row,
        "text": example.text,
        "x": window[0],
        "y": window[1],
        "width": window[2] - window[0],
        "height": window[3] - window[1],
        "jpeg": jpeg,
        "other": other,
        "instances": list(_instances(split, image, example)),
        "keypoint": example.keypoint,
        "detection": None if dispute is None or dispute.box is None else _pose(dispute.box, dispute.points),
    }


def _dispute(report: Report, finding: Finding, example: Example) -> Dispute | None:
    """Return the dispute with the model that an example describes."""
    if not finding.check.startswith("model-"):
        return None
    disputes: list[Dispute] = report.survey.memo.get("disputes", [])
    place = (example.split, example.image, example.instance, example.text)
    return next((item for item in disputes if (item.split, item.image, item.instance, item.text) == place), None)


Window = tuple[float, float, float, float]


def _window(split: SplitSurvey, image: int, example: Example, dispute: Dispute | None) -> Window:
    """Return the corners of the part of the image to show, pixels: an instance with a margin, or all."""
    height, width = split.sizes[image].tolist()
    size = np.array([width, height], dtype=np.float64)
    corners: list[npt.NDArray[np.floating[Any]]] = []
    if example.instance is not None:
        box = split.boxes[example.instance].astype(np.float64)
        corners += [(box[:2] - box[2:] / 2) * size, (box[:2] + box[2:] / 2) * size]
        points = split.keypoints[example.instance]
        corners += list(points[(points[:, 2] > 0) & (points[:, :2] != 0).any(axis=1), :2] * size)
    if dispute is not None and dispute.box is not None:
        corners += [dispute.box[:2], dispute.box[2:4]]
    if not corners:
        return 0.0, 0.0, float(width), float(height)
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    margin = max(_MARGIN * float((high - low).max()), (_MIN_CROP - float((high - low).max())) / 2)
    low = np.clip(np.floor(low - margin), 0, size - 1)
    high = np.clip(np.ceil(high + margin), low + 1, size)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _crop(path: Path, window: Window | None, size: tuple[int, int] | None) -> str | None:
    """Return a part of an image as base64 JPEG; None if it cannot be read or has another size now.

    Args:
        path: the image.
        window: corners of the part, pixels; None for all.
        size: (height, width) that the image must have.
    """
    share = 1.0
    if window is not None and size is not None:
        share = max(window[2] - window[0], window[3] - window[1]) / max(size)
    try:
        image, original = read_reduced(path, round(_SIDE / max(share, 0.05)))
    except (YoloposeError, OSError, ValueError):
        return None
    whole = original or (image.shape[0], image.shape[1])
    if size is not None and tuple(whole) != tuple(size):
        return None
    if window is not None:
        scale = image.shape[1] / whole[1]
        left, top, right, bottom = (round(value * scale) for value in window)
        image = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    scale = min(_SIDE / max(image.shape[:2]), 1.0)
    target = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    ok, data = cv2.imencode(
        ".jpg",
        cv2.resize(image, target, interpolation=cv2.INTER_AREA),
        [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
    )
    return base64.b64encode(data.tobytes()).decode() if ok else None


def _instances(split: SplitSurvey, image: int, example: Example) -> Iterator[Json]:
    size = np.array(split.sizes[image][::-1], dtype=np.float64)
    start, end = int(split.offsets[image]), int(split.offsets[image + 1])
    rows = list(range(start, end))[:_MAX_INSTANCES]
    if example.instance is not None and example.instance not in rows:
        rows.append(example.instance)
    for row in rows:
        box = split.boxes[row].astype(np.float64)
        points = split.keypoints[row].astype(np.float64)
        points[:, :2] *= size
        corners = np.concatenate(((box[:2] - box[2:] / 2) * size, (box[:2] + box[2:] / 2) * size))
        yield {**_pose(corners, points), "highlighted": row == example.instance}


def _pose(box: npt.NDArray[Any], points: npt.NDArray[Any] | None) -> Json:
    values = [] if points is None else np.round(points.astype(np.float64), 1).tolist()
    return {"box": np.round(box.astype(np.float64), 1).tolist(), "points": values}
