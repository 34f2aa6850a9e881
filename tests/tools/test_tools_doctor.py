from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from yolopose.tools import doctor


def install(names: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the report believe that these packages, and no others, are installed."""

    def version(name: str) -> str:
        if name in names.split():
            return "1.2.3"
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", version)


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
