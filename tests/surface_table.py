"""The public surface of the reference package that concerns poses, as rows that are checked and documented.

A row has a name, and either an expression that works here, which `test_surface.py` evaluates, or a text with what to
use instead. docs/migration.md is written from these rows.

Names in expressions: `model`, `image` (H, W, 3), `result` (3 persons), `tracked` (with ids), `metrics` (of `val`),
`run` (folder of a training), `trainer` and `seen` (the callbacks that were called), `folder` (working folder), `cli`.
"""

from __future__ import annotations

from dataclasses import dataclass

from yolopose.config.unsupported import MISSING_ATTRIBUTES, MISSING_COMMANDS, REFUSED_ARGUMENTS


@dataclass(frozen=True)
class Row:
    """One name of the reference package.

    Attributes:
        name: how it is written there.
        works: expression that is true or not None where it works here; empty if it does not exist.
        note: what to use instead, or a difference.
    """

    name: str
    works: str = ""
    note: str = ""


def same(*names: str, of: str) -> list[Row]:
    """Return rows of attributes that only need to exist and have a value."""
    return [Row(name, f"{of}.{name} is not None") for name in names]


def missing(names: dict[str, str], form: str) -> list[Row]:
    return [Row(form.format(name), note=text) for name, text in names.items()]


YOLO_ROWS = [
    Row('YOLO("yolo11n-pose.yaml")', 'YOLO("yolo11n-pose.yaml").spec.keypoints.shape == (17, 3)'),
    Row('YOLO("best.pt")', "YOLO(str(run / 'weights/best.pt')).names"),
    Row('YOLO("yolo11n-pose")', "YOLO(str(run / 'weights/best')).names", "without suffix"),
    Row("YOLO(task=, verbose=)", "YOLO(yaml, task='pose', verbose=False).task == 'pose'"),
    Row("YOLO(other)", "YOLO(model).model is model.model"),
    Row("model(source)", "len(model(image, **small)) == 1"),
    Row("model.predict(source, stream)", "next(iter(model.predict(image, True, **small))).boxes is not None"),
    Row("model.track(source, stream, persist)", "model.track(image, persist=True, **small)"),
    Row("model.embed(source, stream)", "len(model.embed(image, imgsz=64)[0]) > 0", "`layers=` too, and `output=`"),
    Row("model.train(**options)", "(run / 'weights/last.pt').is_file()"),
    Row("model.train(data={…})", "model.val(data=data_dict, **quiet).box.nc == 1", "a dictionary, too"),
    Row("model.train(trainer=)", note=REFUSED_ARGUMENTS["trainer"]),
    Row("model.val(**options)", "metrics.box.map >= 0"),
    Row("model.val(validator=)", note=REFUSED_ARGUMENTS["validator"]),
    Row("model.predict(predictor=)", note=REFUSED_ARGUMENTS["predictor"]),
    Row("model.export(**options)", "YOLO(model.export(format='torchscript', imgsz=64, verbose=False)).names"),
    Row(
        "model.tune(use_ray, iterations)",
        "callable(model.tune)",
        "Optuna, with a test on images that the search did not see; `best.yaml` is for `cfg=`",
    ),
    Row("model.calibrate(data)", "callable(model.calibrate)", "calibrates the confidences, not int8 ranges"),
    Row("model.benchmark(data, format, verbose)", "callable(model.benchmark)", "returns a table with `to_df()`"),
    Row("model.load(weights)", "YOLO(yaml).load(str(run / 'weights/best.pt')) is not None"),
    Row("model.save(filename)", "model.save(folder / 'saved.pt').is_file()"),
    Row("model.info(detailed, verbose, imgsz)", "model.info(detailed=False, verbose=False, imgsz=64).parameters > 0"),
    Row("model.fuse(verbose, imgsz)", "YOLO(yaml).fuse(verbose=False, imgsz=64) is not None"),
    Row("model.reset_weights()", "YOLO(yaml).reset_weights() is not None"),
    Row("model.add_callback(event, func)", "model.add_callback('on_predict_end', print) is None"),
    Row("model.clear_callback(event)", "model.clear_callback('on_predict_end') is None"),
    Row("model.reset_callbacks()", "model.reset_callbacks() is None"),
    Row("model.to(device), .cuda(), .cpu()", "model.to('cpu') is model and model.cpu() is model"),
    Row("model.half(), .float(), .eval()", "model.half().float().eval() is model", "weights stay 32-bit"),
    Row("model.parameters(), .state_dict(), …", "next(model.parameters()) is not None and model.state_dict()"),
    Row("isinstance(model, torch.nn.Module)", note="the torch module is `model.model`"),
    Row("model.names", "model.names == {0: 'person'}"),
    Row("model.device", "model.device.type == 'cpu'", "a text that compares with `torch.device`"),
    *same("task", "overrides", "callbacks", "model", "model_name", "metrics", "ckpt", "trainer", of="model"),
    *missing(MISSING_ATTRIBUTES, "model.{}"),
    Row("ultralytics.settings, checks()", note="`yolo settings`, `yolo checks`, and environment variables YOLOPOSE_…"),
    Row(
        "from ultralytics.data.converter import convert_coco",
        "__import__('yolopose.data.converter').data.converter.convert_coco",
        "`yolopose.data.converter`",
    ),
    Row("ultralytics.solutions", note=MISSING_COMMANDS["solutions"]),
    Row("ultralytics.utils.plotting.Annotator, colors", note="`result.plot(…)`, or `supervision` on the results"),
    Row("PoseTrainer, PoseValidator, PosePredictor", note=REFUSED_ARGUMENTS["trainer"]),
]

