from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import UsageError
from yolopose.config import (
    BenchmarkOptions,
    ExportOptions,
    PredictOptions,
    TrainOptions,
    TrainSettings,
    ValOptions,
    adjustable,
    benchmark_settings,
    export_settings,
    limit_workers,
    make_options,
    parse_classes,
    parse_devices,
    precision_bits,
    predict_settings,
    resolve_imgsz,
    round_imgsz,
    run_location,
    train_settings,
    val_settings,
)
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

SPEC = PoseSpec(classes=("cat", "dog"), keypoints=KeypointSchema(count=3))
DYNAMIC = ModelMetadata(spec=SPEC, stride=32)
FIXED = ModelMetadata(spec=SPEC, stride=32, imgsz=(96, 160), batch=4, dynamic=False)


@pytest.mark.parametrize(
    ("imgsz", "stride", "expected"),
    [(640, 32, (640, 640)), (641, 32, (672, 672)), ([100, 200], 64, (128, 256)), ((320,), 32, (320, 320))],
)
def test_rounds_imgsz_up_to_the_stride(imgsz: Any, stride: int, expected: tuple[int, int]) -> None:
    assert round_imgsz(imgsz, stride) == expected


def test_warns_when_imgsz_changes(capsys: pytest.CaptureFixture[str]) -> None:
    round_imgsz(129, 64)
    assert "imgsz=129 is not a multiple of the stride 64: rounded up to [192, 192]" in capsys.readouterr().err
    assert resolve_imgsz(97, FIXED) == (96, 160)
    assert "imgsz=97 is ignored" in capsys.readouterr().err
    assert resolve_imgsz([96, 160], FIXED) == (96, 160)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("classes", "expected"), [(None, None), (1, (1,)), ([1, 0], (1, 0))])
def test_parses_classes(classes: Any, expected: tuple[int, ...] | None) -> None:
    assert parse_classes(classes, SPEC.names) == expected


def test_refuses_unknown_classes() -> None:
    with pytest.raises(UsageError, match=r"unknown class 2; this network has 0 \(cat\), 1 \(dog\)"):
        parse_classes([0, 2], SPEC.names)


def test_refuses_an_empty_list_of_classes() -> None:
    with pytest.raises(UsageError, match=r"classes=\[\] selects no class"):
        parse_classes([], SPEC.names)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (None, ()), ("", ()), ("None", ()), (0, ("0",)), ("0,1", ("0", "1")), ([0, 1], ("0", "1")), ("CPU", ("cpu",)),
        ("cpu, cpu", ("cpu", "cpu")), ("cuda:1", ("cuda:1",)), ("[0, 1]", ("0", "1")), (("mps",), ("mps",)),
    ],
)  # fmt: skip
def test_parses_devices(device: Any, expected: tuple[str, ...]) -> None:
    assert parse_devices(device) == expected


def test_limits_workers_to_the_cpus() -> None:
    cpus = available_cpus()
    assert limit_workers(None) == min(8, cpus)
    assert [limit_workers(count) for count in (0, 1, 9999)] == [0, 1, cpus]


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        ({}, 32), ({"half": True}, 16), ({"int8": True}, 8), ({"quantize": 8}, 8), ({"quantize": "FP16"}, 16),
        ({"quantize": "fp32", "half": True}, 32),
    ],
)  # fmt: skip
def test_export_precision(options: dict[str, Any], bits: int) -> None:
    assert precision_bits(ExportOptions(**options)) == bits


def test_refuses_mixed_precision_in_export() -> None:
    with pytest.raises(UsageError, match="quantize=w8a16"):
        precision_bits(ExportOptions(quantize="w8a16"))


def test_run_folders_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", str(tmp_path))
    location = run_location(PredictOptions(), "predict")
    assert [location.create() for _ in range(2)] == [tmp_path / "pose/predict", tmp_path / "pose/predict2"]
    own = run_location(ValOptions(project=str(tmp_path / "p"), name="x", exist_ok=True), "val")
    assert own.create() == own.create() == tmp_path / "p/x"


