"""PyTorch engine: run a `PoseModel` and select its candidates on the device."""

from __future__ import annotations

from yolopose.nn import PoseModel  # first: it sets how torch is loaded
from yolopose.nn.openmp import note_computation

# isort: split
import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolopose.base.cpu import cpu_supports_bf16
from yolopose.base.errors import UsageError
from yolopose.base.isolation import after_fork
from yolopose.base.log import warn_once
from yolopose.formats.graph_runtime import single_device
from yolopose.formats.metadata import first_line
from yolopose.geometry import cxcywh_to_xyxy
from yolopose.runtime import Batch, Candidates, from_end2end, split_keypoints
from yolopose.schema import ModelMetadata
from yolopose.weights import load_network


def pick_device(device: object = None) -> torch.device:
    """Convert `device=` to a torch device.

    Args:
        device: `None` or `""` (the first CUDA GPU, else the CPU), `"cpu"`, `0`, `"0"`, `"cuda"`, `"cuda:0"`, `[0]`,
            `"mps"` or a `torch.device`.

    Raises:
        UsageError: it is not a device, or this machine does not have it; the message lists what torch sees.
    """
    wanted = single_device(device)
    if wanted != "cpu" and getattr(torch.cuda, "_is_in_bad_fork", bool)():
        raise UsageError(
            "This process was forked from one that uses a GPU, and CUDA cannot be used in such a process. Start it "
            'with multiprocessing.get_context("spawn"), use the GPU only in the new process, or set device=cpu.'
        )
    if not wanted:
        wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, index_text = wanted.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "mps" and not index_text:
        if not torch.backends.mps.is_available():
            raise UsageError(f"device='mps' is an Apple GPU, which is not available: {_visible_devices()}")
        return torch.device("mps")
    if kind != "cuda" or not (index_text or "0").isdigit():
        raise UsageError(f"device={device!r} is not valid: use cpu, 0 (the first GPU), cuda:1 or mps.")
    index = int(index_text or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(f"device={device!r} is GPU {index}, which is not available: {_visible_devices()}")
    return torch.device("cuda", index)


def _visible_devices() -> str:
    count = torch.cuda.device_count()
    if count:
        names = ", ".join(f"{index} ({torch.cuda.get_device_name(index)})" for index in range(count))
        return f"torch {torch.__version__} sees the CPU and CUDA GPU {names}."
    built = "built for CUDA" if torch.version.cuda else "built without CUDA"
    return (
        f"torch {torch.__version__} ({built}) sees the CPU and no CUDA GPU. Use device=cpu, or install its GPU build."
    )


def load(path: Path, device: object = None, half: bool = False) -> TorchRuntime:
    """Open a weights file; see `Format.load`."""
    network, checkpoint = load_network(path)
    return TorchRuntime(network, device, half, checkpoint.metadata)


class TorchRuntime:
    """Inference with torch; implements `yolopose.runtime.Replicated`.

    Args:
        network: the network. A fused copy is used, so that later training does not change the results.
        device: see `pick_device`.
        half: compute in float16 on a GPU, in bfloat16 on a CPU with instructions for it. Positions are decoded in
            float32, and results are float32.
        metadata: metadata of the weights; that of the network if None. `end2end` and `uncertainty` select the output.
        compile: compile the network, which takes half a minute for the first image of a size: True, or a mode of
            `torch.compile`.

    Attributes:
        metadata: classes, keypoints, stride and input size.
        device: `cpu`, `cuda:0`, `mps`.
        half: whether 16 bits are used.
        network: the fused copy.

    Raises:
        UsageError: the device is not available, or the network does not have the output of `metadata`.
    """

    keep_branches = False
    survives_fork = True  # in one thread, see `yolopose.nn.openmp`

    def __init__(
        self,
        network: PoseModel,
        device: object = None,
        half: bool = False,
        metadata: ModelMetadata | None = None,
        compile: bool | str = False,
    ) -> None:
        note_computation()
        self._device = pick_device(device)
        self.device = str(self._device)
        on_cpu = self._device.type == "cpu"
        self.half = half and (not on_cpu or cpu_supports_bf16())
        if half and not self.half:
            warn_once("half=True has no effect: this CPU does not have 16-bit instructions, float32 is faster.")
        self.metadata = metadata or network.default_metadata()
        self._dtype = torch.float32 if not self.half else torch.bfloat16 if on_cpu else torch.float16
        self.network = _for_inference(network, self.metadata, self.keep_branches).to(self._device, self._dtype)
        # channels_last makes convolutions 15 to 25 % faster on CPUs, and in float16 on GPUs with tensor cores
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        self.compile = compile
        self._forward = _compile(self.network, compile) if compile else self.network

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network and keep candidates above `conf`; see `yolopose.runtime.Runtime.infer`.

        Raises:
            UsageError: the batch does not fit the memory of the GPU.
        """
        keypoints = self.metadata.spec.keypoints
        shape, states = keypoints.shape, keypoints.visibility
        uncertainty = self.metadata.uncertainty
        with torch.inference_mode():
            output = self._run(batch)
            if self.metadata.end2end:
                raw = output.cpu().numpy()
                return from_end2end(raw, shape, conf=conf, classes=classes, uncertainty=uncertainty, states=states)
            # selected on the device, so that only candidates are copied to the host
            rows, batch_idx = self._select(output, conf, max_nms, classes, multi_label)
            host = rows.cpu().numpy()
            host_idx = batch_idx.cpu().numpy()
        return Candidates(
            boxes=cxcywh_to_xyxy(host[:, :4]),
            scores=host[:, 4],
            classes=host[:, 5].astype(np.int64),
            batch_idx=host_idx,
            **split_keypoints(host[:, 6:], shape, uncertainty, states),
        )

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and return its whole output.

        Args:
            batch: (B, C, H, W), uint8 0…255 or float32 0…1.

        Returns:
            (B, 4+nc+K·D, A) float32: cx, cy, w, h, class scores, keypoints, in input pixels; with `metadata.end2end`
            final detections (B, N, 6+K·D).

        Raises:
            UsageError: the batch does not fit the memory of the GPU.
        """
        with torch.inference_mode():
            return self._run(batch).cpu().numpy()

    def embed(self, batch: Batch, layers: Sequence[int]) -> npt.NDArray[np.float32]:
        """Return (B, C) means of feature maps; see `yolopose.nn.PoseModel.pooled_features`.

        Args:
            batch: (B, C, H, W), uint8 0…255 or float32 0…1.
            layers: indices from 0.

        Raises:
            UsageError: the batch does not fit the memory of the GPU.
        """
        with torch.inference_mode():
            return self._run(batch, lambda values: self.network.pooled_features(values, layers)).cpu().numpy()

    def to_array(self, array: npt.NDArray[Any]) -> Tensor:
        """Return a host array as a tensor on the engine's device."""
        return torch.from_numpy(array).to(self._device)

    def forward(self, values: Tensor) -> Tensor:
        """Run the network on (B, C, H, W) values 0…1 and return its decoded output.

        Raises:
            UsageError: torch cannot compile the network.
        """
        if not self.compile:
            return self.network(values)
        try:
            return self._forward(values)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler and its tools may raise anything
            raise UsageError(
                f"compile={self.compile!r}: torch cannot compile the network: {first_line(error)} Omit compile, or "
                "install a C++ compiler (g++ or clang on the PATH)."
            ) from error

    def replicas(self, count: int) -> Sequence[TorchRuntime]:
        """Return engines for `count` threads; see `yolopose.runtime.Replicated.replicas`.

        A GPU computes one batch after another, and a compiled network cannot be shared between threads.
        """
        if self._device.type != "cpu" or self.compile:
            return [self]
        default = torch.get_num_threads()
        threads = max(1, default // count)
        return [_Replica(self, threads, default) for _ in range(min(count, default))]

    def _run(self, batch: Batch, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy()).to(self._device)
        try:
            values = pixels.to(self._dtype, memory_format=torch.channels_last)
            output = (forward or self.forward)(values if pixels.is_floating_point() else values.div_(255))
        except torch.cuda.OutOfMemoryError as error:
            shape = " × ".join(str(side) for side in batch.shape)
            raise UsageError(
                f"The GPU {self.device} does not have enough free memory for a batch of {shape}. "
                "Use a smaller batch or imgsz, half=True, or device=cpu."
            ) from error
        return output.float()

    def _select(
        self, raw: Tensor, conf: float, max_nms: int, classes: Sequence[int] | None, multi_label: bool
    ) -> tuple[Tensor, Tensor]:
        """Select candidates by the rules of `runtime.from_raw`.

        Returns:
            Rows (N, 6+K·D) cx, cy, w, h, score, class, keypoints, and their (N,) index in the batch.
        """
        nc = self.metadata.spec.nc
        scores = raw[:, 4 : 4 + nc]
        if multi_label and nc > 1:
            batch_idx, cls, anchor_idx = (scores > conf).nonzero(as_tuple=True)
            score = scores[batch_idx, cls, anchor_idx]
        else:
            top, best = scores.max(1)
            batch_idx, anchor_idx = (top > conf).nonzero(as_tuple=True)
            cls = best[batch_idx, anchor_idx]
            score = top[batch_idx, anchor_idx]
        if classes is not None:
            keep = torch.isin(cls, torch.tensor(list(classes), dtype=cls.dtype, device=cls.device))
            batch_idx, anchor_idx, cls, score = batch_idx[keep], anchor_idx[keep], cls[keep], score[keep]
        # by descending score, then stably by image
        order = score.argsort(descending=True, stable=True)
        order = order[batch_idx[order].argsort(stable=True)]
        if len(order) > max_nms:
            ordered = batch_idx[order]
            rank = torch.arange(len(ordered), device=ordered.device) - torch.searchsorted(ordered, ordered)
            order = order[rank < max_nms]
        batch_idx = batch_idx[order]
        values = raw[batch_idx, :, anchor_idx[order]]
        extra = torch.stack((score[order], cls[order].to(score.dtype)), 1)
        return torch.cat((values[:, :4], extra, values[:, 4 + nc :]), 1), batch_idx


class _Replica(TorchRuntime):
    """A `TorchRuntime` that computes on some of the cores and shares the network of another."""

    def __init__(self, original: TorchRuntime, threads: int, default_threads: int) -> None:
        self.__dict__.update(original.__dict__)
        self._threads = threads
        self._default_threads = default_threads

    def _run(self, batch: Batch, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        set_thread_count(self._threads, self._default_threads)
        return super()._run(batch, forward)


_local = threading.local()
_thread_count_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked process: replace the lock, which a thread of the parent may have held."""
    global _thread_count_lock
    _thread_count_lock = threading.Lock()


after_fork(_renew_lock)


def set_thread_count(threads: int, default_threads: int) -> None:
    """Set the number of threads for the layers that the calling thread runs, and for no other thread.

    Args:
        threads: number of threads.
        default_threads: number of threads for other and new threads.
    """
    if getattr(_local, "threads", None) == threads:
        return
    with _thread_count_lock:
        torch.get_num_threads()  # initializes this thread in torch, which would otherwise reset the count later
        torch.set_num_threads(threads)
        # torch also stores the count for new threads: a short-lived thread restores the default there
        restore = threading.Thread(target=torch.set_num_threads, args=(default_threads,))
        restore.start()
        restore.join()
    _local.threads = threads


def _for_inference(network: PoseModel, metadata: ModelMetadata, keep_branches: bool) -> PoseModel:
    """Return a fused copy with activations in place; branches that inference does not use are dropped by default."""
    network = copy.deepcopy(network).eval().select_output(metadata.end2end, metadata.uncertainty)
    network = network.scale_confidences(metadata.calibration).fuse(keep_branches).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.SiLU):
            module.inplace = True
    return network


def _compile(network: PoseModel, mode: bool | str) -> Any:
    if isinstance(mode, str):
        return torch.compile(network, mode=mode)
    return torch.compile(network, options={"freezing": True})
