"""The demo: it trains, prints its table and the paths of files that exist, and can be run again."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import urlparse
from urllib.request import url2pathname

import cv2
import pytest

pytest.importorskip("torch")
DEMO = Path(__file__).parents[1] / "examples/demo.py"
FIGURES = """
path: few-figures
train: images/train
val: images/val
figures: {train: 8, val: 4, size: 96, seed: 0}
kpt_shape: [17, 3]
flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
names: {0: person}
"""


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    # the demo sets these only where they are not set
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "1024")
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.RECIPE["time"] * 60 == module.MINUTES == 4
    (tmp_path / "figures.yaml").write_text(FIGURES)
    few = {"data": "figures.yaml", "time": None, "epochs": 2, "imgsz": 64, "workers": 0}
    monkeypatch.setattr(module, "RECIPE", {**module.RECIPE, **few})
    return module


def test_prints_metrics_and_files(demo: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main() == 0
    text = capsys.readouterr().out
    assert text.startswith("Training for 4 minutes")
    row = re.search(r"best network +(\S+) +(\S+)   (.+)", text)
    assert row is not None
    assert 0 <= float(row[1]) <= 1
    assert "of the box diagonal" in row[3] or row[3] == "nothing detected"
    files = dict(re.findall(r"^(predictions|report|network|run folder|data set): +(.+)$", text, re.M))
    assert set(files) == {"predictions", "report", "network", "run folder", "data set"}
    assert Path(url2pathname(urlparse(files.pop("report")).path)).is_file()
    assert all(Path(path).exists() for path in files.values())
    assert cv2.imread(files["predictions"]).shape == (3 * 96, 4 * 96, 3)
    assert demo.main() == 0  # the finished run cannot be resumed: a new one begins
    assert (Path("demo/train/results.csv")).read_text().count("\n") == 3
