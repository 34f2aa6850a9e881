"""HostArray answers what a tensor answers, and says clearly what it cannot."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
import torch

from yolopose.base.errors import UsageError
from yolopose.results import HostArray
from yolopose.results.arrays import move_array, to_float, to_numpy

VALUES = np.array([[0.5, 1.5, 2.75], [3.5, -4.5, 5.25]], np.float32)


@pytest.mark.parametrize(
    "use",
    [
        lambda a: a.cpu().numpy().sum(),
        lambda a: a.detach().clone().tolist(),
        lambda a: a[0, 1].item(),
        lambda a: a[0, 1].cpu().numpy().tolist(),
        lambda a: a.int().cpu().tolist(),
        lambda a: a.float().tolist(),
        lambda a: a.to("cpu")[:, 1].tolist(),
        lambda a: a.to(torch.float64).numpy().dtype,
        lambda a: a.to(device="cpu", dtype=torch.int32).tolist(),
        lambda a: a.to("cpu", non_blocking=True).tolist(),
        lambda a: [int(x) for x in a[:, 0]],
        lambda a: [x.cpu().item() for x in a[:, 0]],
        lambda a: a[a > 1].cpu().numpy().tolist(),
        lambda a: float(a.max().cpu()),
        lambda a: f"{a[1, 2]:.2f}",
        lambda a: {0: "person"}[int(a[0, 0])],
        lambda a: a.numel(),
    ],
)
def test_host_array_matches_tensor(use):
    assert use(HostArray(VALUES)) == use(torch.from_numpy(VALUES))


def test_converts_to_numpy_implicitly():
    array = HostArray(VALUES)
    assert {3.5: "dog"}[array[1, 0]] == "dog"
    with pytest.raises(TypeError, match="unhashable"):
        hash(array)
    left, top, _ = array[0].astype(int)
    assert type(array.astype(int)) is np.ndarray
    assert cv2.circle(np.zeros((9, 9), np.uint8), (left, top), 1, 255).any()


def test_slices_stay_host_arrays_and_share_memory():
    array = HostArray(VALUES.copy())
    for part in (array[0], array[:, :2], array[0, 0], array[array > 1], array + 1, pickle.loads(pickle.dumps(array))):
        assert isinstance(part, HostArray)
    array.numpy()[0, 0] = 9
    assert array[0, 0] == 9
    assert type(array.numpy()) is np.ndarray
    clone = array.clone()
    clone[0, 0] = 1
    assert array[0, 0] == 9


@pytest.mark.parametrize("move", [lambda a: a.cuda(), lambda a: a.to("cuda:0"), lambda a: a.to(torch.device("cuda"))])
def test_refuses_gpu(move):
    with pytest.raises(UsageError, match=r"torch\.from_numpy"):
        move(HostArray(VALUES))


def test_functions_for_all_kinds_of_arrays():
    tensor = torch.from_numpy(VALUES).requires_grad_()
    assert type(to_numpy(tensor)) is np.ndarray
    assert type(to_numpy(HostArray(VALUES))) is np.ndarray
    assert type(move_array(VALUES, "cpu")) is np.ndarray
    with pytest.raises(UsageError, match="cuda"):
        move_array(VALUES, "cuda")
    assert to_float([[1, 2]]).dtype == np.float32
    assert to_float(torch.tensor([1, 2])).dtype == torch.float32
    assert to_float(np.array([1, 2])).dtype == np.float32
    assert to_float(VALUES) is VALUES
