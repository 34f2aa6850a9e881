"""The torch engine: runs a `PoseModel` and picks its candidates on the device."""

from __future__ import annotations

from yolopose.nn import PoseModel  # it loads torch in the way that is wanted, so it comes first

# isort: split
import copy
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolopose.base.cpu import cpu_supports_bf16
from yolopose.base.errors import UsageError
from yolopose.base.log import warn_once
from yolopose.formats.devices import single_device
from yolopose.geometry import cxcywh_to_xyxy
from yolopose.runtime import Batch, Candidates, from_end2end, split_keypoints
from yolopose.schema import ModelMetadata
from yolopose.weights import load_network


def pick_device(device: object = None) -> torch.device:
    """Read a device as users write it.

    Args:
        device: `None` or `""` (the first CUDA GPU, else the CPU), `"cpu"`, `0`, `"0"`, `"cuda"`, `"cuda:0"`, `[0]`,
            `"mps"` or a `torch.device`.

    Raises:
        UsageError: it is no device, or this machine does not have it; the text says what torch sees.
    """
    wanted = single_device(device)
    if not wanted:
        wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, number = wanted.partition(":")
    if kind == "cpu":
        return torch.device("cpu")
    if kind == "mps" and not number:
        if not torch.backends.mps.is_available():
            raise UsageError(f"device='mps' asks for an Apple GPU, which is not here: {_seen()}")
        return torch.device("mps")
    if kind != "cuda" or not (number or "0").isdigit():
        raise UsageError(f"device={device!r} is not understood: give cpu, 0 (the first GPU), cuda:1 or mps.")
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(f"device={device!r} asks for GPU {index}, which is not here: {_seen()}")
    return torch.device("cuda", index)


def _seen() -> str:
    count = torch.cuda.device_count()
    if count:
        names = ", ".join(f"{index} ({torch.cuda.get_device_name(index)})" for index in range(count))
        return f"torch {torch.__version__} sees the CPU and CUDA GPU {names}."
    built = "built for CUDA" if torch.version.cuda else "built without CUDA"
    return (
        f"torch {torch.__version__} ({built}) sees the CPU and no CUDA GPU. Use device=cpu, or install its GPU build."
    )


def load(path: Path, device: object = None, half: bool = False) -> TorchRuntime:
    """Open a weights file; see `yolopose.formats.open_runtime`."""
    network, checkpoint = load_network(path)
    return TorchRuntime(network, device, half, checkpoint.metadata)


