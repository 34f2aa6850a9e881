"""Whether the whole learns: few pictures, learned by heart."""

from pathlib import Path

import pytest

from yolopose import YOLO


@pytest.mark.slow
def test_sixteen_figures_are_learned_by_heart(tmp_path: Path) -> None:
    """Sixteen drawn pictures, measured on themselves; the σ of COCO, nothing made easier."""
    data = tmp_path / "sixteen.yaml"
    data.write_text(
        "path: sixteen-figures\ntrain: images/train\nval: images/train\n"
        "figures: {train: 16, val: 1, size: 320, seed: 0}\nkpt_shape: [17, 3]\nnames: [person]\n"
        "flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]\n"
    )
    model = YOLO("yolo11n-pose.yaml")
    still = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0, "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}
    metrics = model.train(
        data=data, epochs=400, imgsz=320, batch=8, nbs=8, optimizer="AdamW", lr0=0.002, cache="ram", val=False,
        project=tmp_path, plots=False, verbose=False, **still,
    )  # fmt: skip
    assert metrics.pose.map50 >= 0.9
    assert metrics.box.map50 >= 0.95
