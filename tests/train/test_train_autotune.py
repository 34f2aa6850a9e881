"""Compute configuration: defaults, autotune search and cache, resuming."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.cpu import available_cpus
from yolopose.base.settings import cache_dir
from yolopose.config import TrainOptions
from yolopose.train import autotune
from yolopose.train.autotune import Tunable, search, workers_needed
from yolopose.train.compute_config import ComputeConfig, default_config, resumed_config
from yolopose.train.data import load_data
from yolopose.weights import read_checkpoint

CPU = torch.device("cpu")
DEFAULT = ComputeConfig("cpu", 4, "fp32", True, 2)
NO_DATA: Any = None  # where no sample is made
ALL = Tunable(threads=True, amp=True, channels_last=True, workers=True)


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Any]:
    """Options of runs with autotune."""
    return {**FAST, "project": tmp_path / "runs", "autotune": True, "val": False}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[ComputeConfig]:
    """Configurations that were timed; only channels first is faster, by a factor of two."""
    seen: list[ComputeConfig] = []

    def rate(_: object, config: ComputeConfig) -> float:
        seen.append(config)
        return 1.0 if config.channels_last else 2.0

    monkeypatch.setattr(autotune.StepTimer, "rate", rate)
    monkeypatch.setattr(autotune, "sample_seconds", lambda *_: 0.1)
    monkeypatch.setattr(autotune, "_threads_given", lambda: False)
    return seen


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (lambda config: 1.0, DEFAULT),
        (lambda config: 1.0 + 0.04 * (config.amp == "bf16"), DEFAULT),  # within the noise
        (lambda config: 1.0 + (config.amp == "bf16"), replace(DEFAULT, amp="bf16")),
        (lambda config: 2.0 - config.channels_last, replace(DEFAULT, channels_last=False)),
        (lambda config: 1.0 / config.threads, replace(DEFAULT, threads=2)),
        (lambda config: 2.0 if config.threads == 3 else 1.0, replace(DEFAULT, threads=3)),
        (
            lambda config: 0.1 * config.threads + (config.amp == "bf16") - config.channels_last,
            ComputeConfig("cpu", 4, "bf16", False, 2),
        ),
        # bfloat16 is faster only with channels last
        (
            lambda config: {"fp32": 2.0, "bf16": 3.0 if config.channels_last else 1.0}[config.amp],
            replace(DEFAULT, amp="bf16"),
        ),
    ],
)
def test_search_selects_the_fastest(rates: Any, expected: ComputeConfig) -> None:
    config, rate = search(DEFAULT, ALL, rates)
    assert config == expected
    assert rate == rates(expected)


@pytest.mark.parametrize("fixed", ["threads", "amp", "channels_last"])
def test_given_settings_are_not_searched(fixed: str) -> None:
    seen: list[ComputeConfig] = []
    config, _ = search(
        DEFAULT, replace(ALL, **{fixed: False}), lambda config: (seen.append(config), len(seen) * 2.0)[1]
    )
    assert {getattr(one, fixed) for one in seen} == {getattr(DEFAULT, fixed)}
    assert len({str(one) for one in seen}) == len(seen) > 1
    assert config != DEFAULT


def test_tunable_from_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", autotune.physical_cores)
    assert Tunable.from_settings(TrainOptions()) == ALL
    given = TrainOptions(amp="fp32", channels_last=True, workers=3)
    assert Tunable.from_settings(given) == Tunable(threads=True, amp=False, channels_last=False, workers=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    assert not Tunable.from_settings(TrainOptions()).threads
    monkeypatch.setattr(torch, "get_num_threads", autotune.physical_cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not Tunable.from_settings(TrainOptions()).threads


@pytest.mark.parametrize(
    ("sample", "image", "most", "expected"), [(0.01, 1, 8, 1), (0.1, 0.1, 8, 2), (1, 0.1, 8, 8), (1, 1, 0, 0)]
)
def test_workers_needed(sample: float, image: float, most: int, expected: int) -> None:
    assert workers_needed(sample, image, most) == expected


@pytest.mark.parametrize(
    ("amp", "device", "expected"),
    [
        (True, "cpu", "fp32"), (False, "cpu", "fp32"), ("bf16", "cpu", "bf16"), (True, "cuda", "fp16"),
        (False, "cuda", "fp32"), ("bf16", "cuda", "bf16"), (True, "mps", "fp32"),
    ],
)  # fmt: skip
def test_precision_follows_from_option_and_device(amp: Any, device: str, expected: str) -> None:
    assert default_config(TrainOptions(amp=amp), torch.device(device)).amp == expected


def test_measures_once_per_input_size(world, measured) -> None:
    data, model_yaml = world
    network = YOLO(model_yaml).model
    options = TrainOptions(data=str(data), autotune=True, imgsz=64)
    first, second = (autotune.autotune(network, NO_DATA, options, CPU) for _ in range(2))
    count = len(measured)
    assert count > 1
    assert first.state_dict() == second.state_dict()
    assert not first.channels_last
    assert str(second).endswith("channels first, samples by 1 process (autotune, measured before on this machine)")
    autotune.autotune(network, NO_DATA, replace(options, imgsz=96), CPU)
    assert len(measured) == 2 * count


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:40], lambda text: "[]", lambda text: text.replace('"fp32"', '"int3"'),
        lambda text: text.replace('"workers": 1', '"workers": 999'),
        lambda text: text.replace('"workers": 1', '"x": 1'),
        lambda text: text.replace('"threads": ', '"threads": -'),
        lambda text: text.replace('"key": "', '"key": "x'),
    ],
)  # fmt: skip
def test_a_damaged_cache_is_measured_again(spoil: Any, world, measured, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    data, model_yaml = world
    network = YOLO(model_yaml).model
    options = TrainOptions(data=str(data), autotune=True, imgsz=64)
    expected = autotune.autotune(network, NO_DATA, options, CPU)
    (file,) = (cache_dir() / "autotune").iterdir()
    text = file.read_text()
    assert spoil(text) != text
    file.write_text(spoil(text))
    measured.clear()
    assert autotune.autotune(network, NO_DATA, options, CPU).state_dict() == expected.state_dict()
    assert measured
    assert json.loads(file.read_text())["config"] == expected.state_dict()


def test_compiled_networks_are_not_measured(world, measured) -> None:
    data, model_yaml = world
    given = TrainOptions(data=str(data), autotune=True, compile=True)
    assert autotune.autotune(YOLO(model_yaml).model, NO_DATA, given, CPU) == default_config(given, CPU)
    assert not measured
    assert not (cache_dir() / "autotune").exists()


@pytest.mark.parametrize("options", [{}, {"deterministic": False}], ids=str)
def test_nothing_is_measured_without_autotune(options, world, runs, measured) -> None:
    data, model_yaml = world
    YOLO(model_yaml).train(data=data, **{**runs, "autotune": False, "epochs": 1, **options})
    assert not measured
    assert not (cache_dir() / "autotune").exists()


def test_explicit_workers_count_as_given(world, measured) -> None:
    network = YOLO(world[1]).model
    for workers in (8, 3):  # 8 is also the default
        measured.clear()
        options = TrainOptions(data=str(world[0]), autotune=True, workers=workers)
        assert not Tunable.from_settings(options).workers
        config = autotune.autotune(network, NO_DATA, options, CPU)
        assert config.workers == min(workers, available_cpus())
    assert resumed_config(DEFAULT.state_dict(), TrainOptions(workers=8), CPU, new_workers=True).workers == min(
        8, available_cpus()
    )


def test_a_resumed_run_keeps_its_compute_config(world, runs, measured, monkeypatch, caplog) -> None:
    monkeypatch.setattr("yolopose.base.log.LOGGER.propagate", True)
    data, model_yaml = world
    whole = YOLO(model_yaml)
    whole.train(data=data, name="whole", **runs)
    broken = YOLO(model_yaml)
    broken.add_callback("on_train_epoch_end", lambda trainer: trainer.epoch == 1 and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        broken.train(data=data, name="broken", **runs)
    assert measured
    for file in (cache_dir() / "autotune").iterdir():
        file.unlink()
    monkeypatch.setattr(autotune.StepTimer, "rate", lambda *_: 1 / 0)
    resumed = YOLO(broken.trainer.last)
    resumed.train(resume=True)
    shown = [line for line in caplog.messages if line.startswith("Compute: ")]
    assert shown  # the others were told to be quiet
    assert all(line.endswith("channels first, samples by threads (as when the run began).") for line in shown)
    order = torch.channels_last
    assert not resumed.trainer.model.state_dict()["model.1.conv.weight"].is_contiguous(memory_format=order)
    one, two = (read_checkpoint(model.trainer.best).state for model in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_config_of_another_device_or_version_is_replaced() -> None:
    options = TrainOptions(workers=0)
    stored = ComputeConfig("cuda", 3, "fp16", False, 0).state_dict()
    assert resumed_config(stored, options, CPU) == default_config(options, CPU)
    assert resumed_config(stored, options, torch.device("cuda")).threads == 3
    assert resumed_config(None, options, CPU).amp == "fp32"  # checkpoints of early versions have no configuration
    assert resumed_config(DEFAULT.state_dict(), options, CPU) == replace(
        DEFAULT, workers=0, origin="as when the run began"
    )


def test_restores_the_callers_threads(world, runs, monkeypatch) -> None:
    data, model_yaml = world
    model, inside = YOLO(model_yaml), []
    before = torch.get_num_threads()

    def stop(trainer: Any) -> None:
        inside.append(torch.get_num_threads())
        raise ZeroDivisionError

    model.add_callback("on_train_epoch_start", stop)
    monkeypatch.setattr("yolopose.train.setup.autotune", lambda *_: replace(DEFAULT, threads=before + 1, workers=0))
    with pytest.raises(ZeroDivisionError):
        model.train(data=data, **runs)
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_a_real_measurement_is_valid_and_changes_nothing(world, monkeypatch) -> None:
    monkeypatch.setattr(autotune, "_threads_given", lambda: False)
    data, model_yaml = world
    network = YOLO(model_yaml).model
    options = TrainOptions(data=str(data), autotune=True, imgsz=64, batch=4)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    config = autotune.autotune(network, load_data(options, 3), options, CPU)
    assert config.origin.startswith("autotune, measured in")
    assert 1 <= config.workers <= available_cpus()
    timer = autotune.StepTimer(network, options)
    assert timer.rate(DEFAULT) > 0
    timer._end = 0.0
    assert timer.rate(DEFAULT) == 0
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert all(torch.equal(weights[name], value) for name, value in network.state_dict().items())
