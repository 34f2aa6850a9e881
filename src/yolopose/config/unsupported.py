"""Names of the reference package that yolopose does not have, and what to use instead of each.

Options, arguments, attributes and command-line words are looked up here by the checks of options, by `YOLO` and by the
grammar of the command line; docs/migration.md lists the same texts.
"""

from __future__ import annotations

from typing import Any

from yolopose.base.errors import UsageError

OTHER_TASKS = "it belongs to another task; yolopose estimates poses only"
_OLD = "it is an option of older versions, which the reference package dropped too"

# Options that have no effect, with the value that means "off" and what to use instead. Every mode accepts them, so that
# an old args.yaml loads; another value causes a warning.
IGNORED_OPTIONS: dict[str, tuple[Any, str]] = {
    "task": ("pose", OTHER_TASKS),
    "overlap_mask": (True, OTHER_TASKS),
    "mask_ratio": (4, OTHER_TASKS),
    "retina_masks": (False, OTHER_TASKS),
    "show_masks": (True, OTHER_TASKS),
    "dropout": (0.0, OTHER_TASKS),
    "angle": (1.0, OTHER_TASKS),
    "auto_augment": ("randaugment", f"{OTHER_TASKS}; own transforms go into augmentations="),
    "erasing": (0.4, f"{OTHER_TASKS}; own transforms go into augmentations="),
    "crop_fraction": (1.0, OTHER_TASKS),
    "copy_paste": (0.0, "it needs masks; mixup= and cutmix= combine images"),
    "copy_paste_mode": ("flip", "it needs masks; mixup= and cutmix= combine images"),
    "visualize": (False, "feature maps: register a forward hook on a layer of model.model"),
    "dnn": (False, "ONNX files run with ONNX Runtime, which is faster"),
    "quantize": (None, "use half=True for 16 bits; export has quantize="),
    "int8": (False, "export to 8 bits with export(int8=True, data=…) and open that file"),
    "nms": (None, "the network decides; end2end=True uses an NMS-free output"),
    "dlog": (1.0, "dis= and dis_output= are the gains of the losses against distill_model="),
    "dgrad": (0.5, "dis= and dis_output= are the gains of the losses against distill_model="),
    "dlam": (1.0, "dis= and dis_output= are the gains of the losses against distill_model="),
    "label_smoothing": (0.0, _OLD),
    "save_hybrid": (False, _OLD),
    "fl_gamma": (0.0, _OLD),
    "min_memory": (False, _OLD),
    "v5loader": (False, _OLD),
    "eps": (1e-3, _OLD),
    "boxes": (True, "use show_boxes="),
    "hide_conf": (False, "use show_conf=False"),
    "hide_labels": (False, "use show_labels=False"),
    "line_thickness": (3, "use line_width="),
}

# Arguments that change what a call does or returns: ignoring them would mislead, so they raise an error.
REFUSED_ARGUMENTS: dict[str, str] = {
    "trainer": "the training loop has no subclasses: callbacks (model.add_callback) act at 25 events, the options of "
    "train cover losses and schedule, augmentations= takes own transforms, and docs/architecture.md shows where a loss "
    "or block is added",
    "validator": "metrics are computed from model.val().record, which holds all detections and ground truths; "
    "callbacks act at on_val_batch_end",
    "predictor": "change results in a callback of on_predict_postprocess_end (its argument has .results), or after the "
    "call",
}

# Attributes of a `YOLO` object of the reference package.
MISSING_ATTRIBUTES: dict[str, str] = {
    "predictor": "the run of a prediction is the argument of the callbacks `on_predict_start` to `on_predict_end`",
    "transforms": "images are preprocessed inside `predict`; `yolopose.geometry.Letterbox` is the transform",
    "task_map": "there is one task; its parts are the packages of docs/architecture.md",
    "is_triton_model": "Triton is not a runtime here; serve the exported ONNX file with it, and read its outputs with "
    "`yolopose.runtime`",
    "is_hub_model": "no vendor platform is used",
    "cfg": "the content of the model YAML is `model.model.yaml`, its path `model.model_name`",
    "ckpt_path": "the path of the weights is `model.model_name`",
}

# Words of the command line of the reference package.
MISSING_COMMANDS: dict[str, str] = {
    "solutions": "demo programs for videos are not part of it; results pass into `supervision`, which has zones, "
    "counters and heat maps",
    "login": "no vendor platform is used, and nothing is sent anywhere",
    "logout": "no vendor platform is used, and nothing is sent anywhere",
    "hub": "no vendor platform is used, and nothing is sent anywhere",
    "streamlit": "`yolo export format=web` writes a page that runs the network in a browser",
}


def refuse_argument(name: str, mode: str) -> UsageError:
    """Return the error for an argument of `REFUSED_ARGUMENTS`."""
    return UsageError(f"{mode}({name}=…) is not supported: {REFUSED_ARGUMENTS[name]}.")
