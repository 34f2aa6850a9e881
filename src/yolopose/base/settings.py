"""User settings: folders of data sets, weights and runs, and a few switches.

They are read from a YAML file, which only `yolo settings key=value` writes. Each setting has an environment variable
that wins over the file (`YOLOPOSE_DATASETS_DIR`, …), and `YOLOPOSE_CONFIG_DIR` moves the file.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.files import output_error, write_text
from yolopose.base.yamlfile import describe_yaml_error, parse_yaml, to_yaml

if TYPE_CHECKING:
    from platformdirs.api import PlatformDirsABC


def config_dir() -> Path:
    """Return the folder of the settings file (`YOLOPOSE_CONFIG_DIR`, or the user's configuration folder)."""
    override = os.environ.get("YOLOPOSE_CONFIG_DIR")
    return Path(override) if override else _user_folder("user_config_dir")


def cache_dir() -> Path:
    """Return the folder of caches (`cache` in `YOLOPOSE_CONFIG_DIR`, or the user's cache folder)."""
    override = os.environ.get("YOLOPOSE_CONFIG_DIR")
    return Path(override) / "cache" if override else _user_folder("user_cache_dir")


def _user_dirs() -> PlatformDirsABC:
    if sys.platform == "win32":
        from platformdirs.windows import Windows

        return Windows("yolopose", appauthor=False, opinion=False)
    from platformdirs.unix import Unix  # on macOS as well, where earlier versions used these folders too

    return Unix("yolopose")


def _user_folder(kind: str) -> Path:
    """Return a folder of the user; in the folder of temporary files for a user without a home folder.

    Args:
        kind: property of platformdirs.

    Raises:
        UsageError: that folder belongs to another user, who could place files there.
    """
    with suppress(RuntimeError):  # without a home folder; older versions of platformdirs return ~
        path = Path(getattr(_user_dirs(), kind))
        if path.is_absolute():
            return path
    import tempfile

    root = Path(tempfile.gettempdir()) / f"yolopose-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        status = root.lstat()
    except OSError as error:
        raise output_error(root, error) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise UsageError(f"The user has no home folder, and {root} is not private. Set HOME or YOLOPOSE_CONFIG_DIR.")
    return root / kind


@dataclass(frozen=True, slots=True)
class Settings:
    """Effective settings.

    Attributes:
        datasets_dir: folder in which data sets are searched and to which they are downloaded.
        weights_dir: folder in which weights are searched and to which they are downloaded.
        toolchains_dir: folder of the private environments that `yolo toolchain install` creates.
        runs_dir: parent folder of `pose/predict`, `pose/val`, …; relative to the current folder.
        assets_url: address of public weights and data sets; set it to use a mirror.
        offline: `true` forbids network access.
        tensorboard, wandb, mlflow, trackio: `true` logs trainings there, if it is installed.
    """

    datasets_dir: str
    weights_dir: str
    toolchains_dir: str
    runs_dir: str
    assets_url: str
    offline: str
    tensorboard: str
    wandb: str
    mlflow: str
    trackio: str


def _defaults() -> dict[str, str]:
    data = _user_folder("user_data_dir")
    return {
        "datasets_dir": str(data / "datasets"),
        "weights_dir": str(data / "weights"),
        "toolchains_dir": str(cache_dir() / "toolchains"),
        "runs_dir": "runs",
        "assets_url": "https://github.com/ultralytics/assets/releases/download",
        "offline": "false",
        **dict.fromkeys(("tensorboard", "wandb", "mlflow", "trackio"), "false"),
    }


def settings_file() -> Path:
    """Return the path of the settings file, which may not exist."""
    return config_dir() / "settings.yaml"


def _stored() -> dict[str, str]:
    path = settings_file()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} cannot be read ({error}). Correct or remove it.") from error
    try:
        values = parse_yaml(text) or {}
    except yaml.YAMLError as error:
        where, problem = describe_yaml_error(error)
        raise UsageError(
            f"The settings file {path}{where} is not valid YAML: {problem}. Correct or remove it."
        ) from error
    if not isinstance(values, dict):
        raise UsageError(f"The settings file {path} must have `key: value` lines. Correct or remove it.")
    return {str(key): str(value) for key, value in values.items()}


def load_settings() -> Settings:
    """Return the effective settings: defaults, overridden by the file, overridden by the environment.

    Raises:
        UsageError: the file is damaged.
    """
    values = _defaults()
    values.update({key: value for key, value in _stored().items() if key in values})
    for key in values:
        values[key] = os.environ.get(f"YOLOPOSE_{key.upper()}", values[key])
    return Settings(**values)


def write_settings(changes: dict[str, str]) -> Settings:
    """Store changes in the settings file and return the effective settings.

    Raises:
        UsageError: a key is not a setting.
        OutputError: the file cannot be written.
    """
    known = [field.name for field in fields(Settings)]
    for key in changes:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UsageError(f"Unknown setting {key!r}.{hint} The settings are: {', '.join(known)}.")
    stored: dict[str, Any] = {**_stored(), **{key: str(value) for key, value in changes.items()}}
    write_text(settings_file(), to_yaml(stored, sort_keys=True))
    return load_settings()


def settings_table() -> dict[str, str]:
    """Return the effective settings as a dict."""
    return asdict(load_settings())