RESULT_ROWS = [
    *same("orig_img", "orig_shape", "boxes", "keypoints", "speed", "names", "path", of="result"),
    Row("save_dir", "hasattr(result, 'save_dir')", "None where nothing is saved"),
    Row("masks, probs, obb, semantic_mask, depth", "result.masks is result.probs is None", "always None"),
    Row("len(result), result[i], for r in result", "len(result) == 3 and len(result[0]) == 1 and len([*result]) == 3"),
    *[Row(f"{name}()", f"len(result.{name}()) == 3") for name in ("cpu", "numpy")],
    Row("cuda()", "callable(result.cuda)"),
    Row('to("cpu")', "len(result.to('cpu')) == 3"),
    Row("new()", "len(result.new()) == 0", "boxes and keypoints are empty, not None"),
    Row("update(boxes, keypoints)", "result[:].update(boxes=result.boxes.data) is None"),
    Row("verbose()", "result.verbose() == '3 persons, '"),
    *[
        Row(f"plot({name}=)", f"result.plot({name}={value}).shape == image.shape")
        for name, value in {
            "conf": True, "line_width": 2, "font_size": 12, "font": None, "img": "image", "kpt_radius": 5,
            "kpt_line": True, "labels": True, "boxes": True, "masks": True, "probs": True, "show": False,
            "color_mode": "'instance'", "txt_color": (255, 255, 255),
        }.items()
    ],
    Row("plot(pil=True)", "result.plot(pil=True).size[::-1] == image.shape[:2]"),
    Row("plot(save=, filename=)", "result.plot(save=True, filename='drawn.jpg') is not None"),
    Row("show()", "result.show(wait=False) in (True, False)", "a warning explains why no window opens"),
    Row("save(filename)", "result.save('saved.jpg') == 'saved.jpg'"),
    Row("save_txt(file, save_conf)", "result.save_txt('labels.txt', save_conf=True) == 'labels.txt'"),
    Row("save_crop(dir, file)", "result.save_crop('crops', 'im.jpg') is not None"),
    Row(
        "summary(normalize, decimals)",
        "list(result.summary(True, 3)[0]) == ['name', 'class', 'confidence', 'box', 'keypoints']",
    ),
    Row("to_df()", "result.to_df().shape[0] == 3", "one column per value, by the names of the keypoints, not nested"),
    Row("to_csv()", "len(result.to_csv().splitlines()) == 4", "the columns of `to_df`"),
    Row("to_json()", "len(__import__('json').loads(result.to_json())) == 3"),
]  # fmt: skip

