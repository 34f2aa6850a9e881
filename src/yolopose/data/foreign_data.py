"""`data=` in another form than a data YAML: annotations of another format, converted once, or a dictionary."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose._version import __version__
from yolopose.base.errors import DataError, OutputError, UsageError
from yolopose.base.files import exclusive_access, make_folder, write_text
from yolopose.base.log import LOGGER
from yolopose.base.settings import cache_dir, load_settings
from yolopose.base.suggestions import list_yaml_files
from yolopose.base.yamlfile import to_yaml

if TYPE_CHECKING:
    from yolopose.data.convert import ConversionReport

_SUFFIXES = frozenset({".json", ".ndjson", ".jsonl", ".xml", ".csv", ".h5", ".mat", ".slp", ".nwb", ".via"})
_ANNOTATION_SUFFIXES = _SUFFIXES | {".yaml", ".yml"}
_MAX_FILES = 200_000


def is_foreign_data(source: Path) -> bool:
    """Return whether `data=` is an existing file or folder of annotations rather than a data YAML."""
    return source.is_dir() or (source.suffix.lower() in _SUFFIXES and source.is_file())


def convert_foreign_data(source: Path) -> Path:
    """Return the data YAML of annotations of another format, converted on first use.

    The data set is written to `NAME_yolopose/DIGEST` beside the source, or in the data sets folder of the settings if
    that cannot be written. DIGEST changes with the annotations, so an older conversion, which may have been edited, is
    never replaced. The images are copied; blocks are shared where the file system can.

    Args:
        source: file or folder; the folder of a data YAML returns that YAML.

    Raises:
        DataError: the format is not recognized, or the annotations cannot be converted.
        OutputError: neither folder can be written.
    """
    from yolopose.data.convert import convert, detect_format  # imports this room, and is not needed for a data YAML
    from yolopose.data.convert.yolo import yaml_in

    try:
        source_format = detect_format(source)
    except DataError as error:
        kind = f"is a folder ({list_yaml_files(source)})" if source.is_dir() else "is not a data YAML"
        raise DataError(
            f"data={source} {kind}, and no annotations of a known format were recognized. Give the data YAML of the "
            "data set (data=my-data.yaml), or convert the annotations first: yolo convert source=… from=… to=yolo."
        ) from error
    if source_format.name == "yolo" and (path := yaml_in(source)) is not None:
        return path
    digest = _digest(source)
    for parent in (source.parent, Path(load_settings().datasets_dir) / "converted"):
        folder = parent / f"{source.stem if source.is_file() else source.name}_yolopose" / digest
        try:
            make_folder(folder.parent)
            with exclusive_access(folder, f"another process is converting {source}"):
                if not (folder / "data.yaml").is_file():
                    shutil.rmtree(folder, ignore_errors=True)  # a conversion that was killed
                    LOGGER.info(f"data={source} is {source_format.title}: converting it once, into {folder}.")
                    report = convert(source, folder, to="yolo", source_format=source_format.name)
                    _check_images(source, folder, report)
        except OutputError:
            if parent != source.parent:
                raise
            continue
        LOGGER.info(f"data={source}: using {folder / 'data.yaml'}.")
        return folder / "data.yaml"
    raise AssertionError  # the loop returns or raises


def _check_images(source: Path, folder: Path, report: ConversionReport) -> None:
    """Warn of missing images; a conversion without any image is removed, so that it is repeated when they exist.

    Raises:
        DataError: no image of the annotations was found.
    """
    if not any(path.is_file() for path in (folder / "images").rglob("*")):
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(
            f"data={source}: none of the images of these annotations was found. Copy them into "
            f"{source.parent if source.is_file() else source}, or name their folder in a conversion: yolo convert "
            f"source={source} images=FOLDER output=my-data"
        )
    if any("images were not found" in message for message in report.changed):
        LOGGER.warning(f"data={source}: when the missing images exist, delete {folder} to convert them too.")


def _digest(source: Path) -> str:
    """Return a hash of the names, sizes and times of the annotation files."""
    digest = hashlib.sha256(f"{__version__}\0{source.resolve()}".encode("utf-8", "surrogateescape"))
    for path in _annotation_files(source):
        status = path.stat()
        line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:12]


def _annotation_files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        classes = source.parent / "yolopose.json"
        if classes.is_file():
            yield classes
        return
    count = 0
    for parent, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith("_yolopose"))
        for name in sorted(names):
            if Path(name).suffix.lower() in _ANNOTATION_SUFFIXES and not name.startswith("."):
                count += 1
                if count > _MAX_FILES:
                    raise DataError(f"data={source} contains more than {_MAX_FILES} annotation files.")
                yield Path(parent, name)


# -- a data YAML as a dictionary --------------------------------------------------------------------------------------


def yaml_of_dict(data: Mapping[str, Any]) -> Path:
    """Write a data set given as a dictionary to a data YAML in the cache folder, and return its path.

    Weights remember their data set by the path of its YAML, so the file stays, and its `path:` is absolute. The same
    dictionary is the same file.

    Args:
        data: keys of a data YAML: `path`, `train`, `val`, `names`, `kpt_shape`, …. A relative `path` is looked up in
            the current folder, then in the `datasets_dir` of the settings.

    Raises:
        UsageError: it holds values that a YAML cannot hold.
        OutputError: the file cannot be written.
    """
    values = {str(key): _plain(key, value) for key, value in data.items()}
    root = Path(str(values.get("path") or ".")).expanduser()
    candidates = [Path.cwd() / root, Path(load_settings().datasets_dir) / root]
    values["path"] = str(next((folder for folder in candidates if folder.is_dir()), candidates[0]).absolute())
    text = to_yaml(values)
    target = cache_dir() / "data" / f"data-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"
    if not target.is_file():
        make_folder(target.parent)
        write_text(target, text)
    return target


def _plain(key: object, value: Any) -> Any:
    """Return plain values: lists for tuples, text for paths, Python numbers for those of numpy.

    Raises:
        UsageError: another type.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _plain(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(key, item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise UsageError(f"data= has a {type(value).__name__} as `{key}`: give the values that a data YAML has there.")
