"""Device assignment of distributed training."""

from __future__ import annotations

import pytest
import torch
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import TrainError, UsageError
from yolopose.config import make_options
from yolopose.train.distributed import launcher
from yolopose.train.distributed.devices import DeviceAssignment, assign_devices

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the machine has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "made up")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of the second of two torchrun processes."""
    variables = {
        "RANK": 1,
        "WORLD_SIZE": 2,
        "LOCAL_RANK": 1,
        "LOCAL_WORLD_SIZE": 2,
        "MASTER_PORT": 1,
        "MASTER_ADDR": "x",
    }
    for key, value in variables.items():
        monkeypatch.setenv(key, str(value))


@pytest.mark.parametrize("device", ["0,1", (0, 1), [0, 1], "cuda:0,cuda:1", "0, 1"])
def test_one_process_per_gpu(gpus, device):
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    assert assign_devices(device) == DeviceAssignment(first, (second,), 2, 2)


@pytest.mark.parametrize("device", [None, "cpu", ["cpu"]])
def test_one_device_uses_this_process(device):
    assert assign_devices(device) == DeviceAssignment(CPU)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("0,0", "names a GPU twice"),
        ("0,cpu", "of one type"),
        ("0,1,2", "one process on each of 3 devices.*GPU 2, which is not available"),
    ],
)
def test_refuses_incompatible_devices(gpus, device, message):
    with pytest.raises(UsageError, match=message):
        assign_devices(device)


def test_a_launcher_assigns_each_process_its_device(gpus, launched):
    assert (
        assign_devices(None)
        == assign_devices("cuda")
        == DeviceAssignment(torch.device("cuda", 1), size=2, local_size=2)
    )
    assert assign_devices("cpu") == DeviceAssignment(CPU, size=2, local_size=2)


@pytest.mark.parametrize("device", ["0,1", 0, "cuda:1", "mps", "cpu,cpu"])
def test_refuses_named_devices_under_a_launcher(gpus, launched, device):
    with pytest.raises(UsageError, match=r"contradicts the launcher.*started 2 processes.*Omit `device`"):
        assign_devices(device)


def test_refuses_more_launched_processes_than_gpus(launched, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="2 processes on this machine, and torch sees 1 CUDA GPUs"):
        assign_devices("cuda")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": [0, 1]}, "device=0,1 trains with one process on each of 2 devices.*no CUDA GPU"),
        ({"device": "cpu,cpu", "batch": 5}, "batch=5 .*2 processes.*a multiple of 2, such as batch=4"),
    ],
)
def test_impossible_devices_or_batches_write_nothing(tmp_path, options, message):
    data, model = make_world(tmp_path / "blocks", images=2)
    with pytest.raises(UsageError, match=message):
        YOLO(model).train(data=data, project=str(tmp_path / "runs"), **{**FAST, **options})
    assert not (tmp_path / "runs").exists()


def test_reads_device_names_in_a_list():
    assert make_options("train", {"device": ["cpu", "cpu"]}).device == "cpu,cpu"


def test_a_worker_that_cannot_start_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "_WORKER_CODE", "import sys; sys.exit(3)")
    data, model = make_world(tmp_path / "blocks", images=2)
    with pytest.raises(TrainError, match="rank 1 ended with status 3 before the training began"):
        YOLO(model).train(data=data, project=str(tmp_path / "runs"), **{**FAST, "device": "cpu,cpu"})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("device", "fits", "whole"), [("cpu", 8, 8), ("cpu", 9, 8), ("cpu", 1, 2), ("cuda", 8, 16)])
def test_global_batch(device, fits, whole):
    assert DeviceAssignment(torch.device(device), size=2, local_size=2).global_batch(fits) == whole
