"""What costs seconds is loaded only by what needs it; each case runs in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

import yolopose

HEAVY = ("torch", "cv2", "matplotlib", "onnxruntime", "rich", "PIL")
TORCH_FREE = [
    f"yolopose.{room}"
    for room in (
        "base.files",
        "schema",
        "geometry",
        "config",
        "zoo",
        "data",
        "results",
        "runtime",
        "track",
        "predict",
        "evaluate",
        "evaluate.tracking",
        "jobs",
        "track.smoothing",
    )
]


def loaded_after(code: str, names: tuple[str, ...]) -> str:
    script = f"import sys\n{code}\nprint(); print([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code", ["import yolopose", "from yolopose.cli import main; assert main(['help']) == 0", "import yolopose.model"]
)
def test_light_imports_load_nothing_heavy(code: str) -> None:
    heavy = HEAVY if "model" not in code else ("torch", "matplotlib")
    assert loaded_after(code, heavy) == "[]"


def test_public_names_are_loaded_on_first_use() -> None:
    code = "from yolopose import Boxes, Keypoints, PoseMetrics, Results; assert Results.__name__ == 'Results'"
    assert loaded_after(code, ("torch", "matplotlib", "onnxruntime")) == "[]"
    assert set(yolopose.__all__) <= set(dir(yolopose))
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = yolopose.Nothing


def test_lower_packages_do_not_load_torch() -> None:
    code = "\n".join(f"import {name}" for name in TORCH_FREE)
    assert loaded_after(code, ("torch", "matplotlib", "safetensors")) == "[]"
