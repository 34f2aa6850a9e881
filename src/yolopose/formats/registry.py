"""Registry of formats: the built-in ones (`zoo/formats.yaml`) and those of other packages (entry points)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose import zoo
from yolopose.base.errors import DependencyError, UsageError, did_you_mean
from yolopose.base.log import LOGGER
from yolopose.formats.metadata import first_line
from yolopose.formats.protocol import ExportJob, ExportReport, Format, FormatInfo

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from yolopose.runtime import Runtime

ENTRY_POINT_GROUP = "yolopose.formats"
_TORCH_CPU = " (for CPU only, add --index-url https://download.pytorch.org/whl/cpu for torch: it is much smaller)"
_UNAVAILABLE = {
    "axelera": "its compiler is on no public index. Use format=onnx, and pass that file to the vendor's own tools.",
}
"""Formats of the public interface that only a vendor's own tools can write."""


@dataclass(frozen=True, slots=True)
class BuiltinFormat:
    """A `Format` that is implemented by a module of this package, which is imported on first use."""

    info: FormatInfo
    module: str

    def load(self, path: Path, device: object = None, half: bool = False) -> Runtime:
        """Open a file; see `Format.load`."""
        return self._import().load(path, device, half)

    def export(self, job: ExportJob, path: Path) -> ExportReport:
        """Write a network; see `Format.export`."""
        return self._import().export(job, path)

    def _import(self) -> Any:
        return import_module(f"yolopose.formats.{self.module}")


@cache
def builtin_formats() -> tuple[Format, ...]:
    """Return the formats of `zoo/formats.yaml`."""
    return tuple(_from_row(name, row) for name, row in zoo.format_table().items())


def _from_row(name: str, row: dict[str, Any]) -> Format:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    module = values.pop("module")
    values["verified"] = values["verified"] or ""
    # a folder name has no dot, and what writes a format also runs it, unless the row states otherwise
    values.setdefault("folder", not values["suffixes"][0].startswith("."))
    values["run_toolchain"] = values.get("run_toolchain", values.get("toolchain")) or ""
    return BuiltinFormat(FormatInfo(name=name, **values), module)


@cache
def load_plugins() -> tuple[tuple[Format, ...], dict[str, str]]:
    """Import the formats of other packages (entry point group `yolopose.formats`), once.

    Returns:
        The formats, and by entry point name the error messages of those that cannot be used.
    """
    from importlib.metadata import entry_points  # deferred: not needed for built-in formats

    plugins: list[Format] = []
    errors: dict[str, str] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        try:
            plugins.append(_load_plugin(entry, plugins))
        except Exception as error:  # the code of another package may raise anything
            package = entry.dist.name if entry.dist else entry.value
            errors[entry.name] = (
                f"The format plugin {entry.name!r} of the package {package} cannot be used: {first_line(error)} "
                "Update or uninstall that package."
            )
    return tuple(plugins), errors


def _load_plugin(entry: EntryPoint, plugins: list[Format]) -> Format:
    """Import the format of an entry point.

    Raises:
        TypeError: the object is not a `Format`.
        ValueError: its name or a suffix is taken.
    """
    plugin = entry.load()
    if isinstance(plugin, type):
        plugin = plugin()
    if not isinstance(plugin, Format) or not isinstance(plugin.info, FormatInfo):
        raise TypeError(f"{entry.value} does not have info (a FormatInfo), load and export")
    info = plugin.info
    for other in (*builtin_formats(), *plugins):
        names = {other.info.name, *other.info.aliases} & {info.name, *info.aliases}
        # the first match opens a file, so a longer suffix of another format would never be reached
        suffixes = [suffix for suffix in info.suffixes if other.info.matches(suffix)]
        if names or suffixes:
            raise ValueError(f"{', '.join((*names, *suffixes))} belongs to the format {other.info.name}")
    return plugin


def formats() -> tuple[Format, ...]:
    """Return all formats; a plugin that cannot be used is skipped with a warning."""
    plugins, errors = load_plugins()
    for message in errors.values():
        LOGGER.warning(message)
    return (*builtin_formats(), *plugins)


def describe_suffixes() -> str:
    """Return a sentence for error messages with the suffixes of all formats, and the errors of plugins."""
    plugins, errors = load_plugins()
    suffixes = [suffix for fmt in (*builtin_formats(), *plugins) for suffix in fmt.info.suffixes]
    return " ".join([f"known files end in {', '.join(suffixes)}.", *errors.values()])


def find_format(path: str | Path) -> Format | None:
    """Return the format of a file or folder by its suffix, or None; plugins are loaded if no built-in one matches."""
    for fmt in builtin_formats():
        if fmt.info.matches(path):
            return fmt
    return next((fmt for fmt in load_plugins()[0] if fmt.info.matches(path)), None)


