"""A format of another package: a traced module with metadata, in a `.traced` file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from yolopose.base.errors import ExportError
from yolopose.formats import ExportJob, ExportReport, FormatInfo, metadata_json, parse_metadata, read_metadata
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, require_cpu


class TracedRuntime(GraphRuntime):
    def __init__(self, path: Path) -> None:
        super().__init__()
        extra = {"metadata": b""}
        self._module = torch.jit.load(str(path), _extra_files=extra)
        self._buffer = InputBuffer()
        self.metadata = read_metadata(path, parse_metadata(extra["metadata"]))

    def _run(self, batch: np.ndarray, size: int) -> np.ndarray:
        with torch.inference_mode():
            return self._module(torch.from_numpy(self._buffer.fill(batch, size))).numpy()[: len(batch)]


class TracedFormat:
    info = FormatInfo(
        name="traced",
        title="traced module",
        suffixes=(".traced",),
        about="example of a plugin",
        options=("batch",),
        run_requires=("torch",),
        export_requires=("torch",),
    )

    def load(self, path: Path, device: object = None, half: bool = False) -> TracedRuntime:
        require_cpu(device, self.info.title)
        return TracedRuntime(path)

    def export(self, job: ExportJob, path: Path) -> ExportReport:
        try:
            job.trace().save(str(path), _extra_files={"metadata": metadata_json(job)})
        except RuntimeError as error:
            raise ExportError(f"Tracing the network failed: {error}") from error
        return ExportReport(job.precision)
