from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from formats_samples import assert_agrees, assert_threads_agree, random_batch, require_installed

require_installed("torch")

import torch  # noqa: E402

from yolopose import YOLO  # noqa: E402
from yolopose.base.errors import UsageError, WeightsError  # noqa: E402
from yolopose.formats import open_runtime  # noqa: E402


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 4},
        {"dynamic": True},
        *(pytest.param(more, marks=pytest.mark.slow) for more in ({"half": True}, {"half": True, "dynamic": True})),
    ],
)
def test_output_equals_that_of_torch(options: dict, small: YOLO) -> None:
    runtime = open_runtime(small.export(format="torchscript", imgsz=[64, 96], verbose=False, **options), device="cpu")
    assert runtime.metadata.imgsz == (64, 96)
    dynamic = "dynamic" in options
    assert (runtime.metadata.dynamic, runtime.metadata.batch) == (dynamic, 0 if dynamic else options.get("batch", 1))
    batches = [random_batch(6, 64, 96)] + [random_batch(3, 40, 136), random_batch(1, 64, 64)] * dynamic
    assert_agrees(runtime, small, batches, 0.5 if "half" in options else 1e-3)


@pytest.fixture(scope="module")
def plain(small: YOLO) -> Path:
    return Path(small.export(imgsz=64, verbose=False))  # the format of files that name none


def test_is_the_default_format(plain: Path, small: YOLO) -> None:
    assert plain.suffix == ".torchscript"
    module = torch.jit.load(str(plain))  # as any program of torch would
    values = torch.from_numpy(random_batch(1, 64, 64)).float() / 255
    torch.testing.assert_close(module(values), small.model.eval()(values), atol=1e-3, rtol=1e-4)


def test_half_reduces_the_size_and_runs_in_float32_on_a_cpu(plain: Path, small: YOLO, tmp_path: Path) -> None:
    whole = tmp_path / "whole.torchscript"
    shutil.copyfile(plain, whole)
    path = Path(small.export(imgsz=64, half=True, verbose=False))
    assert path.stat().st_size < 0.7 * whole.stat().st_size
    module, values = torch.jit.load(str(path)), torch.from_numpy(random_batch(1, 64, 64)).float() / 255
    assert {weights.dtype for weights in module.parameters()} == {torch.float16}
    narrow, wide = module(values), module.float()(values)
    found = open_runtime(path, device="cpu").raw(random_batch(1, 64, 64))
    np.testing.assert_array_equal(found, wide.numpy())  # 32 bits between the weights
    assert not np.array_equal(found, narrow.numpy())
    np.testing.assert_allclose(found, narrow.numpy(), atol=0.5)
    shutil.copyfile(whole, plain)


def test_threads(plain: Path) -> None:
    assert_threads_agree(plain)


def rewritten(path: Path, target: Path, change: Callable[[dict], dict | str]) -> Path:
    """A copy with another record."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("config.txt"):
                changed = change(json.loads(content))
                content = (changed if isinstance(changed, str) else json.dumps(changed)).encode()
            copy.writestr(name, content)
    return target


def test_reads_metadata_of_the_reference_package(plain: Path, tmp_path: Path) -> None:
    path = rewritten(
        plain, tmp_path / "r.torchscript", lambda found: {k: v for k, v in found.items() if k != "yolopose"}
    )
    metadata = open_runtime(path).metadata
    assert metadata.spec.classes == ("class0", "class1", "class2")
    assert (metadata.spec.keypoints.shape, metadata.stride, metadata.imgsz) == ((5, 2), 8, (64, 64))
    assert (metadata.batch, metadata.dynamic) == (1, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: "no JSON", "metadata is missing"),
        (lambda found: {}, "metadata is missing"),
        (lambda found: {"names": {"0": "a"}, "task": "detect"}, "task 'detect'"),
        (lambda found: {"names": {"a": "a"}, "kpt_shape": [5, 2]}, "no valid metadata"),
        (
            lambda found: {"names": {"0": "a"}, "kpt_shape": [5, 2], "stride": 8, "imgsz": [64, 64]},
            "contradicts its metadata",
        ),
        (lambda found: {"yolopose": "{"}, "no valid metadata"),
    ],
)
def test_refuses_wrong_metadata(change: Callable[[dict], dict | str], words: str, plain: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=words):
        open_runtime(rewritten(plain, tmp_path / "w.torchscript", change))


@pytest.mark.parametrize("content", [b"", b"not a program", None])
def test_damaged_files(content: bytes | None, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.torchscript"
    path.write_bytes(plain.read_bytes()[:-5000] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path)


def test_optimize_needs_xnnpack(small: YOLO, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(module: object) -> None:
        raise RuntimeError("XNNPACK is not enabled.")

    monkeypatch.setattr("torch.utils.mobile_optimizer.optimize_for_mobile", refuse)
    with pytest.raises(UsageError, match="built without XNNPACK"):
        small.export(imgsz=64, optimize=True)
