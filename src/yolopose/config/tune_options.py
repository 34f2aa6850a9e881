"""Options of `tune` and `calibrate`; see `options.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolopose.config.options import CommonOptions, RunFolderOptions, option
from yolopose.config.train_options import TrainOptions


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TuneOptions(TrainOptions):
    """Options of `tune`: those of `train`, which every trial uses, and those of the search."""

    iterations: int = option(300, "maximum number of trials", low=1)
    minutes: float | None = option(None, "time limit in minutes, including the final comparison", low=0)
    metric: str = option(
        "fitness",
        "what is maximized: fitness (box + pose mAP50-95), pose or box (mAP50-95); pixels minimizes the mean error",
        choices=("fitness", "pose", "box", "pixels"),
    )
    space: Any = option(
        None,
        "options to search: a YAML file, or in Python a dictionary, of NAME: [low, high] or lists of choices; by "
        "default those of the recipe",
    )
    parallel: int = option(1, "trials at the same time, which share the cores", low=1, high=256)
    prune: bool = option(True, "stop trials early that are worse than the median of the others at the same epoch")
    grace_period: int = option(10, "epochs before a trial may be stopped early", low=1)
    use_ray: bool = option(False, "run the trials with Ray Tune, on this machine or a cluster")
    gpu_per_trial: float | None = option(None, "GPUs of a trial with use_ray, also a fraction of one", low=0)
    resume: bool | str = option(  # pyright: ignore[reportIncompatibleVariableOverride]  # public interface
        False, "folder of an interrupted search to continue, such as runs/pose/tune"
    )
    folds: int | None = option(
        None, "score a trial by the mean of n folds instead of one split of the training images", low=2, high=100
    )
    repeats: int = option(
        3, "trainings, in pairs of equal seed, that compare the best options with the defaults; 0: no comparison", low=0
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibrateOptions(RunFolderOptions, CommonOptions):
    """Options of `calibrate`: make the confidences of a network the shares of correct detections and keypoints."""

    data: str | None = option(None, "data YAML; by default the one that the weights were trained on")
    split: str = option("val", "split on which the confidences are measured", choices=("train", "val", "test"))
    run: str | None = option(
        None,
        "folder of a run of val, or of train with folds=, whose detections are used instead of those of a new one",
    )
    method: str = option(
        "temperature",
        "temperature: one factor on the logit of each confidence; affine: a factor and an offset",
        choices=("temperature", "affine"),
    )
    min_conf: float = option(0.01, "lowest confidence of the detections that are used", low=0, high=1)
    batch: int = option(16, "images per batch", low=1)
    iou: float = option(0.7, "IoU threshold of NMS", low=0, high=1)
    end2end: bool | None = option(None, "calibrate the NMS-free output of a YOLO26 network")
    workers: int | None = option(None, "threads that load images; at most one per CPU", low=0)
    download: bool | None = option(
        None, "download a missing data set: up to 1 GB by default; True any size; False never"
    )
    output: str | None = option(None, "weights file to write; NAME-calibrated.pt in the run folder by default")
    plots: bool = option(True, "draw the reliability before and after")
