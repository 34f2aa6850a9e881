"""Assemble the page from its template, style, scripts and data."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import write_bytes
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page.content import embedded_json, page_content
from yolopose.evaluate.page.gallery import add_cards, make_gallery, rank_images
from yolopose.evaluate.record import load_record, run_spec

REPORT_FILE = "report.html"
MAX_IMAGES = 24
_MAX_BYTES = 4_900_000  # of the page
_SCRIPTS = ("tools", "scores", "threshold", "keypoints", "images", "start")


def make_report(run: str | Path, images: int = MAX_IMAGES) -> Path:
    """Make the report of a run from its record.

    Args:
        run: folder of a run of `val` or of a training, or the record in it.
        images: number of images shown at most.

    Returns:
        The file.

    Raises:
        NotFoundError: the folder has no record of detections.
        DataError: it is damaged.
        OutputError: the report cannot be written.
    """
    record = load_record(run)
    if not record.run_info:
        raise DataError(f"The record in {run} does not describe its run, so that no report can be made from it.")
    metrics = PoseMetrics(dict(enumerate(record.run_info["names"])))
    metrics.set_record(record, run_spec(record))
    return write_report(metrics, Path(run) if Path(run).is_dir() else Path(run).parent, images, foreign=True)


def write_report(metrics: PoseMetrics, folder: Path, images: int = MAX_IMAGES, *, foreign: bool = False) -> Path:
    """Write `report.html`.

    Args:
        metrics: a run, with its record.
        folder: the run folder.
        images: number of images shown at most; fewer if they would make the page larger than 5 MB.
        foreign: whether the record comes from a file: then only images below the root of the data set are shown.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written.
    """
    ranking = rank_images(metrics.record, metrics.reliability("pose").best_conf)
    content = {**page_content(metrics), "images": make_gallery(metrics, ranking)}
    max_bytes = _MAX_BYTES - len(_render(content))
    add_cards(content["images"], metrics.record, ranking, images, max_bytes, foreign=foreign)
    path = folder / REPORT_FILE
    write_bytes(path, _render(content), sync=False)
    return path


def _render(content: Any) -> bytes:
    return render_page(
        read_part("page.html"), read_part("style.css"), [read_part(f"{x}.js") for x in _SCRIPTS], content
    )


def render_page(
    template: str, style: str, scripts: Sequence[str], content: Any, sources: str = "img-src data:"
) -> bytes:
    """Return a page that is complete in one file and may load nothing but `sources`.

    Args:
        template: HTML with `{{policy}}`, `{{style}}`, `{{script}}` and `{{data}}`. The parts that pages have in common
            are `{{head.html}}`, `{{theme.html}}` and `{{noscript.html}}`.
        style: CSS.
        scripts: JavaScript, in their order.
        content: plain values, which the scripts read as JSON.
        sources: directives of the policy for images, media and connections.
    """
    # one function around all scripts keeps their names out of the global scope
    script = "(() => {\n" + "\n".join(scripts) + "})();\n"
    values = {
        "style": style,
        "script": script,
        "data": embedded_json(content),
        "policy": _policy(style, script, sources),
    }
    template = re.sub(r"\{\{(\w+\.html)\}\}", lambda match: read_part(match[1]), template)
    # a single pass: `{{…}}` within a value is not replaced
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template).encode()


def _policy(style: str, script: str, sources: str) -> str:
    """Return a Content-Security-Policy that allows this style and script, `sources`, and nothing else."""
    return (
        f"default-src 'none'; {sources}; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def read_part(name: str) -> str:
    """Return a file of the page: its template, style or a script."""
    return (files("yolopose.evaluate.page") / "parts" / name).read_text(encoding="utf-8")
