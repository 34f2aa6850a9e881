"""The public network on real images, by the reference protocol, end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from yolopose.config import ValOptions
from yolopose.evaluate import PoseMetrics, validate


@pytest.fixture(scope="module")
def metrics(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> PoseMetrics:
    pytest.importorskip("torch")
    from yolopose.formats.pytorch import TorchRuntime
    from yolopose.weights import load_network

    # the labels are copied, so that no cache is written into the shared folder
    source, folder = shared / "data" / "coco-mini", tmp_path_factory.mktemp("coco-mini")
    (folder / "images").mkdir()
    (folder / "images" / "val").symlink_to(source / "images" / "val")
    shutil.copytree(source / "labels" / "val", folder / "labels" / "val")
    values = yaml.safe_load((source / "coco-mini.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**values, "path": str(folder), "train": "images/val"}))
    network, _ = load_network(shared / "checkpoints" / "yolo11n-pose.pt")
    options = ValOptions(data=str(folder / "data.yaml"), plots=False, verbose=False)
    return validate(TorchRuntime(network, device="cpu"), options)


def test_scores_of_the_reference_with_a_stable_sort(metrics: PoseMetrics) -> None:
    scores = (metrics.box.map, metrics.box.map50, metrics.pose.map, metrics.pose.map50)
    assert scores == pytest.approx((0.70241, 0.92087, 0.47292, 0.76798), abs=0.001)


def test_counts(metrics: PoseMetrics) -> None:
    assert metrics.nt_per_class.tolist() == [356]
    assert metrics.nt_per_image.tolist() == [118]
    assert len(metrics.box.image_metrics) == 133
    matrix = metrics.confusion_matrix.matrix
    assert matrix[:, 0].sum() == 356
    np.testing.assert_allclose(matrix, [[315, 79], [41, 0]], atol=3)