INSTANCE_ROWS = [
    *[
        Row(f"boxes.{name}", f"len(result.boxes.{name}) == 3")
        for name in ["data", "xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls"]
    ],
    Row("boxes.id", "result.boxes.id is None and len(tracked.boxes.id) == len(tracked)", "None without tracking"),
    Row("boxes.is_track", "tracked.boxes.is_track and not result.boxes.is_track"),
    Row("boxes.orig_shape, .shape", "result.boxes.shape == (3, 6) and result.boxes.orig_shape == result.orig_shape"),
    *[
        Row(f"keypoints.{name}", f"result.keypoints.{name}.shape[:2] == (3, 17)")
        for name in ["data", "xy", "xyn", "conf"]
    ],
    Row("keypoints.has_visible", "result.keypoints.has_visible is True"),
    Row("keypoints.shape", "result.keypoints.shape == (3, 17, 3)"),
    Row("keypoints.orig_shape", "result.keypoints.orig_shape == result.orig_shape"),
    Row("len, index, for", "len(result.keypoints) == 3 and result.keypoints[0].shape == (1, 17, 3)"),
    Row(
        "cpu(), numpy(), to()", "result.boxes.cpu().numpy().to('cpu').shape == result.keypoints.cpu().shape[:1] + (6,)"
    ),
    Row("cuda()", "callable(result.boxes.cuda)"),
    Row("no detection", "model(image * 0, conf=1.0, **quiet64)[0].keypoints.shape == (0, 17, 3)"),
]

_METRIC = "p r f1 all_ap ap ap50 ap_class_index nc mp mr map map50 map75 maps curves curves_results px prec_values"
METRIC_ROWS = [
    *[Row(f"box.{name}, pose.{name}", f"metrics.box.{name} is not None and metrics.pose.{name} is not None")
      for name in f"{_METRIC} p_curve r_curve f1_curve image_metrics".split()],
    Row("box.mean_results(), .class_result(i)", "len(metrics.box.mean_results()) == len(metrics.pose.class_result(0))"),
    Row("box.fitness(), pose.fitness()", "metrics.box.fitness() + metrics.pose.fitness() == metrics.fitness"),
    *same(
        "names", "speed", "stats", "nt_per_class", "nt_per_image", "confusion_matrix", "save_dir", "keys", "maps",
        "fitness", "ap_class_index", "results_dict", "curves", "curves_results", of="metrics",
    ),
    Row("mean_results()", "len(metrics.mean_results()) == len(metrics.keys) == 8"),
    Row("class_result(i)", "len(metrics.class_result(0)) == 8"),
    Row("summary(normalize, decimals)", "metrics.summary()[0]['Class'] == 'person'"),
    Row("to_df(), to_csv(), to_json()", "len(metrics.to_csv().splitlines()) == 2 and metrics.to_json()"),
    Row("process(), update_stats(), clear_stats()", "metrics.clear_stats() is None"),
    Row("results_dict keys", "{'metrics/mAP50-95(P)', 'metrics/precision(B)', 'fitness'} <= set(metrics.results_dict)"),
    Row("confusion_matrix.matrix", "metrics.confusion_matrix.matrix.shape == (2, 2)"),
    Row("confusion_matrix.plot(), .print()", "metrics.confusion_matrix.print() is None"),
    Row("confusion_matrix.summary(), .to_*()", "metrics.confusion_matrix.summary() and metrics.confusion_matrix"),
    Row("confusion_matrix.process_batch(), .plot_matches(), .tp_fp()", "len(metrics.confusion_matrix.tp_fp()) == 2"),
]  # fmt: skip

EVENTS = [
    "on_pretrain_routine_start",
    "on_pretrain_routine_end",
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "optimizer_step",
    "on_before_zero_grad",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_fit_epoch_end",
    "on_model_save",
    "on_train_end",
    "on_params_update",
    "teardown",
    "on_val_start",
    "on_val_batch_start",
    "on_val_batch_end",
    "on_val_end",
    "on_predict_start",
    "on_predict_batch_start",
    "on_predict_postprocess_end",
    "on_predict_batch_end",
    "on_predict_end",
    "on_export_start",
    "on_export_end",
]
_NEVER = "the reference package lists it and never calls it"
CALLBACK_ROWS = [
    *[
        Row(event, f"{event!r} in seen", _NEVER if event in EVENTS[5:7] or event == "on_params_update" else "")
        for event in EVENTS
    ],
    *[
        Row(
            f"trainer.{name}",
            f"trainer.{name} is not None",
            "a tensor in the order of `loss_names`; there a dictionary" if name == "tloss" else "",
        )
        for name in [
            "args",
            "epoch",
            "epochs",
            "model",
            "ema",
            "optimizer",
            "metrics",
            "validator",
            "fitness",
            "best_fitness",
            "loss",
            "loss_items",
            "tloss",
            "loss_names",
            "batch_size",
            "device",
            "save_dir",
            "wdir",
            "best",
            "last",
            "csv",
            "stop",
        ]
    ],
]