def test_predict_settings() -> None:
    settings = predict_settings(PredictOptions(imgsz=100, classes=1, batch=3, device="0", save=True), DYNAMIC)
    assert (settings.imgsz, settings.conf, settings.classes) == ((128, 128), 0.25, (1,))
    assert (settings.batch, settings.rect, settings.device, settings.save) == (3, True, ("0",), True)
    fixed = predict_settings(PredictOptions(conf=0.0, batch=3), FIXED)
    assert (fixed.imgsz, fixed.conf, fixed.batch, fixed.rect) == ((96, 160), 0.0, 4, False)
    with pytest.raises(FrozenInstanceError):
        fixed.conf = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "metadata", "expected"),
    [
        ({}, DYNAMIC, ((640, 640), 0.001, 0.25, 16, True)),
        ({"imgsz": [64, 96], "conf": 0.5}, DYNAMIC, ((64, 96), 0.5, 0.5, 16, False)),
        ({"rect": False, "batch": 2}, DYNAMIC, ((640, 640), 0.001, 0.25, 2, False)),
        ({"batch": 11}, FIXED, ((96, 160), 0.001, 0.25, 8, False)),
        ({"batch": 1}, FIXED, ((96, 160), 0.001, 0.25, 4, False)),
    ],
)
def test_val_settings(options: dict[str, Any], metadata: ModelMetadata, expected: tuple[Any, ...]) -> None:
    settings = val_settings(ValOptions(**options), metadata)
    assert (settings.imgsz, settings.conf, settings.matrix_conf, settings.batch, settings.rect) == expected


def test_val_settings_check_classes() -> None:
    assert val_settings(ValOptions(classes=[1]), DYNAMIC).classes == (1,)
    assert val_settings(ValOptions(classes=[7], single_cls=True), DYNAMIC).classes is None
    for classes in ([7], []):
        with pytest.raises(UsageError, match="classes="):
            val_settings(ValOptions(classes=classes), DYNAMIC)


def test_train_settings() -> None:
    settings = train_settings(TrainOptions(imgsz=100, batch=4.0), 32)
    assert (settings.imgsz, settings.batch, settings.workers, settings.devices) == (128, 4, None, ())
    assert train_settings(TrainOptions(workers=9999), 32).workers == available_cpus()
    assert train_settings(TrainOptions(batch=0.5), 32).batch == 0.5
    for batch in (0, -2, 1.5):
        with pytest.raises(UsageError, match="not a number of images"):
            train_settings(TrainOptions(batch=batch), 32)


def test_callbacks_may_change_adjustable_settings() -> None:
    settings = train_settings(TrainOptions(), 32)
    changed = adjustable(settings)
    changed.val = False  # type: ignore[misc]
    assert (settings.val, changed.val, replace(changed, epochs=3).val) == (True, False, False)
    assert isinstance(changed, TrainSettings)


def test_export_and_benchmark_settings() -> None:
    settings = export_settings(ExportOptions(imgsz=[100, 200], classes=[0], half=True), DYNAMIC)
    assert (settings.imgsz, settings.conf, settings.classes, settings.bits) == ((128, 224), 0.25, (0,), 16)
    assert benchmark_settings(BenchmarkOptions(imgsz=100, name="b"), DYNAMIC).run.name == "b"


@pytest.mark.parametrize(
    ("fraction", "expected"), [(1, 1.0), (1.0, 1.0), (0.5, 0.5), (2, 2), (2.0, 2), (500, 500), ([0.5, 3], [0.5, 3])]
)
def test_fraction_is_a_share_a_count_or_a_list(fraction: Any, expected: Any) -> None:
    value = getattr(make_options("train", {"fraction": fraction}), "fraction")  # noqa: B009  # options of any mode
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("fraction", [0, 0.0, 1.5, -1, -0.5, [1.5], float("nan"), float("inf"), True, "half", [[1]]])
def test_refuses_impossible_fractions(fraction: Any) -> None:
    with pytest.raises(UsageError, match="fraction="):
        make_options("train", {"fraction": fraction})
