"""Fills the page, and makes it again from the files of a run."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import write_bytes
from yolopose.base.log import LOGGER
from yolopose.evaluate.about import spec_of
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page.content import Json, content
from yolopose.evaluate.page.gallery import Ranking, chosen, jpeg, poses, rank, table
from yolopose.evaluate.page.layout import edges_of, figure_of
from yolopose.evaluate.places import SHOWN
from yolopose.evaluate.record import Record, load_record

FILE = "report.html"
IMAGES = 24
_LIMIT = 4_900_000  # bytes of the page
_NAMES = 1_200_000  # of these for the list of all images
_SCRIPTS = ("tools", "numbers", "threshold", "keypoints", "images", "start")


def make_report(run: str | Path, images: int = IMAGES) -> Path:
    """Make the report of a run again from what its folder keeps.

    Args:
        run: folder of a run of `val`, or of a training.
        images: how many images it shows at most.

    Returns:
        The file.

    Raises:
        NotFoundError: the folder keeps no record of detections.
        DataError: it is damaged.
        OutputError: the report cannot be written.
    """
    record = load_record(run)
    if not record.about:
        raise DataError(f"The record in {run} does not say what was measured, so no report can be made of it.")
    metrics = PoseMetrics(dict(enumerate(record.about["names"])))
    metrics.keep(record, spec_of(record.about))
    metrics.score_record()
    return write_report(metrics, Path(run) if Path(run).is_dir() else Path(run).parent, images)


def write_report(metrics: PoseMetrics, folder: Path, images: int = IMAGES) -> Path:
    """Write `report.html`.

    Args:
        metrics: a scored run with its record.
        folder: where to.
        images: how many images it shows at most; fewer when they would make it larger than 5 MB.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written.
    """
    record, spec = metrics.kept()
    shown = content(metrics, record)
    ranking = rank(record, metrics.reliability("pose").best_conf)
    shown["images"] = {
        "conf": ranking.conf,
        "kept_from": SHOWN,
        "all": table(record, ranking, _NAMES),
        "count": len(record.names),
        "edges": edges_of(figure_of(spec.keypoints, spec.names, 0)[0]),
        "points": [spec.keypoints.keypoint_names(index) for index in range(spec.nc)],
        "classes": [metrics.names[index] for index in sorted(metrics.names)],
        "cards": [],
        "gone": 0,
        "without_room": 0,
    }
    _add_cards(shown["images"], record, ranking, images, _LIMIT - len(_page(shown)))
    path = folder / FILE
    write_bytes(path, _page(shown), sync=False)
    return path


def _add_cards(gallery: Json, record: Record, ranking: Ranking, count: int, room: int) -> None:
    """Add the worst and the best images, as many as there is room for."""
    root, cards = Path(record.about["root"]), gallery["cards"]
    place_of = {index: number for number, index in enumerate(ranking.order.tolist())}
    wanted = chosen(ranking, count)
    for index, why in wanted:
        card: Json = {"row": place_of[index], "name": record.names[index], "why": why, **poses(record, index)}
        card["jpeg"] = jpeg(root, card["name"], (card["height"], card["width"]))
        room -= len(_encoded(card)) + 2
        if room < 0:
            gallery["without_room"] = len(wanted) - len(cards)
            break
        gallery["gone"] += card["jpeg"] is None
        cards.append(card)
    if gallery["gone"]:
        LOGGER.warning(
            f"{gallery['gone']} of the {len(cards)} images of the report are not as they were under {root}: they "
            "are gone, cannot be read, or have changed. It shows their poses without them."
        )


def _page(shown: Json) -> bytes:
    style, script = _part("style.css"), _script()
    filled = {"style": style, "script": script, "data": _encoded(shown), "policy": _policy(style, script)}
    # one pass, so that nothing that is filled in is taken for a place to fill
    page = re.sub(r"\{\{(\w+)\}\}", lambda match: filled[match[1]], _part("page.html"))
    return page.encode()


def _encoded(value: Any) -> str:
    """JSON in ASCII that may stand in a `<script>`: none of HTML's own signs occurs in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _policy(style: str, script: str) -> str:
    """What a browser lets the page do: its own style and script, images that lie in it, nothing else."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _script() -> str:
    """All scripts as one function, whose names are its own."""
    return "(() => {\n" + "\n".join(_part(f"{name}.js") for name in _SCRIPTS) + "})();\n"


def _part(name: str) -> str:
    return (files("yolopose.evaluate.page") / "parts" / name).read_text(encoding="utf-8")