FILE_ROWS = [
    *[
        Row(f"train/{name}", f"(run / {name!r}).is_file()")
        for name in [
            "args.yaml",
            "results.csv",
            "results.png",
            "labels.jpg",
            "train_batch0.jpg",
            "val_batch0_labels.jpg",
            "val_batch0_pred.jpg",
            "BoxP_curve.png",
            "BoxR_curve.png",
            "BoxF1_curve.png",
            "BoxPR_curve.png",
            "PoseP_curve.png",
            "PoseR_curve.png",
            "PoseF1_curve.png",
            "PosePR_curve.png",
            "confusion_matrix.png",
            "confusion_matrix_normalized.png",
            "weights/best.pt",
            "weights/last.pt",
            "weights/epoch0.pt",
        ]
        if name != "weights/epoch0.pt"
    ],
    Row("train/weights/epochN.pt", "(run / 'weights/epoch1.pt').is_file()", "`save_period`"),
    Row(
        "columns of results.csv",
        "'train/pose_loss' in columns and 'metrics/mAP50-95(P)' in columns and 'lr/pg2' in columns",
        "the 23 columns, and errors in pixels after them",
    ),
    Row("val/predictions.json", "(val_folder / 'predictions.json').is_file()", "`save_json=True`"),
    Row("val/labels/NAME.txt", "list((val_folder / 'labels').glob('*.txt'))", "`save_txt=True`"),
    Row("predict/NAME.jpg", "(predict_folder / 'photo.jpg').is_file()", "`save=True`"),
    Row("predict/labels/NAME.txt", "(predict_folder / 'labels/photo.txt').is_file()", "`save_txt=True`"),
    Row("predict/crops/CLASS/NAME.jpg", "list((predict_folder / 'crops/person').glob('photo*.jpg'))"),
    Row("predict/NAME_frames/", "list(predict_folder.parent.rglob('clip_frames/*.jpg'))", "`save_frames=True`"),
    Row("predict/NAME_cam.jpg", note="`visualize` has no effect; register a forward hook on a layer of `model.model`"),
    Row("labels/SPLIT.cache", "list((folder / 'own/labels').glob('*.cache*'))", "plain arrays instead of a pickle"),
]

SOURCE_ROWS = [
    Row("file, pathlib.Path", "model(folder / 'photo.jpg', **small)"),
    Row("folder", "len(model('photos', **small)) == 2"),
    Row("glob", "len(model('photos/*.jpg', **small)) == 2"),
    Row("video", "len(model('clip.avi', **small)) == 3"),
    Row(".txt list of paths", "len(model('list.txt', **small)) == 2"),
    Row("list of paths, arrays, PIL", "len(model(['photo.jpg', image, pil], **small)) == 3"),
    Row("PIL image", "model(pil, **small)[0].orig_shape == image.shape[:2]"),
    Row("numpy (H, W, 3), (H, W), (H, W, 4)", "model(image[..., 0], **small)"),
    Row("torch (B, 3, H, W)", "model(torch.zeros(1, 3, 64, 64), **small)"),
    Row("URL http(s)", "__import__('yolopose.predict.sources.urls')"),
    Row("rtsp, rtmp, tcp, .streams, camera number", "__import__('yolopose.predict.sources.live')"),
    Row("screen", "__import__('yolopose.predict.sources.screen')"),
    Row("YouTube page", note="download the video with a tool for it, or give the address of the stream"),
    Row("no source: bundled images", note="give a source; nothing is bundled or downloaded"),
]

