"""The table of formats, `zoo/formats.yaml`, as values: what help, errors, `yolo formats` and the loader read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from yolopose import zoo
from yolopose.base.errors import DependencyError, UsageError, did_you_mean

_TORCH_CPU = " (for a CPU alone, add --index-url https://download.pytorch.org/whl/cpu for torch: it is far smaller)"


@dataclass(frozen=True, slots=True)
class Format:
    """A row of the table.

    Attributes:
        name: what `format=` takes.
        title: its name in running text.
        suffixes: how such files end; one without a leading dot is the end of a folder's name.
        module: the file of `yolopose.formats` that knows it.
        options: keys of export that it heeds, beside `imgsz`, `data` and `device`.
        needs: packages that running it takes.
        makes: packages that writing it takes; empty for what `save()` writes.
        for_int8: packages that writing it with 8-bit numbers takes beside them.
        about: a few words.
        aliases: other names that `format=` takes.
        folder: whether `export` writes a folder instead of a file.
        runs_on: systems that run it, as `sys.platform` names them; empty for all.
        toolchain: the private environment that writes it (`yolopose.toolchains`); empty for what is installed beside
            yolopose.
        runs_in: the one that runs it; empty for what a chip alone runs, too.
        int8_toolchain: the same for 8-bit numbers alone.
        only_int8: whether there are no others in it.
        verified: where and when it was run last by those who wrote this; empty where it never was.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    module: str
    options: tuple[str, ...]
    run_requires: tuple[str, ...]
    export_requires: tuple[str, ...]
    int8_requires: tuple[str, ...]
    about: str
    aliases: tuple[str, ...] = ()
    folder: bool = False
    platforms: tuple[str, ...] = ()
    toolchain: str = ""
    run_toolchain: str = ""
    int8_toolchain: str = ""
    int8_only: bool = False
    verified: str = ""

    @property
    def exportable(self) -> bool:
        """Whether `export` writes it."""
        return bool(self.export_requires)

    @property
    def runs_on_platform(self) -> bool:
        """Whether this system runs it."""
        return not self.platforms or sys.platform in self.platforms

    def matches(self, path: str | Path) -> bool:
        """Whether a file or folder of this name is in this format."""
        return Path(path).name.lower().endswith(self.suffixes)


@cache
def formats() -> tuple[Format, ...]:
    """Return the rows of the table."""
    return tuple(
        Format(
            name=name,
            title=row["title"],
            suffixes=tuple(row["suffixes"]),
            module=row["module"],
            options=tuple(row["options"]),
            run_requires=tuple(row["run_requires"]),
            export_requires=tuple(row["export_requires"]),
            int8_requires=tuple(row.get("int8_requires", ())),
            about=row["about"],
            aliases=tuple(row.get("aliases", ())),
            folder=row.get("folder", not row["suffixes"][0].startswith(".")),
            platforms=tuple(row.get("platforms", ())),
            toolchain=row.get("toolchain", ""),
            run_toolchain=row.get("run_toolchain", row.get("toolchain")) or "",
            int8_toolchain=row.get("int8_toolchain", ""),
            int8_only=row.get("int8_only", False),
            verified=row["verified"] or "",
        )
        for name, row in zoo.format_table().items()
    )


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all files and folders that can be opened."""
    return tuple(suffix for row in formats() for suffix in row.suffixes)


def format_for_path(path: str | Path) -> Format:
    """Return the format of a file or folder, by the end of its name.

    Raises:
        UsageError: it is of none that is known here.
    """
    for row in formats():
        if row.matches(path):
            return row
    raise UsageError(f"model={str(path)!r} is of no format known here; the known ones end in {', '.join(suffixes())}.")


_NOWHERE = {
    "axelera": "its compiler is on no public index. Write format=onnx, and give that file to the vendor's own tools.",
}
"""Formats of the public interface that nobody can write without a vendor's own tools."""


