"""TorchScript: a program of torch's own, for C++ and phones. It is the one format that torch itself runs."""

from __future__ import annotations

from yolopose.formats.pytorch import compute_on, pick_device  # it loads torch in the way that is wanted: first

# isort: split
import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.capture import traced
from yolopose.formats.devices import say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime
from yolopose.formats.metadata import first_line, read_record, record_in_text, record_text
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_RECORD = "config.txt"  # where the reference package keeps its own


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> TorchscriptRuntime:
    """Open a TorchScript file: one of ours, or one that the reference package wrote.

    Args:
        path: the file.
        device: see `yolopose.formats.pytorch.pick_device`.
        half: has no effect: the file's numbers are what they were exported as; on a CPU it is computed in float32.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    say_half_is_settled(half, path)
    return TorchscriptRuntime(path, device)


class TorchscriptRuntime(GraphRuntime):
    """Inference with a traced module; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
        device: see `load`.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu`, `cuda:0`.
    """

    def __init__(self, path: Path, device: object = None) -> None:
        super().__init__()
        self._device = pick_device(device)
        self.device = str(self._device)
        self._threads, self._usual = 0, torch.get_num_threads()
        kept = {_RECORD: b""}
        try:
            self._module = torch.jit.load(str(path), map_location=self._device, _extra_files=kept).eval()  # pyright: ignore[reportPrivateImportUsage]
        except RuntimeError as error:
            raise _unusable(path, error) from error
        self.metadata = read_record(path, record_in_text(kept[_RECORD]))
        self._dtype = next(self._module.parameters(), torch.empty(0)).dtype
        try:
            if self._dtype == torch.float16 and self._device.type == "cpu":
                # a processor without 16-bit arithmetic imitates it, ten times slower than in 32 bits
                self._module.float()
                self._dtype = torch.float32
            self._try_out(path)
        except RuntimeError as error:
            raise _unusable(path, error) from error

    def _replica(self, threads: int) -> TorchscriptRuntime | None:
        if self._device.type != "cpu":
            return None
        replica = copy.copy(self)
        replica._threads = threads
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        if self._threads:
            compute_on(self._threads, self._usual)
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy()).to(self._device)
        with torch.inference_mode():
            values = pixels.float() if pixels.is_floating_point() else pixels.float().div_(255)
            if len(batch) < size:
                values = torch.cat((values, values.new_zeros(size - len(batch), *values.shape[1:])))
            output = self._module(values.to(self._dtype))
        return output[: len(batch)].float().cpu().numpy()


def _unusable(path: Path, error: RuntimeError) -> WeightsError:
    # the text of its interpreter begins with a trace of the program; what went wrong stands last
    lines = [
        line for line in str(error).strip().splitlines() if line.strip() and not line.startswith(("  ", "Traceback"))
    ]
    said = first_line(RuntimeError(lines[-1] if lines else type(error).__name__))
    return WeightsError(
        f"{path} cannot be run: torch {torch.__version__} says: {said} The file may be cut off or damaged (export or "
        "copy it again), need a newer torch, or be no traced pose network."
    )


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as TorchScript.

    Args:
        job: the network and what is asked for; optimize rewrites it for mobile processors.
        path: the file to write.

    Returns:
        A few words on the file, for the log.

    Raises:
        UsageError: this torch cannot rewrite it for mobile processors.
        ExportError: the network cannot be traced.
    """
    try:
        module = traced(job)
        if job.options.optimize:
            module = _for_mobile(module)
    except UsageError:
        raise
    except Exception as error:  # whatever tracing meets
        raise ExportError(f"The network cannot be written as TorchScript: {first_line(error)}") from error
    module.save(str(path), _extra_files={_RECORD: record_text(job)})
    return f"{job.precision}{', optimized for mobile processors' * job.options.optimize}"


def _for_mobile(module: Any) -> Any:
    from torch.utils.mobile_optimizer import optimize_for_mobile

    try:
        return optimize_for_mobile(module)
    except RuntimeError as error:
        if "XNNPACK" not in str(error):
            raise
        raise UsageError(
            f"optimize=True: torch {torch.__version__} is built without XNNPACK, which rewriting for mobile processors "
            "takes. Leave optimize out, or export with format=executorch, which brings XNNPACK."
        ) from error
