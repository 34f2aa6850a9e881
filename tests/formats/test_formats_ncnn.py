from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from formats_samples import (
    assert_agrees,
    assert_threads_agree,
    modules_after_prediction,
    random_batch,
    require_installed,
)

from yolopose import YOLO
from yolopose.base.errors import UsageError, WeightsError
from yolopose.base.yamlfile import read_yaml, to_yaml
from yolopose.formats import open_runtime

require_installed("torch", "ncnn", "pnnx")


@pytest.fixture(scope="module")
def folder(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s_ncnn_model"
    shutil.move(small.export(format="ncnn", imgsz=[64, 96], verbose=False), target)
    return target


def test_output_equals_that_of_torch(folder: Path, small: YOLO) -> None:
    runtime = open_runtime(folder, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 1, False)
    assert_agrees(runtime, small, [random_batch(3, 64, 96)])
    assert_agrees(open_runtime(folder / "model.ncnn.param"), small, [random_batch(1, 64, 96)])


def test_threads(folder: Path) -> None:
    assert_threads_agree(folder)


def test_half_stores_16_bits(folder: Path, small: YOLO) -> None:
    half = Path(small.export(format="ncnn", imgsz=[64, 96], half=True, verbose=False))
    sizes = [(path / "model.ncnn.bin").stat().st_size for path in (half, folder)]
    assert sizes[0] < 0.6 * sizes[1]
    assert_agrees(open_runtime(half), small, [random_batch(1, 64, 96)], 0.5)


def test_files_and_public_metadata(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["metadata.yaml", "model.ncnn.bin", "model.ncnn.param"]
    record = read_yaml(folder / "metadata.yaml", "record")
    assert {key: record[key] for key in ("task", "stride", "imgsz", "kpt_shape", "names")} == {
        "task": "pose", "stride": 8, "imgsz": [64, 96], "kpt_shape": [5, 2],
        "names": {0: "class0", 1: "class1", 2: "class2"},
    }  # fmt: skip


def test_prediction_does_not_import_torch(folder: Path) -> None:
    assert "torch" not in modules_after_prediction(folder)


@pytest.mark.parametrize("options", [{"batch": 2}, {"dynamic": True}, {"opset": 18}])
def test_refuses_unsupported_options(options: dict, small: YOLO) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))}=.*is not supported by ncnn; .*onnx"):
        small.export(format="ncnn", imgsz=64, **options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: None, "metadata is missing"),
        (lambda found: {**found, "task": "detect"}, "task 'detect'"),
        (lambda found: {**found, "names": {0: "a"}}, "contradicts its metadata"),
        (lambda found: {**found, "imgsz": [64, 64]}, None),
    ],
)
def test_metadata_of_other_writers(change, words: str | None, folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "r_ncnn_model")
    record = change({k: v for k, v in read_yaml(path / "metadata.yaml", "record").items() if k != "yolopose"})
    (path / "metadata.yaml").unlink()
    if record is not None:
        (path / "metadata.yaml").write_text(to_yaml(record), encoding="utf-8")
    if words is None:
        assert open_runtime(path).metadata.spec.keypoints.shape == (5, 2)
        return
    with pytest.raises(WeightsError, match=words):
        open_runtime(path)


@pytest.mark.parametrize("damage", ["no weights", "cut weights", "no graph", "cut graph", "empty"])
def test_damaged_folders(damage: str, folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "d_ncnn_model")
    kind = ".bin" if "weights" in damage else ".param"
    file = path / f"model.ncnn{kind}"
    if damage == "empty":
        shutil.rmtree(path)
        path.mkdir()
    elif damage.startswith("no"):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"truncated or damaged|should hold one"):
        open_runtime(path)
