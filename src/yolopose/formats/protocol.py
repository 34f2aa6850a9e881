"""What a file format provides (`Format`, `FormatInfo`) and what its `export` receives and returns.

Built-in formats and those of other packages (entry point group `yolopose.formats`) implement the same protocol; see
docs/exporting.md for an example.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from yolopose.formats.metadata import LEVELS, level_names
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:  # the registry imports this module at each start: no heavy imports
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from yolopose.config import ExportSettings
    from yolopose.formats.agreement import Agreement
    from yolopose.formats.export_modules import NmsConfig
    from yolopose.formats.int8 import Calibration
    from yolopose.nn import PoseModel
    from yolopose.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatInfo:
    """Static description of a format: what help, errors, `yolo formats` and the loader need without importing it.

    Attributes:
        name: value of `format=`.
        title: name for messages.
        suffixes: endings of its files, with a leading dot; without one, endings of folder names. The first is used by
            export.
        about: a few words for `yolo formats`.
        aliases: other values of `format=`.
        options: supported options of `yolo export`, in addition to `imgsz`, `data` and `device`.
        run_requires: import names of the packages that running a file needs.
        export_requires: import names of the packages that writing a file needs.
        int8_requires: packages that `int8=True` needs in addition (instead, if `int8_toolchain` is set).
        exportable: whether `export` is implemented; False for a format that can only be run.
        weights: whether files hold weights for torch, which can be trained; only for built-in formats.
        folder: whether export writes a folder.
        platforms: values of `sys.platform` on which files can be run; empty for all.
        toolchain: private environment (`yolopose.toolchains`) that writes the format.
        run_toolchain: private environment that runs it.
        int8_toolchain: private environment that writes and runs it with `int8=True`.
        int8_only: whether files always hold 8-bit integers.
        rgb_only: whether only networks with 3 channels, for color images, can be written.
        verified: where and when the maintainers last ran it; empty if never.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    about: str = ""
    aliases: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    run_requires: tuple[str, ...] = ()
    export_requires: tuple[str, ...] = ()
    int8_requires: tuple[str, ...] = ()
    exportable: bool = True
    weights: bool = False
    folder: bool = False
    platforms: tuple[str, ...] = ()
    toolchain: str = ""
    run_toolchain: str = ""
    int8_toolchain: str = ""
    int8_only: bool = False
    rgb_only: bool = False
    verified: str = ""

    @property
    def runs_here(self) -> bool:
        """Whether files of this format can be run on this operating system."""
        return not self.platforms or sys.platform in self.platforms

    def matches(self, path: str | Path) -> bool:
        """Return whether a file or folder name has one of the suffixes."""
        return Path(path).name.lower().endswith(self.suffixes)

    def packages_to_export(self, int8: bool) -> tuple[str, ...]:
        """Return the packages that writing a file needs."""
        if not int8:
            return self.export_requires
        return self.int8_requires if self.int8_toolchain else (*self.export_requires, *self.int8_requires)


@runtime_checkable
class Format(Protocol):
    """A file format of networks: an object, or a module, with these three members.

    Examples:
        A package registers a format in its pyproject.toml; its name should equal `info.name`:

            [project.entry-points."yolopose.formats"]
            myfmt = "my_package.myfmt:MyFormat"
    """

    @property
    def info(self) -> FormatInfo:
        """Static description."""
        ...

    def load(self, path: Path, device: object = None, half: bool = False) -> Runtime:
        """Open a file with the engine that runs it.

        Args:
            path: the file or folder; it exists.
            device: value of `device=`.
            half: whether 16-bit inference is requested.

        Raises:
            UsageError: the device is not available.
            WeightsError: the file is damaged or is not a pose network.
        """
        ...

    def export(self, job: ExportJob, path: Path) -> ExportReport:
        """Write a network.

        Args:
            job: the network and the settings.
            path: temporary file to write, or an empty folder; renamed to its final name after the check.

        Raises:
            ExportError: the network cannot be converted.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Returned by `Format.export`.

    Attributes:
        summary: a few words on the content of the file, for the log.
        check: a sentence on how the file was checked; empty to let yolopose open the file and compare the output of the
            engine's `raw` method with that of torch.
        agreement: result of a comparison that the format did itself, such as in a simulator.
        usage: lines for the log about further uses of the file; `{path}` is replaced.
    """

    summary: str
    check: str = ""
    agreement: Agreement | None = None
    usage: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """Argument of `Format.export`.

    Attributes:
        network: fused, in evaluation mode, on the CPU, float32.
        metadata: metadata of the file: classes, keypoints, input size, batch, whether the input size is free.
        settings: options of the export, resolved.
        half: whether to compute in float16.
        nms: parameters of NMS in the graph, None without it.
        calibration: images that 8-bit ranges are fitted to, None without quantization.
        image: (H, W, 3) uint8 BGR or (H, W, 4) BGRA image for the comparison with torch.
    """

    network: PoseModel
    metadata: ModelMetadata
    settings: ExportSettings
    half: bool
    nms: NmsConfig | None = None
    calibration: Calibration | None = None
    image: npt.NDArray[np.uint8]

    @property
    def bits(self) -> int:
        """Bits of the values in the file: 8, 16 or 32."""
        return 8 if self.calibration else 16 if self.half else 32

    @property
    def precision(self) -> str:
        """The precision as text, for the log."""
        if self.calibration:
            return f"int8 calibrated on {self.calibration.description}"
        return "float16" if self.half else "float32"

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs of `build_module`."""
        keypoints = self.metadata.spec.keypoints
        if self.metadata.outputs != LEVELS:
            return ["output0"]
        return level_names(self.network.stride, keypoints.dims, keypoints.visibility)

    def build_module(self) -> nn.Module:
        """Return the module to convert: (B, C, H, W) float32 0…1 to float32 outputs as `metadata` describes them."""
        from yolopose.formats.export_modules import build_module

        return build_module(self.network, self.metadata, self.nms, self.half)

    def example_input(self) -> Tensor:
        """Return a (B, C, H, W) float32 input of the size that the file takes."""
        import torch

        # torch makes the batch a constant of the graph if the example has one image
        batch = 2 if self.metadata.dynamic else self.metadata.batch
        return torch.zeros(batch, self.metadata.spec.channels, *self.metadata.imgsz)

    def trace(self) -> Any:
        """Return the network as a traced TorchScript module."""
        import torch

        with warnings.catch_warnings(), torch.no_grad():
            # deprecation of the tracer, and values that become constants: the exported file is compared anyway
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace  # pyright: ignore[reportPrivateImportUsage]
            return trace(self.build_module(), self.example_input(), check_trace=False)

    def export_program(self) -> Any:
        """Return the network, for its fixed input size, as a `torch.export.ExportedProgram`."""
        import torch

        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return torch.export.export(self.build_module(), (self.example_input(),))
