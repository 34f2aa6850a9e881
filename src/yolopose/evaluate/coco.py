"""The COCO evaluation (cocodataset.org) of boxes and keypoints, by the library hotcoco."""

from __future__ import annotations

import importlib
import json
import tempfile
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

from yolopose.base.errors import DataError, DependencyError
from yolopose.evaluate.coco_truth import Id, Json

POINTS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""The numbers of keypoints, in the order of the COCO evaluation; at most 20 detections of an image count."""
BOXES = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")
"""The numbers of boxes; at most 100 detections of an image count."""
_KINDS = (("bbox", BOXES, "B"), ("keypoints", POINTS, "P"))


def require_evaluator() -> Any:
    """Return the library that counts.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return importlib.import_module("hotcoco")
    except ImportError as error:
        raise DependencyError(
            "protocol=coco needs the evaluator hotcoco, which is not installed. Install with: "
            'pip install "yolopose[coco]"'
        ) from error


def score_coco(truth: Json, predictions: Path, sigmas: Sequence[float]) -> dict[str, float]:
    """Count predictions against annotations as the COCO evaluation does.

    Args:
        truth: content of a COCO annotation file; ids may be numbers or text.
        predictions: JSON list of detections with `image_id`, `category_id`, `bbox`, `score` and `keypoints`, one a
            line, as `save_json` writes it.
        sigmas: (K,) σ of each keypoint.

    Returns:
        `AP(B)` … `ARL(B)` of boxes (`BOXES`) and `AP(P)` … `ARL(P)` of keypoints (`POINTS`), 0…1; -1 where there is
        no truth of that size.

    Raises:
        DependencyError: the evaluator is not installed.
    """
    library = require_evaluator()
    images = _numbers([image["id"] for image in truth["images"]])
    categories = _numbers([category["id"] for category in truth["categories"]])
    same = all(old == new for ids in (images, categories) for old, new in ids.items())
    with nullcontext(predictions) if same else _renumbered(predictions, images, categories) as path:
        known = library.COCO(_renumbered_truth(truth, images, categories))
        found = known.load_res(str(path))
        return {
            f"{name}({letter})": value
            for kind, names, letter in _KINDS
            for name, value in zip(names, _score(library, known, found, kind, sigmas), strict=True)
        }


def coco_lines(scores: Mapping[str, float], source: str) -> list[str]:
    """Return the table that validation prints: a head line, then boxes and points.

    Args:
        scores: from `score_coco`.
        source: what was counted against, in words.
    """
    lines = [f"COCO protocol, against {source}:"]
    for words, names, letter in (("boxes", BOXES, "B"), ("points", POINTS, "P")):
        values = (scores[f"{name}({letter})"] for name in names)
        lines.append(" " * 9 + "".join(f"{name:>8}" for name in names))
        lines.append(f"{words:>9}" + "".join(f"{value:>8.3f}" if value >= 0 else f"{'-':>8}" for value in values))
    return lines


def _score(library: Any, known: Any, found: Any, kind: str, sigmas: Sequence[float]) -> list[float]:
    run = library.COCOeval(known, found, kind)
    if kind == "keypoints":
        run.params.kpt_oks_sigmas = [float(sigma) for sigma in sigmas]
    with redirect_stdout(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that σ are not those of COCO persons
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]


def _numbers(ids: Sequence[Id]) -> dict[Id, int]:
    """A number for each id, itself where all are such; else from 1 up, in the order of the COCO evaluation."""
    if all(isinstance(one, int) and 0 <= one < 2**53 for one in ids):
        return {one: int(one) for one in ids}
    order = sorted(set(ids), key=lambda one: (isinstance(one, str), one))
    return {one: number for number, one in enumerate(order, 1)}


def _renumbered_truth(truth: Json, images: Mapping[Id, int], categories: Mapping[Id, int]) -> Json:
    return {
        "images": [{**one, "id": images[one["id"]]} for one in truth["images"]],
        "annotations": [
            {
                **{key: value for key, value in one.items() if key != "segmentation"},
                "id": number,
                "image_id": images[one["image_id"]],
                "category_id": categories[one["category_id"]],
            }
            for number, one in enumerate(truth["annotations"], 1)
        ],
        "categories": [{**one, "id": categories[one["id"]]} for one in truth["categories"]],
    }


@contextmanager
def _renumbered(path: Path, images: Mapping[Id, int], categories: Mapping[Id, int]) -> Generator[Path, None, None]:
    """A copy of predictions with numbers for ids, made line by line, so that any number of them takes no memory."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "predictions.json"
        with copy.open("w", encoding="utf-8") as text:
            sign = "["
            for row in _rows(path):
                if row["image_id"] not in images or row["category_id"] not in categories:
                    raise DataError(
                        f"{path} holds predictions of another data set: there is no image {row['image_id']!r} or no "
                        f"category {row['category_id']!r} in the annotations."
                    )
                values = {key: row[key] for key in ("bbox", "score", "keypoints") if key in row}
                values |= {"image_id": images[row["image_id"]], "category_id": categories[row["category_id"]]}
                text.write(sign + json.dumps(values))
                sign = ",\n"
            text.write("]" if sign != "[" else "[]")
        yield copy


def _rows(path: Path) -> Iterator[Json]:
    with path.open(encoding="utf-8") as text:
        first = text.readline()
        if first.strip() != "[":  # a list that is not written one a line
            yield from cast("list[Json]", json.loads(first + text.read()))
            return
        for line in text:
            if line.strip() != "]":
                yield json.loads(line.rstrip().rstrip(","))
