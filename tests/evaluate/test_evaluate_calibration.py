"""Fits of the calibration: known temperatures, degenerate samples, order of confidences."""

from __future__ import annotations

import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.evaluate.calibration import Samples, apply_pairs, cross_entropy, expected_error, fit_groups, fit_pair
from yolopose.schema import ConfidenceScale, ModelMetadata, PoseSpec

RNG = np.random.default_rng(0)


def samples(temperature: float, offset: float, count: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of which sigmoid(logit / temperature + offset) is the probability to be correct."""
    z = RNG.normal(0, 3, count)
    correct = RNG.random(count) < 1 / (1 + np.exp(-(z / temperature + offset)))
    return 1 / (1 + np.exp(-z)), correct


@pytest.mark.parametrize(("temperature", "offset"), [(2.0, 0.0), (0.6, 0.0), (1.5, -1.0), (1.0, 2.0)])
def test_known_scales_are_recovered(temperature: float, offset: float) -> None:
    conf, correct = samples(temperature, offset)
    factor, shift = fit_pair(conf, correct, "affine")
    assert (1 / factor, shift) == pytest.approx((temperature, offset), rel=0.05, abs=0.05)
    after = apply_pairs(conf, np.zeros(len(conf), np.int64), [(factor, shift)])
    assert expected_error(after, correct) < 0.01
    if not offset:
        assert 1 / fit_pair(conf, correct, "temperature")[0] == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("method", ["temperature", "affine"])
def test_samples_of_one_kind_give_finite_scales(correct: bool, method: str) -> None:
    conf = np.array([0.0, 1.0, 0.3, 0.8] * 5)
    pair = fit_pair(conf, np.full(20, correct), method)
    after = apply_pairs(conf, np.zeros(20, np.int64), [pair])
    assert np.isfinite([*pair, *after]).all()
    assert pair[0] > 0


def test_rare_classes_share_a_fit() -> None:
    first, second = samples(3.0, 0.0), samples(0.7, 0.0)
    few = (np.full(5, 0.9), np.zeros(5, np.bool_))
    conf, correct = (np.concatenate(parts) for parts in zip(first, second, few, strict=True))
    group = np.repeat([0, 1, 2], [len(first[0]), len(second[0]), 5])
    pairs = fit_groups(Samples(conf, correct, group, np.arange(len(conf))), 4, "temperature")
    assert 1 / pairs[0][0] == pytest.approx(3.0, rel=0.05)
    assert 1 / pairs[1][0] == pytest.approx(0.7, rel=0.05)
    assert pairs[2] == pairs[3] == fit_pair(conf, correct, "temperature")


def test_expected_error_and_cross_entropy_equal_their_definitions() -> None:
    conf, correct = np.array([0.05, 0.15, 0.17, 0.95, 1.0]), np.array([False, True, False, True, True])
    bins = [[0], [1, 2], [3, 4]]
    error = sum(len(rows) * abs(correct[rows].mean() - conf[rows].mean()) for rows in bins) / 5
    assert expected_error(conf, correct) == pytest.approx(error)
    assert cross_entropy(conf[:2], correct[:2]) == pytest.approx(-(np.log(0.95) + np.log(0.15)) / 2)


@pytest.mark.parametrize(
    "values",
    [
        None, [], {"classes": [[1, 0]]}, {"classes": [[0, 0]], "keypoints": [], "end2end": False},
        {"classes": [["a", 0]], "keypoints": [], "end2end": False},
        {"classes": [[1]], "keypoints": [], "end2end": False},
        {"classes": [[float("inf"), 0]], "keypoints": [], "end2end": False},
        {"classes": [[1, 0], [1, 0]], "keypoints": [], "end2end": False},
        {"classes": [[1, 0]], "keypoints": [[1, 0]], "end2end": False},
    ],
)  # fmt: skip
def test_invalid_metadata_is_refused(values: object) -> None:
    spec = PoseSpec.from_dict({"names": ["mouse"], "kpt_shape": [4, 3]})
    plain = ModelMetadata(spec=spec).to_dict()
    if values is None:
        assert ModelMetadata.from_dict({**plain, "calibration": None}).calibration is None
        return
    with pytest.raises(UsageError, match="calibration"):
        ModelMetadata.from_dict({**plain, "calibration": values})


def test_metadata_survives_the_round_trip() -> None:
    spec = PoseSpec.from_dict({"names": ["a", "b"], "kpt_shape": [2, 3]})
    scale = ConfidenceScale(classes=((0.5, 0.0), (2.0, -1.0)), keypoints=((1.5, 0.25), (1.0, 0.0)), end2end=True)
    metadata = ModelMetadata(spec=spec, calibration=scale)
    assert ModelMetadata.from_dict(metadata.to_dict()) == metadata
    assert scale.of_classes(0.5) == pytest.approx((0.5, 1 / (1 + np.e)))
