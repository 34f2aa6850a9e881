"""The notebooks run from the first to the last code block, with what an outside user has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytest.importorskip("torch")
pytest.importorskip("onnx")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SHARED = Path(os.environ.get("YOLOPOSE_SHARED", ROOT.parent / "shared"))


def write_weights(path: Path) -> None:
    """Copy the public weights, which users download, or write random ones where they are absent."""
    source = SHARED / "checkpoints/yolo11n-pose.pt"
    if source.is_file():
        shutil.copyfile(source, path)
    else:
        from yolopose import YOLO

        YOLO("yolo11n-pose.yaml").save(path)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path / "yolo11n-pose.pt")
    monkeypatch.setenv("YOLOPOSE_OFFLINE", "1")
    monkeypatch.setenv("YOLOPOSE_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))  # `yolo`
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook: Any = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs) or path.stem == "evaluate-and-compare"
    text = "".join(output.get("text", "") for output in outputs)
    assert not [line for line in text.splitlines() if line.startswith("error:") or "command not found" in line]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 4
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_page_lists_all() -> None:
    text = (ROOT / "docs/notebooks.md").read_text(encoding="utf-8")
    assert all(f"../notebooks/{path.name})" in text for path in NOTEBOOKS)
    assert len(NOTEBOOKS) == 4
