from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolopose.data.images import letterbox_batch
from yolopose.geometry import Letterbox


@pytest.mark.parametrize("auto", [True, False])
@pytest.mark.parametrize("shape", [(480, 640), (1080, 810), (64, 64), (1, 1), (7, 300), (300, 7), (33, 65)])
def test_matches_resize_and_border(shape: tuple[int, int], auto: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    fit = Letterbox.fit(shape, (64, 96), auto=auto)
    batch = letterbox_batch([image, image[::-1].copy()], [fit, fit])
    assert batch.shape == (2, 3, *fit.out)
    for found, source in zip(batch, (image, image[::-1]), strict=True):
        inner = cv2.resize(source, fit.inner[::-1], interpolation=cv2.INTER_LINEAR)
        bottom = fit.out[0] - fit.top - fit.inner[0]
        right = fit.out[1] - fit.left - fit.inner[1]
        gray = (114, 114, 114)
        expected = cv2.copyMakeBorder(inner, fit.top, bottom, fit.left, right, cv2.BORDER_CONSTANT, value=gray)
        np.testing.assert_array_equal(found, expected[:, :, ::-1].transpose(2, 0, 1))


def test_letterboxes_non_contiguous_image() -> None:
    whole = np.random.default_rng(1).integers(0, 256, (50, 80, 3), dtype=np.uint8)
    crop = whole[9:41, 5:69]
    fit = Letterbox.fit((32, 64), (32, 64))
    (found,) = letterbox_batch([crop], [fit])
    np.testing.assert_array_equal(found, crop[:, :, ::-1].transpose(2, 0, 1))
