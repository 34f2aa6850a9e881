"""What there is of toolchains: the files of `zoo/toolchains`, as values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolopose import zoo
from yolopose.base.errors import UsageError, did_you_mean


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Libraries that one family of formats is written and run with, all of them pinned.

    Attributes:
        name: what `name=` takes.
        title: in running text.
        formats: words on what it is for.
        pythons: versions of Python that it is known to work with, `3.11`.
        systems: systems that it is known to work on, `linux-x86_64`; empty for all.
        megabytes: about what it takes on the disk.
        packages: every package, pinned, as pip takes them (`numpy==1.26.4`); nothing else is installed.
        decisive: those of them whose presence in these versions makes another environment fit.
        imports: modules that must load in it.
        programs: what must be on PATH.
        npm: packages for Node.js, pinned in the same way; a toolchain has these or those of Python.
        elsewhere: packages that are on an index of their own, by its address, which is asked where the user's own
            indexes have them not.
    """

    name: str
    title: str
    formats: str
    pythons: tuple[str, ...]
    systems: tuple[str, ...]
    megabytes: int
    packages: tuple[str, ...]
    decisive: tuple[str, ...]
    imports: tuple[str, ...]
    programs: tuple[str, ...]
    npm: tuple[str, ...]
    elsewhere: Mapping[str, tuple[str, ...]]

    @property
    def pins(self) -> dict[str, str]:
        """Versions by the names of the packages."""
        every = [*self.packages, *self.npm, *(package for group in self.elsewhere.values() for package in group)]
        return {name: version for name, _, version in (package.partition("==") for package in every)}

    @property
    def identity(self) -> str:
        """Changes with any version."""
        return hashlib.sha256(repr(sorted(self.pins.items())).encode()).hexdigest()[:16]


def toolchains() -> tuple[Toolchain, ...]:
    """Return all that there are, by name."""
    return tuple(_row(name, values) for name, values in zoo.toolchain_tables().items())


def get_toolchain(name: str) -> Toolchain:
    """Return one.

    Raises:
        UsageError: there is none of this name.
    """
    rows = {row.name: row for row in toolchains()}
    if name not in rows:
        raise UsageError(f"There is no toolchain {name!r}.{did_you_mean(name, rows)} There are: {', '.join(rows)}.")
    return rows[name]


def _row(name: str, values: Mapping[str, Any]) -> Toolchain:
    return Toolchain(
        name=name,
        title=values["title"],
        formats=values["formats"],
        pythons=tuple(values.get("pythons", ())),
        systems=tuple(values.get("systems", ())),
        megabytes=values["megabytes"],
        packages=tuple(values.get("packages", ())),
        decisive=tuple(values["decisive"]),
        imports=tuple(values.get("imports", ())),
        programs=tuple(values.get("programs", ())),
        npm=tuple(values.get("npm", ())),
        elsewhere={index: tuple(names) for index, names in values.get("elsewhere", {}).items()},
    )
