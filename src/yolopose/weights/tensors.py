"""Tensors out of the checked archive: storages stay shared, half precision becomes single."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from yolopose.weights.archive import Archive
from yolopose.weights.values import TensorRef


class Storages:
    """Reads storages of an archive when they are first asked for, each once.

    Args:
        archive: the open archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._flat: dict[tuple[str, bool], Tensor] = {}

    def tensor(self, ref: TensorRef, widen: bool) -> Tensor:
        """Return a tensor as a view of its storage; tensors of one storage share its memory.

        Args:
            ref: which one; its bounds were checked when it was made.
            widen: whether floats of other widths become float32.

        Raises:
            WeightsError: the storage's check sum is wrong.
        """
        key = (ref.storage.key, widen)
        if key not in self._flat:
            self._flat[key] = self._load(ref, widen)
        return self._flat[key].as_strided(ref.size, ref.stride, ref.offset)

    def _load(self, ref: TensorRef, widen: bool) -> Tensor:
        content = self._archive.read(f"data/{ref.storage.key}")
        if widen and ref.storage.dtype == "float16":  # by numpy: waking torch's threads for each tensor is slower
            return torch.from_numpy(np.frombuffer(content, "<f2").astype(np.float32))
        dtype: torch.dtype = getattr(torch, ref.storage.dtype)
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.float() if widen and flat.is_floating_point() else flat
