from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from yolopose.tools import doctor


def install(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the report believe that these packages, and no others, are installed."""

    def version(name: str) -> str:
        if name in names.split():
            return "1.2.3"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setenv("PATH", "")


def script(folder: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a command `yolo`, as pip writes it, onto PATH."""
    path = folder / "yolo"
    path.write_text(f"#!/usr/bin/python\nimport re\nimport sys\nfrom {package}.cli import main\nsys.exit(main())\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return path


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("opencv-python opencv-python-headless", "opencv-python and opencv-python-headless"),
        ("onnxruntime onnxruntime-gpu numpy", "onnxruntime and onnxruntime-gpu"),
    ],
)
def test_packages_that_overwrite_each_other_are_named(names: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(names, monkeypatch)
    (line,) = doctor.clashes()
    assert line.startswith(f"CLASH: {words} write the same files")
    assert "pip uninstall" in line


def test_a_variant_serves_and_no_clash_is_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    install("numpy pyyaml rich opencv-python onnxruntime-gpu", monkeypatch)
    assert doctor.clashes() == []
    shown = doctor.report()
    assert "MISSING" not in shown
    assert "onnxruntime-gpu" in shown


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install("numpy pyyaml rich onnxruntime", monkeypatch)
    shown = doctor.report()
    assert "MISSING: pip install opencv-python-headless" in shown
    assert "not installed (pip install torch)" in shown


@pytest.mark.parametrize(
    ("installed", "package", "words"),
    [
        ("yolopose", "yolopose", None),
        ("yolopose ultralytics", "yolopose", "NOTE: ultralytics 1.2.3 is installed too"),
        ("yolopose ultralytics", "ultralytics", "belongs to ultralytics, not to yolopose"),
        ("yolopose", "ultralytics", "belongs to ultralytics, not to yolopose"),
    ],
)
def test_whose_the_command_is(
    installed: str, package: str, words: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(installed, monkeypatch)
    place = script(tmp_path, package, monkeypatch)
    assert doctor.yolo_on_path() == (str(place), package)
    assert f"{place}, of {package}, which is not of this Python" in doctor.report()
    said = doctor.clashes()
    assert len(said) == bool(words)
    assert words is None or words in said[0]


def test_no_command_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    install("yolopose", monkeypatch)
    assert "not on PATH" in doctor.report()
    assert doctor.clashes() == []
