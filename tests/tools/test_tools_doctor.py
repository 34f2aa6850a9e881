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
    ("names", "message"),
    [
        ("opencv-python opencv-python-headless", "opencv-python and opencv-python-headless"),
        ("onnxruntime onnxruntime-gpu numpy", "onnxruntime and onnxruntime-gpu"),
    ],
)
def test_reports_packages_that_overwrite_each_other(names: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(names, monkeypatch)
    (line,) = doctor.find_conflicts()
    assert line.startswith(f"CONFLICT: {message} write the same files")
    assert "pip uninstall" in line


def test_accepts_a_variant_of_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    install("numpy pyyaml rich filelock msgspec platformdirs opencv-python onnxruntime-gpu", monkeypatch)
    assert doctor.find_conflicts() == []
    shown = doctor.environment_report()
    assert "MISSING" not in shown
    assert "onnxruntime-gpu" in shown


def test_reports_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    install("numpy pyyaml rich filelock msgspec platformdirs onnxruntime", monkeypatch)
    shown = doctor.environment_report()
    assert "MISSING: `pip install opencv-python` on a desktop" in shown
    assert "not installed (pip install torch)" in shown


@pytest.mark.parametrize(
    ("installed", "package", "message"),
    [
        ("yolopose", "yolopose", None),
        ("yolopose ultralytics", "yolopose", "NOTE: ultralytics 1.2.3 is also installed"),
        ("yolopose ultralytics", "ultralytics", "belongs to ultralytics, not to yolopose"),
        ("yolopose", "ultralytics", "belongs to ultralytics, not to yolopose"),
    ],
)
def test_reports_the_owner_of_the_command(
    installed: str, package: str, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(installed, monkeypatch)
    place = script(tmp_path, package, monkeypatch)
    assert doctor.yolo_on_path() == (str(place), package)
    assert f"{place}, of {package}, which belongs to another Python" in doctor.environment_report()
    said = doctor.find_conflicts()
    assert len(said) == bool(message)
    assert message is None or message in said[0]


def test_reports_a_missing_command(monkeypatch: pytest.MonkeyPatch) -> None:
    install("yolopose", monkeypatch)
    assert "not on PATH" in doctor.environment_report()
    assert doctor.find_conflicts() == []
