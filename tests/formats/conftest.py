from __future__ import annotations

import pytest

from few_images import SMALL
from yolopose import YOLO


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> YOLO:
    pytest.importorskip("torch")
    file = tmp_path_factory.mktemp("small") / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return YOLO(file)
