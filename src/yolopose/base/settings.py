"""Settings: where data sets, weights and runs live. Read from a YAML file, overridden by the environment.

The file is written by `yolo settings key=value` alone; nothing else ever changes it. Each setting has
an environment variable of its own (`YOLOPOSE_DATASETS_DIR`, …), and `YOLOPOSE_CONFIG_DIR` moves the file.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.files import write_text


def _user_folder(variable: str, fallback: str) -> Path:
    base = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get(variable)
    return (Path(base) if base else Path.home() / fallback) / "yolopose"


def config_dir() -> Path:
    """Return the folder of the settings file (`YOLOPOSE_CONFIG_DIR`, else the platform's own place)."""
    chosen = os.environ.get("YOLOPOSE_CONFIG_DIR")
    return Path(chosen) if chosen else _user_folder("XDG_CONFIG_HOME", ".config")


def cache_dir() -> Path:
    """Return the folder of what can be made again: `cache` in `YOLOPOSE_CONFIG_DIR`, else the platform's own place."""
    chosen = os.environ.get("YOLOPOSE_CONFIG_DIR")
    return Path(chosen) / "cache" if chosen else _user_folder("XDG_CACHE_HOME", ".cache")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force.

    Attributes:
        datasets_dir: folder where data sets are looked for and downloaded to.
        weights_dir: folder where weights are looked for and downloaded to.
        toolchains_dir: folder of the private environments that `yolo toolchain install` makes.
        runs_dir: folder under which `pose/predict`, `pose/val`, … are made; relative to the current folder.
        assets_url: address under which public weights and data sets are published, for a mirror of your own.
        offline: `true` forbids the network.
        tensorboard, wandb, mlflow, trackio: `true` writes the numbers of trainings there too, where it is installed.
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
    data = _user_folder("XDG_DATA_HOME", ".local/share")
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
    """Return the path of the settings file, which need not exist."""
    return config_dir() / "settings.yaml"


def _stored() -> dict[str, str]:
    path = settings_file()
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The settings file {path} cannot be read ({error}). Mend or remove it.") from error
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"The settings file {path} is no valid YAML ({error}). Mend or remove it.") from error
    if not isinstance(values, dict):
        raise UsageError(f"The settings file {path} must hold `key: value` lines. Mend or remove it.")
    return {str(key): str(value) for key, value in values.items()}


def load_settings() -> Settings:
    """Read the settings: built-in defaults, then the file, then the environment.

    Raises:
        UsageError: the file is damaged.
    """
    values = _defaults()
    values.update({key: value for key, value in _stored().items() if key in values})
    for key in values:
        values[key] = os.environ.get(f"YOLOPOSE_{key.upper()}", values[key])
    return Settings(**values)


def write_settings(changes: dict[str, str]) -> Settings:
    """Store changes to the settings file and returns the settings in force.

    Raises:
        UsageError: a key is not a setting.
        OutputError: the file cannot be written.
    """
    known = [field.name for field in fields(Settings)]
    for key in changes:
        if key not in known:
            hint = did_you_mean(key, known)
            raise UsageError(f"There is no setting {key!r}.{hint} The settings are: {', '.join(known)}.")
    stored = {**_stored(), **{key: str(value) for key, value in changes.items()}}
    write_text(settings_file(), yaml.safe_dump(stored, sort_keys=True, allow_unicode=True))
    return load_settings()


def settings_table() -> dict[str, str]:
    """Return the settings in force as a plain dict."""
    return asdict(load_settings())
