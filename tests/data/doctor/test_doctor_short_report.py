"""The short report at the start of a training: silent on clean labels, six lines at most, bounded by a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import Faults

from yolopose.data import load_labels
from yolopose.data.dataset import load_dataset
from yolopose.data.doctor import log_short_report
from yolopose.data.doctor.image_hash import difference_hash, equal_groups, hamming, near_groups


def test_clean_labels_log_nothing(clean_yaml: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = load_dataset(clean_yaml)
    annotations = {split: load_labels(dataset, split, cache=False) for split in ("train", "val")}
    caplog.clear()
    log_short_report(dataset, annotations, 640)
    assert caplog.messages == []


def test_problems_take_six_lines_at_most(
    spoiled: tuple[Path, Faults], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(spoiled[0])
    annotations = {split: load_labels(dataset, split, cache=False) for split in ("train", "val")}
    caplog.clear()
    log_short_report(dataset, annotations, 640)
    (message,) = caplog.messages
    assert len(message.splitlines()) <= 6
    assert "yolo doctor data=" in message
    assert "`flip_idx` is the identity" in message
    caplog.clear()
    monkeypatch.setattr("yolopose.data.doctor.report._MAX_IMAGES", 20)
    log_short_report(dataset, annotations, 640)
    (message,) = caplog.messages
    assert "in a sample of 20 images" in message
    assert "no training instance" not in message  # a sample cannot show that


def image(seed: int, noise: float = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = np.kron(rng.integers(0, 256, (8, 8)), np.ones((20, 20))) + noise * rng.normal(size=(160, 160))
    return pixels.clip(0, 255).astype(np.uint8)


def thumb(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(16, 10, 16, 10).mean(axis=(1, 3)).astype(np.uint8)


def test_near_groups_against_all_pairs() -> None:
    images = [image(seed, noise) for seed in range(40) for noise in ((0, 4, 8) if seed % 4 == 0 else (0,))]
    seeds = [seed for seed in range(40) for _ in range(3 if seed % 4 == 0 else 1)]
    hashes = np.array([difference_hash(pixels) for pixels in images], dtype=np.uint64)
    thumbs = np.stack([thumb(pixels) for pixels in images])
    usable = np.ones(len(images), dtype=np.bool_)
    groups = near_groups(hashes, thumbs, usable)
    expected = [[row for row, other in enumerate(seeds) if other == seed] for seed in range(0, 40, 4)]
    assert sorted(group.tolist() for group in groups) == expected
    usable[expected[0][1:]] = False
    assert sorted(group.tolist() for group in near_groups(hashes, thumbs, usable)) == expected[1:]
    flat = np.full_like(thumbs, 90)
    assert near_groups(np.zeros_like(hashes), flat, np.ones(len(images), dtype=np.bool_)) == []


def test_hamming_counts_bits() -> None:
    values = np.array([0, 1, 2**64 - 1, 0b1011 << 40], dtype=np.uint64)
    assert hamming(values, np.uint64(0)).tolist() == [0, 1, 64, 3]


def test_equal_groups_ignore_files_that_were_not_read() -> None:
    groups = equal_groups(np.array([5, 0, 7, 5, 0, 7, 7, 9], dtype=np.uint64))
    assert [group.tolist() for group in groups] == [[0, 3], [2, 5, 6]]
