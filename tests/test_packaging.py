"""Metadata, archives and the tools of a release."""

from __future__ import annotations

import email
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
EPOCH = "1750000000"
PARTS = ("src", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@pytest.fixture
def release() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return import_module("release")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def build(folder: Path, umask: int) -> dict[str, bytes]:
    """Build in a copy of the source with new time stamps; return the archives by name."""
    source = folder / "source"
    source.mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, source / part, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copyfile(ROOT / part, source / part)
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source)],
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH, "PYTHONPATH": ""},
        check=True,
        capture_output=True,
        umask=umask,
    )
    return {path.name: path.read_bytes() for path in sorted((folder / "dist").iterdir())}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return wheel and sdist; they are equal when built in another folder, with other times and permissions."""
    if find_spec("build") is None or os.name == "nt":
        pytest.skip("build is not installed, or this is Windows")
    first = build(tmp_path_factory.mktemp("first"), 0o022)
    second = build(tmp_path_factory.mktemp("second") / "deeper", 0o077)
    assert {name: hashlib.sha256(data).hexdigest() for name, data in first.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in second.items()
    }
    return first


@pytest.mark.slow
def test_archives_are_reproducible_and_complete(archives: dict[str, bytes], tmp_path: Path) -> None:
    assert len(archives) == 2
    for name, data in archives.items():
        (tmp_path / name).write_bytes(data)
        assert len(data) < 1_500_000
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    files = {name.removeprefix("yolopose/") for name in wheel.namelist() if name.startswith("yolopose/")}
    tracked = {
        path.relative_to(ROOT / "src/yolopose").as_posix()
        for path in (ROOT / "src/yolopose").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == tracked
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        assert {"CITATION.cff", "README.md", "pyproject.toml"} <= {Path(name).name for name in sdist.getnames()}


@pytest.mark.slow
def test_package_page(archives: dict[str, bytes], tmp_path: Path) -> None:
    name = next(name for name in archives if name.endswith(".whl"))
    (tmp_path / name).write_bytes(archives[name])
    wheel = zipfile.ZipFile(tmp_path / name)
    metadata = email.message_from_bytes(wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))))
    page = str(metadata.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(targets) > 30
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert f"/blob/v{metadata['Version']}/docs/quickstart.md" in page
    assert metadata["License-Expression"] == "Apache-2.0"
    labels = {value.partition(", ")[0] for value in metadata.get_all("Project-URL", [])}
    assert {"Homepage", "Documentation", "Source", "Issues", "Changelog"} <= labels
    classifiers = metadata.get_all("Classifier", [])
    assert all(f"Programming Language :: Python :: {version}" in classifiers for version in VERSIONS)
    assert sum(value.startswith("Operating System ::") for value in classifiers) == 3


def test_version_changelog_and_citation_agree(release: Any) -> None:
    assert list(release.faults()) == []
    assert release.notes().startswith("### ")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("src/yolopose/_version.py", '"0.1.0"', '"0.2.0"', "CHANGELOG.md has no dated heading `## 0.2.0"),
        ("CHANGELOG.md", "## 0.1.0 (2", "## 0.1.0 (unreleased, 2", "no dated heading"),
        ("CITATION.cff", "date-released: 2", "date-released: 1", "does not state date-released"),
        ("README.md", "yolopose-0.1.0-py3", "yolopose-0.0.9-py3", "README.md names the wheel of version 0.0.9"),
    ],
)
def test_contradictions(
    file: str, old: str, new: str, message: str, release: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("src/yolopose/_version.py", "CHANGELOG.md", "CITATION.cff", "README.md", "docs/installation.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(old, new) if name == file else text, encoding="utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    assert any(message in fault for fault in release.faults())


def test_installation_page_lists_every_extra() -> None:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\w+) = \[", section.partition("\n[project.")[0], re.M)) - {"dev", "docs", "notebooks"}
    page = (ROOT / "docs/installation.md").read_text(encoding="utf-8")
    table = page.partition("| extra |")[2].partition("\n\n")[0]
    assert len(extras) > 15
    assert {extra for extra in extras if f"`{extra}`" not in table} == set()


def test_tag_must_match(release: Any) -> None:
    assert any("v9.9" in fault for fault in release.faults("v9.9"))


def test_workflows_and_forms_are_yaml() -> None:
    files = sorted((ROOT / ".github").rglob("*.yml"))
    assert len(files) >= 7
    for path in files:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), path
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    assert tests["jobs"]["fast"]["strategy"]["matrix"]["python"] == list(VERSIONS)
