"""Options of `train`; see `options.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yolopose.config.options import CommonOptions, DataOptions, OptionValues, RunFolderOptions, option


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class ScheduleOptions(OptionValues):
    """Optimizer and learning-rate schedule."""

    recipe: str = option(
        "auto",
        "values of the training options that are not given: auto chooses them from the data, the weights and the "
        "length of the run; reference uses the defaults listed here",
        choices=("auto", "reference"),
    )
    epochs: int = option(100, "passes over the training images", low=1)
    time: float | None = option(None, "time limit in hours, including the last validation; overrides epochs", low=0)
    patience: int = option(100, "stop after this number of epochs without improvement", low=0)
    optimizer: str = option(
        "auto",
        "optimizer",
        choices=("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp"),
    )
    lr0: float = option(0.01, "initial learning rate", low=0)
    lr_backbone: float = option(
        1.0, "factor on the learning rate of the backbone; its square root is that of the neck", low=0
    )
    lr_keypoints: float = option(1.0, "factor on the learning rate of the layers that output keypoints", low=0)
    lrf: float = option(0.01, "final learning rate as a share of lr0", low=0)
    momentum: float = option(0.937, "momentum, or β₁ of Adam optimizers", low=0, high=1)
    weight_decay: float = option(0.0005, "weight decay", low=0, high=1)
    warmup_epochs: float = option(3.0, "epochs of warm-up", low=0)
    warmup_momentum: float = option(0.8, "initial momentum of warm-up", low=0, high=1)
    warmup_bias_lr: float = option(0.1, "initial learning rate of biases in warm-up", low=0, high=1)
    nbs: int = option(64, "nominal batch size, up to which gradients are accumulated", low=1)
    cos_lr: bool = option(False, "cosine learning-rate schedule instead of a linear one")
    close_mosaic: int = option(10, "number of last epochs without mosaic, mixup and cutmix", low=0)
    ema_decay: float = option(
        0.9999, "weight of the old average of the weights in each step, at the end", low=0, high=1
    )
    ema_tau: float = option(2000.0, "steps in which the weight of the old average rises to 63 % of ema_decay", low=1)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LossOptions(OptionValues):
    """Loss gains and anchor assignment."""

    box: float = option(7.5, "gain of the box loss", low=0)
    cls: float = option(0.5, "gain of the class loss", low=0)
    cls_pw: float = option(0.0, "exponent of inverse class frequency as class weight", low=0, high=1)
    dfl: float = option(1.5, "gain of the distribution focal loss; of the L1 distance loss of YOLO26", low=0)
    pose: float = option(12.0, "gain of the keypoint loss", low=0)
    kpt_l1: float = option(0.0, "gain, within the keypoint loss, of distances as shares of the box side", low=0)
    kobj: float = option(1.0, "gain of the keypoint visibility loss", low=0)
    rle: float = option(1.0, "gain of the residual log-likelihood loss (YOLO26)", low=0)
    assigner: str | None = option(
        None,
        "similarity that assigns anchors to instances: box (IoU) or oks; by default oks for YOLO26, else box",
        choices=(None, "box", "oks"),
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class AugmentOptions(OptionValues):
    """Augmentation of training images."""

    hsv_h: float = option(0.015, "hue gain", low=0, high=1)
    hsv_s: float = option(0.7, "saturation gain", low=0, high=1)
    hsv_v: float = option(0.4, "value gain", low=0, high=1)
    degrees: float = option(0.0, "rotation, ± degrees", low=0, high=180)
    translate: float = option(0.1, "translation, ± share of the side", low=0, high=1)
    scale: float = option(0.5, "scale, ± gain", low=0, high=1)
    shear: float = option(0.0, "shear, ± degrees", low=0, high=180)
    perspective: float = option(0.0, "perspective, ± share", low=0, high=0.001)
    flipud: float = option(0.0, "probability of a vertical flip", low=0, high=1)
    fliplr: float = option(0.5, "probability of a horizontal flip", low=0, high=1)
    bgr: float = option(0.0, "probability of swapping RGB to BGR", low=0, high=1)
    mosaic: float = option(1.0, "probability of a mosaic of four images", low=0, high=1)
    mixup: float = option(0.0, "probability of blending with another sample", low=0, high=1)
    cutmix: float = option(0.0, "probability of pasting a region of another sample", low=0, high=1)
    augmentations: Sequence[Any] | None = option(
        None, "own transforms of training samples, or those of albumentations (only in Python)"
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False, init=False)
class DistillOptions(OptionValues):
    """Teacher of the training, and images without labels."""

    distill_model: str | None = option(
        None, "trained teacher of any scale (.pt, .safetensors), or exported file, that guides the training"
    )
    dis: float = option(6.0, "gain of the distance to the feature maps of distill_model; 0 does not use them", low=0)
    dis_output: float = option(
        1.0, "factor on the gains of boxes, classes and keypoints against the outputs of distill_model", low=0
    )
    unlabeled: str | None = option(
        None,
        "folder of images without labels: predictions of distill_model, or of the initial weights, on which mirrored "
        "and smaller views agree, are trained as labels",
    )
    unlabeled_conf: float = option(
        0.5, "confidence from which instances of unlabeled images are labeled", low=0, high=1
    )
    unlabeled_ratio: float = option(1.0, "unlabeled images for each labeled image of a batch", low=0.01, high=16)
    unlabeled_weight: float = option(1.0, "weight of the losses of unlabeled images", low=0)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainOptions(
    DistillOptions, AugmentOptions, LossOptions, ScheduleOptions, RunFolderOptions, DataOptions, CommonOptions
):
    """Options of `train`."""

    batch: int | float = option(
        16, "images per batch; -1: as many as fit the memory; 0…1: share of the memory to use", low=-1
    )
    save: bool = option(True, "write checkpoints")
    save_period: int = option(-1, "write a checkpoint every n epochs", low=-1)
    cache: bool | str = option(
        False, "cache decoded images in memory (True, ram) or on disk", choices=(False, True, "ram", "disk")
    )
    fast_decode: bool = option(
        False,
        "decode large JPEGs at 1/2, 1/4 or 1/8 of their size where no augmentation shows more pixels; no effect on "
        "cached images and in validation",
    )
    pretrained: bool | str = option(True, "weights to start from")
    head_steps: int = option(
        0,
        "optimizer steps of the keypoint branch alone, behind frozen layers, before the first epoch",
        low=0,
        high=100_000,
    )
    kpt_prior: bool = option(False, "start the keypoint layer at the mean place of each keypoint in the labels")
    visibility: int | None = option(
        None,
        "states of a keypoint: 2 (labeled or not) or 3 (absent, hidden, visible); None: as the data YAML, else as the "
        "network",
        low=2,
        high=3,
    )
    cls_remap: bool = option(True, "copy class weights by class name")
    seed: int = option(0, "random seed", low=0)
    deterministic: bool = option(
        True, "same results for the same seed; False: faster kernels on GPUs, no effect on the CPU"
    )
    rect: bool = option(False, "batches of similar aspect ratios instead of squares")
    resume: bool | str = option(False, "resume an interrupted run; epochs= may be larger than before")
    keep_state: bool = option(
        False, "keep the state of the optimizer in last.pt at the end, so that resume=True epochs=N continues the run"
    )
    amp: bool | str = option(True, "mixed precision", choices=(True, False, "fp16", "bf16", "fp32"))
    profile: bool = option(False, "time the exported formats during training", unread=True)
    freeze: int | Sequence[int] | None = option(None, "freeze the first n layers, or a list of layers", low=0)
    multi_scale: bool | float = option(0.0, "vary the input size by ± this share; True: by ± 0.5", low=0, high=1)
    compile: bool | str = option(False, "compile the network")
    channels_last: bool | None = option(
        None, "memory format of activations; True by default, with autotune=True the faster one"
    )
    autotune: bool = option(
        False, "on the CPU: time threads, precision, memory format and workers before training and use the fastest"
    )
    loggers: str | Sequence[Any] | None = option(
        None, "loggers: tensorboard, wandb, mlflow, trackio; those of the settings by default"
    )
    val: bool = option(True, "validate after each epoch")
    val_initial: bool = option(
        False, "validate the initial weights too, and keep them as best.pt until an epoch is better"
    )
    plots: bool = option(True, "draw curves and sample batches")
    split: str = option("val", "split to validate on", choices=("train", "val", "test"))
    conf: float | None = option(None, "confidence threshold of validation", low=0, high=1)
    iou: float = option(0.7, "IoU threshold of NMS in validation", low=0, high=1)
    max_det: int = option(300, "maximum number of detections per image in validation", low=1, high=30_000)
    save_json: bool = option(False, "write validation detections as COCO results")
    half: bool = option(False, "validate in 16 bits")
    folds: int | None = option(
        None, "k-fold cross-validation: train n networks, each measured on images that it was not trained on", low=2
    )
    repeats: int = option(1, "repeat folds= with other divisions of the images and other seeds", low=1, high=100)