FORMATS = [
    "torchscript",
    "onnx",
    "openvino",
    "engine",
    "coreml",
    "saved_model",
    "pb",
    "edgetpu",
    "litert",
    "paddle",
    "mnn",
    "ncnn",
    "imx",
    "rknn",
    "executorch",
]
_VENDOR = "no converter here; export ONNX, which the tools of the vendor read, or add it by the entry point"
FORMAT_ROWS = [
    *[Row(f"format={name}", f"get_format({name!r})") for name in FORMATS],
    Row("format=coreai", note="use coreml"),
    *[Row(f"format={name}", note=_VENDOR) for name in ["axelera", "deepx", "qnn", "hailo", "ascend", "xilinx"]],
    Row("metadata in the file", "YOLO(model.export(format='torchscript', imgsz=64, verbose=False)).spec == model.spec"),
]

COMMAND_ROWS = [
    *[Row(f"yolo pose {mode}", f"parse(['pose', {mode!r}, 'imgsz=64']).action == {mode!r}")
      for mode in ["train", "val", "predict", "export", "track", "benchmark"]],
    Row("yolo MODE", "parse(['val', 'imgsz=64']).action == 'val'", "the task is optional"),
    Row("yolo tune", "parse(['tune', 'data=a.yaml']).action == 'tune'", "`yolo help tune` lists the options"),
    Row("yolo calibrate", "parse(['calibrate', 'data=a.yaml']).action == 'calibrate'"),
    Row("yolo TASK", note="only `pose`; another task is an error"),
    Row("yolo without MODE", note="an error that lists the modes, instead of a training"),
    *[Row(f"yolo {word}", f"cli({word!r}) == 0") for word in ("help", "checks", "version", "settings", "cfg")],
    Row("yolo copy-cfg", "parse(['copy-cfg']).action == 'copy-cfg'"),
    Row("yolo settings key=value, reset", "parse(['settings', 'reset']).action == 'settings'"),
    Row("cfg=file.yaml", "parse(['train', 'cfg=a.yaml']).options == {'cfg': 'a.yaml'}"),
    Row("--conf=0.3, conf = 0.3, trailing comma", "parse(['predict', '--conf=0.3,']).options == {'conf': 0.3}"),
    Row("a bare bool name", "parse(['predict', 'save_txt']).options == {'save_txt': True}"),
    *missing(MISSING_COMMANDS, "yolo {}"),
    Row("yolo beside ultralytics", "cli('checks') == 0", "`yolopose` is always this command"),
]  # fmt: skip

DATASET_ROWS = [
    *[
        Row(f"data YAML: {key}", "metrics.box.nc == 1", note)
        for key, note in {
            "path, train, val, test": "folders, .txt lists, or lists of these",
            "names or nc": "",
            "kpt_shape": "missing: an error that names it",
            "flip_idx": "missing: no flips, with the line to add; no permutation: an error",
            "kpt_names": "names of columns, labels, drawings; of another length: an error",
            "download": "archives only; a script is never executed",
        }.items()
    ],
    Row("one bad row in a label file", "True", "only that row is skipped, and reported; `strict=True`: an error"),
]

ARGUMENTS = {
    "train": (
        "data model project name exist_ok device verbose seed deterministic cfg plots save epochs time patience batch "
        "imgsz save_period cache workers pretrained cls_remap optimizer single_cls rect cos_lr close_mosaic resume amp "
        "fraction profile freeze multi_scale compile channels_last val distill_model dis lr0 lrf momentum weight_decay "
        "warmup_epochs warmup_momentum warmup_bias_lr nbs box cls cls_pw dfl pose kobj rle hsv_h hsv_s hsv_v degrees "
        "translate scale shear perspective flipud fliplr bgr mosaic mixup cutmix copy_paste copy_paste_mode "
        "auto_augment erasing overlap_mask mask_ratio dropout augmentations split save_json conf iou max_det half"
    ),
    "val": (
        "data model imgsz batch device verbose split save_json conf iou max_det half quantize dnn nms plots rect "
        "save_txt save_conf classes agnostic_nms augment single_cls workers project name exist_ok visualize"
    ),
    "predict": (
        "source stream vid_stride stream_buffer visualize augment agnostic_nms classes embed retina_masks conf iou "
        "imgsz half quantize device max_det batch compile show save save_frames save_txt save_conf save_crop "
        "show_labels show_conf show_boxes line_width project name exist_ok verbose dnn nms"
    ),
    "track": "tracker persist source stream conf iou imgsz device classes show save vid_stride",
    "export": (
        "format imgsz quantize half int8 dynamic simplify opset workspace nms optimize batch device data fraction "
        "keras name verbose"
    ),
    "benchmark": "model data imgsz half int8 device verbose format",
}
"""Arguments of the reference package by mode; whether each works is looked up in the option table."""