def format_for_path(path: str | Path) -> Format:
    """Return the format of a file or folder by its suffix.

    Raises:
        UsageError: no format has this suffix.
    """
    fmt = find_format(path)
    if fmt is None:
        raise UsageError(f"model={str(path)!r} has an unknown format; {describe_suffixes()}")
    return fmt


def get_format(name: str) -> Format:
    """Return the format for a value of `format=`: a name, alias or suffix.

    Raises:
        UsageError: no format that can be exported has this name.
    """
    wanted = name.lower().removeprefix(".")
    known = _by_name(builtin_formats())
    if wanted in known:
        return known[wanted]
    if any(wanted == fmt.info.name or f".{wanted}" in fmt.info.suffixes for fmt in builtin_formats()):
        raise UsageError(
            f"format={name!r} is the format of weights: training writes best.pt and last.pt, and in Python "
            f"model.save('name.{wanted}') writes it. Export writes other formats: {', '.join(_names(known))}."
        )
    if wanted in _UNAVAILABLE:
        raise UsageError(f"format={name!r} cannot be written here: {_UNAVAILABLE[wanted]}")
    plugins, errors = load_plugins()
    known |= _by_name(plugins)
    if wanted in known:
        return known[wanted]
    if wanted in errors:
        raise UsageError(f"format={name!r} is not available. {errors[wanted]}")
    raise UsageError(
        f"format={name!r} is unknown in this version of yolopose.{did_you_mean(wanted, known)} "
        f"Supported: {', '.join(f'format={row}' for row in _names(known))}; see `yolo formats`."
    )


def _by_name(fmts: Iterable[Format]) -> dict[str, Format]:
    """Return formats that can be exported by name and alias."""
    return {name.lower(): fmt for fmt in fmts if fmt.info.exportable for name in (fmt.info.name, *fmt.info.aliases)}


def _names(known: dict[str, Format]) -> list[str]:
    return list(dict.fromkeys(fmt.info.name for fmt in known.values()))


def formats_with(option: str) -> list[str]:
    """Return the names of the formats whose export supports an option."""
    return [fmt.info.name for fmt in formats() if fmt.info.exportable and option in fmt.info.options]


# -- requirements -------------------------------------------------------------------------------------------------


def missing_packages(names: Iterable[str]) -> list[str]:
    """Return the packages that are not installed, in order."""
    return [name for name in names if find_spec(name) is None]


def require_packages(names: Iterable[str], what: str) -> None:
    """Check that packages are installed before they are needed.

    Args:
        names: import names.
        what: subject of the error message, such as `yolo11n-pose.pt`.

    Raises:
        DependencyError: some are not; the message has the command that installs them.
    """
    missing = missing_packages(names)
    if missing:
        they = " and ".join(missing) + (", which are" if missing[1:] else ", which is")
        wanted = ["torch", "safetensors", "matplotlib"] if "torch" in missing else missing
        install = " ".join(dict.fromkeys([*wanted, *missing]))
        raise DependencyError(
            f"{what} needs {they} not installed. Install with: pip install {install}"
            f"{_TORCH_CPU if 'torch' in missing else ''}."
        )


def require_engine(fmt: Format, path: str | Path) -> None:
    """Check that the packages that run a file are installed; see `require_packages`."""
    if not fmt.info.int8_toolchain:  # else they depend on the content of the file, and `load` checks
        require_packages(fmt.info.run_requires, str(path))


# -- table --------------------------------------------------------------------------------------------------------


def format_table() -> str:
    """Return the table that `yolo formats` prints."""
    rows = [("format", "files", "export options", "to run it", "to write it", "verified", "")]
    plugins, errors = load_plugins()
    for fmt in (*builtin_formats(), *plugins):
        info = fmt.info
        rows.append(
            (
                " ".join((info.name, *info.aliases)),
                " ".join(info.suffixes),
                ", ".join(("imgsz", *info.options)) if info.exportable else "-",
                _requirements(info.run_requires, info.run_toolchain),
                _requirements(info.export_requires, info.toolchain),
                "plugin" if fmt in plugins else info.verified or "unverified",
                info.about,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[6]]).rstrip()
        for row in rows
    ]
    legend = (
        "(+ installed, - not installed. Verified: where and when the maintainers last ran it; unverified: written from "
        "the documentation, never run by them; plugin: of another package. toolchain:tf: install with yolo toolchain "
        "install name=tf.)"
    )
    return "\n".join([*lines, "", legend, *errors.values()])


def _requirements(names: tuple[str, ...], toolchain: str) -> str:
    parts = [f"{'-' if find_spec(name) is None else '+'}{name}" for name in names]
    if toolchain:
        from yolopose.toolchains import find_python, get_toolchain  # deferred: it imports subprocess modules

        parts.append(f"{'-' if find_python(get_toolchain(toolchain)) is None else '+'}toolchain:{toolchain}")
    return " ".join(parts) or "-"
