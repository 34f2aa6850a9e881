from __future__ import annotations

import numpy as np
import pytest
from source_images import load_all

from yolopose.base.errors import SourceError, UsageError
from yolopose.predict.sources import open_source

torch = pytest.importorskip("torch")


def test_splits_batch_into_images() -> None:
    batch = torch.rand(2, 3, 32, 64, requires_grad=True)
    items = list(load_all(open_source([np.zeros((4, 5, 3), np.uint8), batch]), ahead=1))
    assert [item.path for item in items] == ["image0.jpg", "image1.jpg", "image2.jpg"]
    for item, planes in zip(items[1:], batch.detach().numpy(), strict=True):
        assert item.tensor is not None
        assert item.tensor.dtype == np.float32
        np.testing.assert_array_equal(item.tensor, planes)
        np.testing.assert_allclose(item.image[:, :, ::-1], planes.transpose(1, 2, 0) * 255, atol=0.51)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_float_types_and_single_image(dtype: torch.dtype) -> None:
    (item,) = load_all(open_source(torch.full((3, 32, 32), 0.5, dtype=dtype)), ahead=1)
    assert item.tensor is not None
    assert (item.tensor == 0.5).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_divides_values_up_to_255(dtype: torch.dtype, capsys: pytest.CaptureFixture[str]) -> None:
    (item,) = load_all(open_source(torch.full((1, 3, 32, 32), 51, dtype=dtype)), ahead=1)
    assert item.tensor is not None
    np.testing.assert_allclose(item.tensor, 0.2)
    assert "divided by 255" in capsys.readouterr().err


def test_accepts_small_overshoot() -> None:
    (item,) = load_all(open_source(torch.full((1, 3, 32, 32), 1.05)), ahead=1)
    assert item.tensor is not None
    np.testing.assert_allclose(item.tensor, 1.05)


@pytest.mark.parametrize(
    "shape", [(1, 3, 33, 32), (1, 3, 32, 40), (1, 1, 32, 32), (32, 32), (1, 32, 32, 3), (0, 3, 32, 32)]
)
def test_refuses_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"multiples of 32|not a network input"):
        open_source(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_non_finite_values(value: float) -> None:
    batch = torch.zeros(1, 3, 32, 32)
    batch[0, 1, 2, 3] = value
    with pytest.raises(SourceError, match="NaN"):
        open_source(batch)


@pytest.mark.parametrize("values", [(-2.1, 2.6), (-1.0, 1.0), (-0.5, 0.5), (-124.0, 151.0), (0.0, 65535.0)])
def test_refuses_normalized_values(values: tuple[float, float]) -> None:
    batch = torch.linspace(*values, 3 * 32 * 32).reshape(1, 3, 32, 32)
    with pytest.raises(SourceError, match=r"normalized|values up to"):
        open_source(batch)


def test_integers_are_never_read_as_0_to_1() -> None:
    (item,) = load_all(open_source(torch.ones((1, 3, 32, 32), dtype=torch.uint8)), ahead=1)
    assert item.tensor is not None
    np.testing.assert_allclose(item.tensor, 1 / 255)
