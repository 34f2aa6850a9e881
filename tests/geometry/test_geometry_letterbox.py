from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from yolopose.geometry import Letterbox

FIXTURE = Path(__file__).parents[1] / "fixtures/letterbox.json"


def test_reference_cases() -> None:
    cases = json.loads(FIXTURE.read_text())
    assert len(cases) >= 30
    for case in cases:
        fit = Letterbox.fit((case["h"], case["w"]), (640, 640), auto=case["auto"], scaleup=case["scaleup"])
        assert fit.out == (case["out_h"], case["out_w"]), case
        assert fit.inner == (case["inner_h"], case["inner_w"]), case
        assert (fit.top, fit.left) == (case["top"], case["left"]), case
        if "box_in" in case:
            box = fit.boxes_to_source(np.array([case["box_in"]], np.float32))
            np.testing.assert_allclose(box[0], case["box_back"], atol=2e-3, err_msg=str(case))
            points = fit.points_to_source(np.array(case["kpt_in"], np.float32))
            np.testing.assert_allclose(points, case["kpt_back"], atol=2e-3, err_msg=str(case))


def test_mapping_back_inverts_the_letterbox() -> None:
    fit = Letterbox.fit((300, 500), (640, 640), auto=True)
    gain_x, gain_y = fit.gain
    source = np.array([[[0, 0, 0.5], [500, 300, 0.5], [123.5, 77.25, 0.9]]], np.float64)
    inside = source * [gain_x, gain_y, 1] + [fit.left, fit.top, 0]
    np.testing.assert_allclose(fit.points_to_source(inside), source, atol=1e-9)


def test_mapping_back_clips_to_the_image() -> None:
    fit = Letterbox.fit((100, 200), (64, 64))
    points = np.array([[-50, -50, 0.3], [900, 900, 0.4]], np.float32)
    np.testing.assert_allclose(fit.points_to_source(points), [[0, 0, 0.3], [200, 100, 0.4]])
    np.testing.assert_allclose(fit.boxes_to_source(np.array([[-9, -9, 900, 900]], np.float32)), [[0, 0, 200, 100]])
