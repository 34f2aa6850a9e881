"""Pages of the server: `/` to try a model, `/docs` for its interface; each is complete in one file."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

from yolopose.evaluate.page.build import read_part, render_page

# the page sends requests only to its own server; the camera and dropped files are blobs
_SOURCES = "img-src data: blob:; media-src blob:; connect-src 'self'"
_MODULE_SYNTAX = re.compile(r"^import .*\n|^export ", re.M)


def pose_page(*, needs_key: bool) -> bytes:
    """Return the page at `/`.

    Args:
        needs_key: whether it asks for an API key.
    """
    shared = [_MODULE_SYNTAX.sub("", _read("yolopose.formats.web", f"{name}.js")) for name in _DRAWING]
    scripts = [read_part("tools.js"), *shared, _read_own("serve.js")]
    style = read_part("style.css") + _read_own("serve.css")
    return render_page(_read_own("serve.html"), style, scripts, {"needsKey": needs_key}, _SOURCES)


_DRAWING = ("draw", "stage", "sources")


def docs_page(description: dict[str, Any]) -> bytes:
    """Return the page at `/docs`.

    Args:
        description: OpenAPI description.
    """
    scripts = [read_part("tools.js"), _read_own("docs.js")]
    style = read_part("style.css") + _read_own("serve.css")
    return render_page(_read_own("docs.html"), style, scripts, description)


def _read_own(name: str) -> str:
    return _read("yolopose.serve", name)


def _read(package: str, name: str) -> str:
    return (files(package) / "parts" / name).read_text(encoding="utf-8")
