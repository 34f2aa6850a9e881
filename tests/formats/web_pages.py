"""Runtime of format=web for tests: small files with matching checksums, or the real package."""

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
# the user's cache: read before each test gets its own settings
_RUNTIME = Path(os.environ.get("YOLOPOSE_WEB_RUNTIME") or cache_dir() / f"onnxruntime-web-{TABLE['version']}")


def real_runtime() -> Path:
    """Return the cached files of onnxruntime-web; skip the test if there are none."""
    if not _RUNTIME.exists():
        pytest.skip(f"{_RUNTIME} does not exist: export once with web_runtime=fetch, or set YOLOPOSE_WEB_RUNTIME")
    return _RUNTIME


def make_package(folder: Path) -> dict[str, Any]:
    """Write `package.tgz` and `installed/`, a package of small files; return its table."""
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
    digest = hashlib.sha512((folder / "package.tgz").read_bytes()).digest()
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    return {**TABLE, "files": files, "integrity": f"sha512-{base64.b64encode(digest).decode()}"}