def get_format(name: str) -> Format:
    """Return the format that `format=` names.

    Raises:
        UsageError: there is none of this name that export writes.
    """
    rows = {row.name: row for row in formats() if row.exportable}
    names = {alias: row for row in rows.values() for alias in (row.name, *row.aliases)}
    wanted = name.lower().removeprefix(".")
    if wanted in names:
        return names[wanted]
    if any(row.name == wanted or f".{wanted}" in row.suffixes for row in formats()):
        raise UsageError(
            f"format={name!r} is what weights are kept in already: training writes best.pt and last.pt, and from "
            f"Python model.save('name.{wanted}') writes one. Export is for other formats: {', '.join(rows)}."
        )
    if wanted in _NOWHERE:
        raise UsageError(f"format={name!r} cannot be written here: {_NOWHERE[wanted]}")
    raise UsageError(
        f"format={name!r} is not in this version of yolopose.{did_you_mean(wanted, names)} "
        f"It exports: {', '.join(f'format={row}' for row in rows)}; `yolo formats` tells more."
    )


def formats_with(option: str) -> list[str]:
    """Return the names of the formats whose export heeds an option."""
    return [row.name for row in formats() if row.exportable and option in row.options]


def missing_packages(names: Iterable[str]) -> list[str]:
    """Return those of some packages that are not installed, in their order."""
    return [name for name in names if find_spec(name) is None]


def require_packages(names: tuple[str, ...], what: str) -> None:
    """Make sure that packages are there before something that takes them is begun.

    Args:
        names: packages, as they are installed.
        what: begin of the sentence, such as `yolo11n-pose.pt`.

    Raises:
        DependencyError: some are not; the text holds the line that installs them.
    """
    missing = missing_packages(names)
    if missing:
        they = " and ".join(missing) + (", which are" if missing[1:] else ", which is")
        wanted = ["torch", "safetensors", "matplotlib"] if missing[0] == "torch" else missing
        install = " ".join(dict.fromkeys([*wanted, *missing]))
        raise DependencyError(
            f"{what} needs {they} not installed. Install with: pip install {install}"
            f"{_TORCH_CPU if 'torch' in missing else ''}."
        )


def require_engine(row: Format, path: str | Path) -> None:
    """Make sure that what runs a file is there, as far as its name tells; see `require_packages`."""
    if not row.int8_toolchain:  # else it depends on what is in the file, and its module asks
        require_packages(row.run_requires, str(path))


def packages_to_write(row: Format, eight: bool) -> tuple[str, ...]:
    """Return the packages that writing a format takes, with 8-bit numbers or without."""
    if not eight:
        return row.export_requires
    return row.int8_requires if row.int8_toolchain else (*row.export_requires, *row.int8_requires)


def report() -> str:
    """Return the table as text: what `yolo formats` prints."""
    rows = [("format", "files", "export heeds", "to run it", "to write it", "verified", "")]
    for row in formats():
        heeds = ", ".join(("imgsz", *row.options)) if row.exportable else "-"
        run_requires, export_requires = (
            _packages(row.run_requires, row.run_toolchain),
            _packages(row.export_requires, row.toolchain),
        )
        name = " ".join((row.name, *row.aliases))
        rows.append(
            (
                name,
                " ".join(row.suffixes),
                heeds,
                run_requires,
                export_requires,
                row.verified or "unverified",
                row.about,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[6]]) for row in rows
    ]
    return (
        "\n".join(line.rstrip() for line in lines)
        + "\n\n(+ is installed here, - is not. Verified: where and when we ran "
        "it last; unverified: written by the book, and never run by us. toolchain:tf: yolo toolchain install name=tf.)"
    )


def _packages(names: tuple[str, ...], toolchain: str = "") -> str:
    found = [f"{'-' if find_spec(name) is None else '+'}{name}" for name in names]
    if toolchain:
        from yolopose.toolchains import get_toolchain, python_for  # processes and pipes: not for every start

        found.append(f"{'-' if python_for(get_toolchain(toolchain)) is None else '+'}toolchain:{toolchain}")
    return " ".join(found) or "-"
