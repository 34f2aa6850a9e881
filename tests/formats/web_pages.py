"""Folders of format=web for tests: with the files of the runtime replaced by small ones, or with the real ones."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from yolopose import zoo
from yolopose.base.settings import cache_dir

TABLE = zoo.web_runtime_table()
NAMES = list(TABLE["files"])
# of the person who runs the tests, before each test gets settings of its own
_KEPT = Path(os.environ.get("YOLOPOSE_WEB_RUNTIME") or cache_dir() / f"onnxruntime-web-{TABLE['version']}")


def real_runtime() -> Path:
    """The files of onnxruntime-web, where an export has fetched them before; the test is skipped where none has."""
    if not _KEPT.exists():
        pytest.skip(
            f"{_KEPT} is not there: an export with web_runtime=fetch puts it there, YOLOPOSE_WEB_RUNTIME names another"
        )
    return _KEPT


def made_package(folder: Path) -> dict[str, Any]:
    """Write `package.tgz` and `installed/`, a package of small files; returns the table that names it."""
    content = {name: f"// {name}\n".encode() for name in NAMES}
    with tarfile.open(folder / "package.tgz", "w:gz") as archive:
        for name, data in {**content, "package.json": b"{}", "../../outside.js": b"x"}.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    dist = folder / "installed/dist"
    dist.mkdir(parents=True)
    for name, data in content.items():
        (dist / name).write_bytes(data)
    (folder / "installed/package.json").write_text('{"version": "1.20.0"}')
    whole = hashlib.sha512((folder / "package.tgz").read_bytes()).digest()
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    return {**TABLE, "files": files, "integrity": f"sha512-{base64.b64encode(whole).decode()}"}