REFERENCE_DEFAULTS = {
    "train": {
        "epochs": 100, "time": None, "patience": 100, "batch": 16, "imgsz": 640, "save_period": -1, "cache": False,
        "pretrained": True, "cls_remap": True, "optimizer": "auto", "single_cls": False, "rect": False,
        "cos_lr": False, "close_mosaic": 10, "resume": False, "amp": True, "fraction": 1.0, "profile": False,
        "freeze": None, "multi_scale": 0.0, "compile": False, "channels_last": None, "val": True, "lr0": 0.01,
        "lrf": 0.01, "momentum": 0.937, "weight_decay": 0.0005, "warmup_epochs": 3.0, "warmup_momentum": 0.8,
        "warmup_bias_lr": 0.1, "nbs": 64, "box": 7.5, "cls": 0.5, "cls_pw": 0.0, "dfl": 1.5, "pose": 12.0, "kobj": 1.0,
        "rle": 1.0, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "degrees": 0.0, "translate": 0.1, "scale": 0.5,
        "shear": 0.0, "perspective": 0.0, "flipud": 0.0, "fliplr": 0.5, "bgr": 0.0, "mosaic": 1.0, "mixup": 0.0,
        "cutmix": 0.0, "seed": 0, "deterministic": True, "plots": True, "save": True, "exist_ok": False,
        "device": None, "verbose": True, "workers": 8,
    },
    "val": {
        "split": "val", "save_json": False, "conf": None, "iou": 0.7, "max_det": 300, "save_txt": False,
        "save_conf": False, "plots": True, "augment": False, "agnostic_nms": False, "classes": None, "batch": 16,
    },
    "predict": {
        "source": None, "vid_stride": 1, "stream_buffer": False, "augment": False, "agnostic_nms": False,
        "classes": None, "show": False, "save_frames": False, "save_txt": False, "save_conf": False,
        "save_crop": False, "show_labels": True, "show_conf": True, "show_boxes": True, "line_width": None,
        "conf": None, "iou": 0.7, "max_det": 300,
    },
    "track": {"tracker": "tracktrack.yaml"},
    "export": {
        "format": "torchscript", "quantize": None, "dynamic": False, "simplify": True, "opset": None,
        "workspace": None, "nms": None, "optimize": False, "half": False, "int8": False, "fraction": 1.0,
    },
}  # fmt: skip
OTHER_DEFAULTS = {("train", "workers"): None, ("track", "tracker"): "oks.yaml"}
"""Defaults that differ on purpose; `ARGUMENT_NOTES` has the reason."""
ARGUMENT_NOTES = {
    "project": "a relative folder is relative to the current folder; there to runs/pose",
    "time": "the limit includes validation and files",
    "pretrained": "True, False or a file",
    "profile": "accepted without effect",
    "keras": "accepted without effect",
    "fraction": "a share, a number of images, or a list",
    "augmentations": "own callables too, and keypoints follow",
    "tracker": "oks.yaml by default; bytetrack, botsort, ocsort too; tracktrack, deepocsort, fasttrack: use oks.yaml",
    "workers": "8 by default, at most one per CPU",
    "resume": "epochs= may be larger than before; see `keep_state`",
    "optimizer": "with recipe=auto, the default, chosen from the data; recipe=reference chooses as the reference",
    "int8": "data= names the calibration images; nothing is downloaded without it",
}

SECTIONS = {
    "Class YOLO": YOLO_ROWS,
    "Results": RESULT_ROWS,
    "Boxes and Keypoints": INSTANCE_ROWS,
    "Metrics": METRIC_ROWS,
    "Command line": COMMAND_ROWS,
    "Sources": SOURCE_ROWS,
    "Formats": FORMAT_ROWS,
    "Files": FILE_ROWS,
    "Callbacks": CALLBACK_ROWS,
    "Data sets": DATASET_ROWS,
}
