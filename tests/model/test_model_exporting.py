from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import ExportError

pytest.importorskip("torch")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> YOLO:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small-pose.yaml").write_text(SMALL, encoding="utf-8")
    return YOLO("small-pose.yaml")


def test_export_emits_start_and_end(model: YOLO) -> None:
    seen: list[tuple[str, Any]] = []
    for event in ("on_export_start", "on_export_end"):
        model.add_callback(event, lambda export, event=event: seen.append((event, export.file)))
    path = Path(model.export(format="torchscript", imgsz=64, verbose=False))
    assert seen == [("on_export_start", None), ("on_export_end", path)]
    assert path.exists()


def test_a_failed_export_does_not_emit_the_end(model: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ExportError("no")

    monkeypatch.setattr("yolopose.model.exporting.export_network", fail)
    seen: list[str] = []
    for event in ("on_export_start", "on_export_end"):
        model.add_callback(event, lambda _, event=event: seen.append(event))
    with pytest.raises(ExportError, match="no"):
        model.export(format="torchscript", imgsz=64)
    assert seen == ["on_export_start"]
