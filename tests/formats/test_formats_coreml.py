from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from formats_samples import require_installed

from yolopose import YOLO
from yolopose.base.errors import ExportError, UsageError, WeightsError

require_installed("torch", "coremltools")
pytestmark = pytest.mark.slow  # its converter takes some seconds to be imported

from yolopose.formats import coreml as room  # noqa: E402
from yolopose.schema import PoseSpec  # noqa: E402


@pytest.fixture(scope="module")
def package(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s.mlpackage"
    shutil.move(small.export(format="coreml", imgsz=[64, 96], verbose=False), target)
    return target


def test_describes_the_network(package: Path, small: YOLO) -> None:
    model, metadata = room._read_package(package, run=False)
    assert metadata.spec == small.spec
    assert (metadata.imgsz, metadata.batch, metadata.dynamic, metadata.stride) == ((64, 96), 1, False, 8)
    about = model.get_spec().description
    image = about.input[0].type.imageType
    assert (about.input[0].name, image.height, image.width) == ("image", 64, 96)
    assert list(about.output[0].type.multiArrayType.shape) == [1, 4 + 3 + 5 * 2, 16 * 24 + 8 * 12]
    assert about.metadata.userDefined["kpt_shape"] == "[5, 2]"


def test_logs_what_was_checked(small: YOLO, capsys: pytest.CaptureFixture[str]) -> None:
    small.export(format="mlpackage", imgsz=64, half=True)
    shown = capsys.readouterr()
    assert "float16" in shown.out
    assert ("Not compared with torch: CoreML packages run on macOS only" in shown.out) == (sys.platform != "darwin")


def test_half_reduces_the_size(package: Path, small: YOLO) -> None:
    half = Path(small.export(format="coreml", imgsz=[64, 96], half=True, verbose=False))
    sizes = [sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) for path in (half, package)]
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS runs it")
def test_refuses_to_run_on_other_systems(package: Path) -> None:
    with pytest.raises(UsageError, match="runs on macOS and iOS only"):
        YOLO(package)


def test_removes_a_package_of_another_network(small: YOLO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(small, "model_name", "gone.yaml")
    other = PoseSpec(classes=("a", "b", "c"), keypoints=small.spec.keypoints)
    honest = room.read_metadata

    def changed(*given):
        found = honest(*given)
        return type(found)(**{name: getattr(found, name) for name in found.__slots__} | {"spec": other})

    monkeypatch.setattr(room, "read_metadata", changed)
    with pytest.raises(ExportError, match="does not describe the exported network"):
        small.export(format="coreml", imgsz=64)
    assert not list(tmp_path.iterdir())


def test_damaged_packages(package: Path, tmp_path: Path) -> None:
    path = shutil.copytree(package, tmp_path / "d.mlpackage")
    next(path.rglob("*.mlmodel")).write_bytes(b"no model")
    with pytest.raises(WeightsError, match="incomplete or damaged"):
        room._read_package(path, run=False)
