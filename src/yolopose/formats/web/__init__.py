"""Web page: a folder with the network as ONNX, onnxruntime-web and one page, for any static web server.

The parts of the page lie in `parts/` as they are served; it calls nowhere, and its Content-Security-Policy holds it to
that. Here the ONNX file inside is what is run.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.formats import onnx
from yolopose.formats.metadata import sole_file
from yolopose.formats.web.about import about_page
from yolopose.formats.web.runtime import fetch_runtime, runtime_files, runtime_name

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

__all__ = ["export", "fetch_runtime", "load", "usage"]

_NETWORK = "model.onnx"
_SUFFIX = "_web_page"
_LICENSE = "onnxruntime-web-LICENSE.txt"


def load(path: Path, device: object = None, half: bool = False) -> onnx.OnnxRuntime:
    """Open the ONNX file of a folder that `export` wrote.

    Args:
        path: the folder.
        device: `cpu`, or a GPU where onnxruntime was installed with one.
        half: has no effect: the file's numbers are what they were exported as.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is missing, damaged, or no pose network that can be understood.
    """
    return onnx.load(sole_file(path, ".onnx", "the network"), device, half)


def export(job: ExportJob, path: Path) -> str:
    """Write the folder of a page.

    Args:
        job: the network and what is asked for.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        DependencyError: onnxruntime-web is not here and was not asked for.
        DownloadError: it was asked for, and cannot be fetched.
        NotFoundError: it is not where `web_runtime` says.
        UsageError: it is another version there.
        ExportError: the network cannot be converted.
    """
    engine = runtime_files(job.options.web_runtime)
    words = onnx.export(job, path / _NETWORK)
    (path / "runtime").mkdir()
    for name, content in engine.items():
        # servers that do not know .mjs would send a script that browsers refuse
        (path / "runtime" / name.replace(".mjs", ".js")).write_bytes(content)
    for part in (files("yolopose.formats.web") / "parts").iterdir():
        where = path / "runtime" / "LICENSE.txt" if part.name == _LICENSE else path / part.name
        where.write_bytes(part.read_bytes())
    about = about_page(job.metadata, job.bits, path.name.removesuffix(_SUFFIX))
    (path / "model.json").write_text(json.dumps({"file": _NETWORK, **about}, ensure_ascii=False), encoding="utf-8")
    return f"{words}, with {runtime_name()}"


def usage(path: Path) -> str:
    """Return the lines that say how the page is looked at."""
    name = f'"{path}"' if " " in str(path) else path
    return f"\nLook:      python -m http.server --directory {name} 8000   and open http://localhost:8000"
