from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from formats_samples import assert_agrees, assert_threads_agree, random_batch, require_installed

from yolopose import YOLO
from yolopose.base.errors import UsageError, WeightsError
from yolopose.base.yamlfile import read_yaml
from yolopose.formats import open_runtime

require_installed("torch", "executorch")
pytestmark = pytest.mark.slow  # its converter takes some seconds to be imported


@pytest.fixture(scope="module")
def folder(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s_executorch_model"
    shutil.move(small.export(format="executorch", imgsz=[64, 96], batch=2, verbose=False), target)
    return target


def test_output_equals_that_of_torch(folder: Path, small: YOLO) -> None:
    runtime = open_runtime(folder, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 2, False)
    assert_agrees(runtime, small, [random_batch(3, 64, 96)])
    assert_agrees(open_runtime(folder / "model.pte"), small, [random_batch(1, 64, 96)])


def test_threads(folder: Path) -> None:
    assert_threads_agree(folder)


def test_public_metadata(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["metadata.yaml", "model.pte"]
    assert read_yaml(folder / "metadata.yaml", "record")["kpt_shape"] == [5, 2]


@pytest.mark.parametrize("option", ["dynamic", "half"])
def test_refuses_unsupported_options(option: str, small: YOLO) -> None:
    with pytest.raises(UsageError, match=f"{option}=True is not supported by ExecuTorch"):
        small.export(format="executorch", **{option: True})


@pytest.mark.parametrize("content", [b"", b"not a program" * 10, None])
def test_damaged_files(content: bytes | None, folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "d_executorch_model") / "model.pte"
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path.parent)
    path.unlink()
    with pytest.raises(WeightsError, match=r"should hold one \.pte"):
        open_runtime(path.parent)
