"""TorchScript: a traced module, run by torch itself, also in C++ and on phones."""

from __future__ import annotations

from yolopose.formats.pytorch import pick_device, set_thread_count  # first: it sets how torch is loaded
from yolopose.nn.openmp import note_computation

# isort: split
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.graph_runtime import GraphRuntime, warn_half_is_fixed
from yolopose.formats.metadata import first_line, metadata_json, parse_metadata, read_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

_METADATA = "config.txt"  # name of the extra file, as in the reference package


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> TorchscriptRuntime:
    """Open a TorchScript file of yolopose or the reference package; see `Format.load`."""
    warn_half_is_fixed(half, path)
    return TorchscriptRuntime(path, device)


class TorchscriptRuntime(GraphRuntime):
    """Inference with a traced module; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
        device: see `yolopose.formats.pytorch.pick_device`.
    """

    survives_fork = True

    def __init__(self, path: Path, device: object = None) -> None:
        super().__init__()
        note_computation()
        self._device = pick_device(device)
        self.device = str(self._device)
        self._threads = 0
        self._default_threads = torch.get_num_threads()
        extra = {_METADATA: b""}
        try:
            load_module: Any = torch.jit.load  # pyright: ignore[reportPrivateImportUsage]
            self._module = load_module(str(path), map_location=self._device, _extra_files=extra).eval()
        except RuntimeError as error:
            raise _open_error(path, error) from error
        self.metadata = read_metadata(path, parse_metadata(extra[_METADATA]))
        self._dtype = next(self._module.parameters(), torch.empty(0)).dtype
        try:
            if self._dtype == torch.float16 and self._device.type == "cpu":
                # CPUs without float16 arithmetic emulate it, ten times slower than float32
                self._module.float()
                self._dtype = torch.float32
            self.check_runs(path)
        except RuntimeError as error:
            raise _open_error(path, error) from error

    def _replica(self, threads: int) -> TorchscriptRuntime | None:
        if self._device.type != "cpu":
            return None
        replica = self.clone()
        replica._threads = threads
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        if self._threads:
            set_thread_count(self._threads, self._default_threads)
        pixels = torch.from_numpy(batch if batch.flags.writeable else batch.copy()).to(self._device)
        with torch.inference_mode():
            values = pixels.float() if pixels.is_floating_point() else pixels.float().div_(255)
            if len(batch) < size:
                values = torch.cat((values, values.new_zeros(size - len(batch), *values.shape[1:])))
            output = self._module(values.to(self._dtype))
        return output[: len(batch)].float().cpu().numpy()


def _open_error(path: Path, error: RuntimeError) -> WeightsError:
    # the message starts with a trace of the TorchScript program; the reason is its last line
    lines = [
        line for line in str(error).strip().splitlines() if line.strip() and not line.startswith(("  ", "Traceback"))
    ]
    reason = first_line(RuntimeError(lines[-1] if lines else type(error).__name__))
    return WeightsError(
        f"{path} cannot be opened by torch {torch.__version__}: {reason} The file may be truncated or damaged (export "
        "or copy it again), need a newer torch, or not be a traced pose network."
    )


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as TorchScript; see `Format.export`. `optimize` rewrites it for mobile CPUs.

    Raises:
        UsageError: this torch cannot rewrite it for mobile CPUs.
    """
    try:
        module = job.trace()
        if job.settings.optimize:
            module = _optimize_for_mobile(module)
    except UsageError:
        raise
    except Exception as error:  # tracing may raise anything
        raise ExportError(f"Converting the network to TorchScript failed: {first_line(error)}") from error
    module.save(str(path), _extra_files={_METADATA: metadata_json(job)})
    return ExportReport(f"{job.precision}{', optimized for mobile CPUs' * job.settings.optimize}")


def _optimize_for_mobile(module: Any) -> Any:
    from torch.utils.mobile_optimizer import optimize_for_mobile

    try:
        return optimize_for_mobile(module)
    except RuntimeError as error:
        if "XNNPACK" not in str(error):
            raise
        raise UsageError(
            f"optimize=True: torch {torch.__version__} is built without XNNPACK, which optimization for mobile CPUs "
            "needs. Omit optimize, or use format=executorch, which includes XNNPACK."
        ) from error