class TorchRuntime:
    """Inference with torch; implements `yolopose.runtime.Runtime`.

    Args:
        network: the network. It is copied, and the copy is fused, so later training of it does not show here.
        device: see `pick_device`.
        half: compute in 16 bits: float16 on a GPU, bfloat16 on a processor that has instructions for it. Positions are
            decoded in float32 all the same, and results are float32.
        metadata: the record that came with the weights; made from the network when None. Its `end2end` and
            `uncertainty` choose what the network gives.
        compile: let torch compile the network (half a minute at the first image of a size): True, or a mode of
            `torch.compile`.

    Attributes:
        metadata: classes, keypoints, stride and input size.
        device: `cpu`, `cuda:0`, `mps`.
        half: whether 16 bits are in use.
        network: the fused copy.

    Raises:
        UsageError: the device is not here, or the network does not give what `metadata` says.
    """

    whole = False

    def __init__(
        self,
        network: PoseModel,
        device: object = None,
        half: bool = False,
        metadata: ModelMetadata | None = None,
        compile: bool | str = False,
    ) -> None:
        self._device = pick_device(device)
        self.device = str(self._device)
        on_cpu = self._device.type == "cpu"
        self.half = half and (not on_cpu or cpu_supports_bf16())
        if half and not self.half:
            warn_once("half=True has no effect here: this processor has no 16-bit instructions, float32 is faster.")
        self.metadata = metadata or network.default_metadata()
        self._dtype = torch.float32 if not self.half else torch.bfloat16 if on_cpu else torch.float16
        self.network = _for_inference(network, self.metadata, self.whole).to(self._device, self._dtype)
        # convolutions are 15 to 25 % faster so on the CPU, and float16 ones on GPUs with tensor cores
        self.network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stub lacks it
        self.compile = compile
        self._forward = _compiled(self.network, compile) if compile else self.network

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network and keeps what scores above `conf`; see `yolopose.runtime.Runtime.infer`.

        Raises:
            UsageError: the batch does not fit the memory of the GPU.
        """
        shape, uncertainty = self.metadata.spec.keypoints.shape, self.metadata.uncertainty
        with torch.inference_mode():
            output = self._run(batch)
            if self.metadata.end2end:
                return from_end2end(output.cpu().numpy(), shape, conf=conf, classes=classes, uncertainty=uncertainty)
            rows, image = self._select(output, conf, max_nms, classes, multi_label)
            host, places = rows.cpu().numpy(), image.cpu().numpy()
        points, sigmas = split_keypoints(host[:, 6:], shape, uncertainty)
        return Candidates(
            boxes=cxcywh_to_xyxy(host[:, :4]),
            scores=host[:, 4],
            classes=host[:, 5].astype(np.int64),
            points=points,
            batch_idx=places,
            sigmas=sigmas,
        )

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and returns its whole output.

        Args:
            batch: (B, 3, H, W) RGB, uint8 0…255 or float32 0…1.

        Returns:
            (B, 4+nc+K·D, A) float32: cx, cy, w, h, class scores, keypoints, in input pixels; with `metadata.end2end`
            finished detections (B, N, 6+K·D).

        Raises:
            UsageError: the batch does not fit the memory of the GPU.
        """
        with torch.inference_mode():
            return self._run(batch).cpu().numpy()

    def to_array(self, array: npt.NDArray[Any]) -> Tensor:
        """Return a host array as a tensor on the engine's device."""
        return torch.from_numpy(array).to(self._device)

    def forward(self, values: Tensor) -> Tensor:
        """Run the network on (B, 3, H, W) values 0…1; returns its decoded output.

        Raises:
            UsageError: torch cannot compile the network here.
        """
        if not self.compile:
            return self.network(values)
        try:
            return self._forward(values)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler and its tools meet
            raise UsageError(
                f"compile={self.compile!r}: torch cannot compile the network here ({_first_line(error)}). "
                "Leave compile out, or give torch a C++ compiler (g++ or clang on the PATH)."
            ) from error

    def replicas(self, count: int) -> Sequence[TorchRuntime]:
        """Return engines for `count` threads; see `yolopose.runtime.Replicated.replicas`.

        A GPU computes one batch after the other anyway, and a compiled network is not shared between threads.
        """
        if self._device.type != "cpu" or self.compile:
            return [self]
        usual = torch.get_num_threads()
        threads = max(1, usual // count)
        return [_Replica(self, threads, usual) for _ in range(min(count, usual))]

    def _run(self, batch: Batch) -> Tensor:
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy()).to(self._device)
        try:
            values = pixels.to(self._dtype, memory_format=torch.channels_last)
            output = self.forward(values if pixels.is_floating_point() else values.div_(255))
        except torch.cuda.OutOfMemoryError as error:
            shape = " × ".join(str(side) for side in batch.shape)
            raise UsageError(
                f"The GPU {self.device} has too little free memory for a batch of {shape}. "
                "Give a smaller batch or imgsz, half=True, or device=cpu."
            ) from error
        return output.float()

    def _select(
        self, raw: Tensor, conf: float, max_nms: int, classes: Sequence[int] | None, multi_label: bool
    ) -> tuple[Tensor, Tensor]:
        """Rows (N, 6+K·D) cx, cy, w, h, score, class, keypoints, and (N,) image; same rules as `runtime.from_raw`."""
        nc = self.metadata.spec.nc
        scores = raw[:, 4 : 4 + nc]
        if multi_label and nc > 1:
            image, cls, anchor = (scores > conf).nonzero(as_tuple=True)
            score = scores[image, cls, anchor]
        else:
            top, best = scores.max(1)
            image, anchor = (top > conf).nonzero(as_tuple=True)
            cls, score = best[image, anchor], top[image, anchor]
        if classes is not None:
            keep = torch.isin(cls, torch.tensor(list(classes), dtype=cls.dtype, device=cls.device))
            image, anchor, cls, score = image[keep], anchor[keep], cls[keep], score[keep]
        order = score.argsort(descending=True, stable=True)
        order = order[image[order].argsort(stable=True)]
        if len(order) > max_nms:
            places = image[order]
            rank = torch.arange(len(places), device=places.device) - torch.searchsorted(places, places)
            order = order[rank < max_nms]
        image, anchor = image[order], anchor[order]
        found = raw[image, :, anchor]
        extra = torch.stack((score[order], cls[order].to(score.dtype)), 1)
        return torch.cat((found[:, :4], extra, found[:, 4 + nc :]), 1), image


class _Replica(TorchRuntime):
    """A `TorchRuntime` that computes on some of the cores; shares the network of another."""

    def __init__(self, whole: TorchRuntime, threads: int, usual: int) -> None:
        self.__dict__.update(whole.__dict__)
        self._threads, self._usual = threads, usual

    def _run(self, batch: Batch) -> Tensor:
        compute_on(self._threads, self._usual)
        return super()._run(batch)


_own = threading.local()
_one_at_a_time = threading.Lock()


def compute_on(threads: int, usual: int) -> None:
    """Let torch compute on so many threads in the layers that the calling thread runs, and in no others.

    Args:
        threads: how many.
        usual: how many the program has chosen.
    """
    if getattr(_own, "threads", None) == threads:
        return
    with _one_at_a_time:
        torch.get_num_threads()  # makes torch set up this thread, which would undo what is set next
        torch.set_num_threads(threads)
        # torch remembers the number for threads to come as well: another thread says the usual one again
        other = threading.Thread(target=torch.set_num_threads, args=(usual,))
        other.start()
        other.join()
    _own.threads = threads


def _for_inference(network: PoseModel, metadata: ModelMetadata, whole: bool) -> PoseModel:
    """A fused copy that computes activations in place, without what inference does not use unless `whole`."""
    network = copy.deepcopy(network).eval().select_output(metadata.end2end, metadata.uncertainty)
    network = network.fuse(whole).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.SiLU):
            module.inplace = True
    return network


def _compiled(network: PoseModel, how: bool | str) -> Any:
    if isinstance(how, str):
        return torch.compile(network, mode=how)
    return torch.compile(network, options={"freezing": True})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
