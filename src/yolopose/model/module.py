"""The methods that `YOLO` shares with a torch module: device, precision, access to the parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from yolopose.base.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

    from yolopose.nn import PoseModel

_HALF = ("float16", "half", "bfloat16")
_FULL = ("float32", "float", "float64", "double")
# methods of the torch module that read, which `YOLO` passes on
MODULE_METHODS = (
    "parameters", "named_parameters", "buffers", "named_buffers", "modules", "named_modules", "children",
    "state_dict", "training", "requires_grad_", "zero_grad",
)  # fmt: skip


class Device(str):
    """Name of a device, `cpu` or `cuda:0`, with the attributes of a `torch.device`; it needs no torch.

    Attributes:
        type: `cpu`, `cuda`, `mps`.
        index: number of the device, or None.
    """

    @property
    def type(self) -> str:
        """Kind of the device."""
        return self.partition(":")[0]

    @property
    def index(self) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as of torch.device
        """Number of the device, or None."""
        number = self.partition(":")[2]
        return int(number) if number.isdigit() else None

    def __eq__(self, other: object) -> bool:
        """Compare with a name or a `torch.device`."""
        return str(self) == str(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class ModuleMixin:
    """Device and precision of later calls; the attributes are those of `YOLO`."""

    _network: PoseModel | None
    _placement: dict[str, Any]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Set the device or the precision of later calls, with the arguments of `torch.nn.Module.to`.

        A call that has its own `device=` or `half=` uses that. `half` applies to `predict`, `track`, `label`, `val`
        and `benchmark`; the weights keep their precision, and so do training and export, which have options for it.

        Raises:
            UsageError: the device does not exist, or the type is not a floating-point type of 16 or 32 bits.
        """
        for value in (*args, kwargs.get("device"), kwargs.get("dtype"), kwargs.get("tensor")):
            if value is None or isinstance(value, bool):  # `non_blocking`
                continue
            if hasattr(value, "dtype") and hasattr(value, "device"):  # a tensor: its device and type
                self._set_device(value.device)
                self._set_precision(value.dtype)
            elif isinstance(value, str | int) or hasattr(value, "index"):
                self._set_device(value)
            else:
                self._set_precision(value)
        return self

    def cuda(self, device: int | str | None = None) -> Self:
        """Use a CUDA GPU in later calls, the first one by default.

        Raises:
            UsageError: this machine does not have it.
        """
        return self.to("cuda:0" if device is None else device)

    def cpu(self) -> Self:
        """Use the CPU in later calls."""
        return self.to("cpu")

    def half(self) -> Self:
        """Compute in 16 bits in later calls where the device is faster with it, as `half=True` does."""
        self._placement["half"] = True
        return self

    def float(self) -> Self:
        """Compute in 32 bits in later calls."""
        self._placement["half"] = False
        return self

    def eval(self) -> Self:
        """Set the torch module to evaluation; `predict` and `val` do it in any case."""
        if self._network is not None:
            self._network.eval()
        return self

    def _set_device(self, device: object) -> None:
        if self._network is None:
            from yolopose.config import parse_devices

            names = parse_devices(cast("Any", device))
            self._placement["device"] = ",".join(names)  # the engine checks it when it opens the file
            return
        from yolopose.formats.pytorch import pick_device

        chosen = pick_device(device)
        self._placement["device"] = str(chosen)
        self._network.to(chosen)

    def _set_precision(self, dtype: object) -> None:
        name = str(dtype).removeprefix("torch.").removeprefix("<class '").removesuffix("'>")
        if name not in (*_HALF, *_FULL):
            raise UsageError(f"to({dtype!r}) is not possible: give a device, torch.float16 or torch.float32.")
        self._placement["half"] = name in _HALF

    def _place(self) -> None:
        """Move a network that has been exchanged to the device that was set."""
        if self._network is not None and self._placement.get("device"):
            self._network.to(self._placement["device"])
