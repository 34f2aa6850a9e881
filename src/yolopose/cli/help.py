"""Help texts, generated from the option table."""

from __future__ import annotations

from yolopose._version import __version__
from yolopose.config import MODES, OptionSpec, modes_by_option, option_specs

AVAILABLE = {
    "train": "train a network on a data set",
    "predict": "estimate poses in images",
    "track": "estimate poses in videos and streams, with an id for each instance",
    "embed": "compute vectors of images, and find the images nearest to others",
    "val": "measure precision, recall and mAP on a data set",
    "export": "write a network in another format, such as ONNX",
    "benchmark": "measure size, accuracy and speed of a network in every format",
    "convert": "convert annotations of any format to any other",
    "compare": "compare two validation runs, with a test of significance",
    "report": "write the report of a validation run (report.html) again from its folder",
    "label": "label images with a network, for review in a labeling tool, and suggest which to label",
    "data split": "divide a data set into train, val and test",
    "data merge": "join data sets, with classes and keypoints matched by name",
    "data sample": "take a smaller data set with the same proportions",
    "data show": "draw a grid of images with their labels",
    "data list": "list the known data sets; with name=, all that is known of one",
    "data get": "download a known data set",
    "evaluate": "compare tracks with a ground truth: HOTA, MOTA, IDF1",
    "smooth": "smooth the keypoints of a track file and fill gaps",
    "doctor": "examine a data set for problems, and write a fixed copy",
    "batch": "predict any number of images and videos, restartable, on this machine or a Ray cluster",
    "serve": "answer requests with images over HTTP",
    "triton": "write a model repository for NVIDIA Triton Inference Server",
    "tune": "search better training options, and test them on images that the search did not see",
    "calibrate": "make confidences the shares of correct detections and keypoints",
}

TOPICS = {
    "data": "\n".join(
        [
            "yolo data split | merge | sample | show | list | get key=value …",
            "",
            *(f"  {mode.removeprefix('data '):<10}{AVAILABLE[mode]}" for mode in AVAILABLE if " " in mode),
            "",
            "`yolo help data split` lists the options of `data split`. Your files are never moved or changed.",
        ]
    ),
    "toolchain": """yolo toolchain list | install name=tf | remove name=tf | run name=tf -- yolo …

  list       converters whose dependencies conflict with others: purpose, size, state
  install    install one into a private Python environment, after printing its size
  remove     remove it
  run        run a command in it, such as yolo val model=x_saved_model data=my-data.yaml

Nothing is installed without this command. YOLOPOSE_TOOLCHAINS_DIR sets the folder of the environments.""",
}


def overview() -> str:
    """Return the text of `yolo help`."""
    modes = "\n".join(f"  {mode:<10}{summary}" for mode, summary in AVAILABLE.items() if " " not in mode)
    return f"""yolopose {__version__}: pose estimation with YOLO networks

  yolo [pose] MODE key=value …

Modes
{modes}
  data      split, merge, sample or show data sets; list and get known ones (yolo help data)

Examples
  yolo pose train data=coco8-pose.yaml model=yolo11n-pose.yaml epochs=100 imgsz=640
  yolo pose predict model=yolo11n-pose.pt source=images/

Also
  yolo help MODE               the options of a mode, with defaults
  yolo settings [key=value]    folders of data sets, weights and runs;  yolo settings reset
  yolo models                  networks, their sizes, licenses and published AP;  yolo models license=permissive
  yolo formats                 file formats, the options they support and the packages they need
  yolo toolchain list          converters in private environments: install name=tf, remove, run name=tf -- yolo …
  yolo checks                  installed packages and conflicts between them;  yolo version
  yolo cfg                     all options as YAML;  yolo copy-cfg writes them to default_copy.yaml

YOLO_DEBUG=1 shows the traceback of an error."""


def mode_help(mode: str) -> str:
    """Return the text of `yolo help MODE`."""
    lines = [f"yolo pose {mode} key=value …", ""]
    for spec in option_specs(mode).values():
        values = _accepted_values(spec)
        lines.append(
            f"  {spec.name + '=' + str(spec.default):<22} {spec.description}{f' ({values})' if values else ''}"
        )
    return "\n".join(lines)


def options_markdown() -> str:
    """Return all options of all modes as a page; docs/options.md has this text."""
    lines = ["# Options", "", "Generated from the option dataclasses, as `yolo help MODE` is; a test compares them."]
    for mode in MODES:
        lines += ["", f"## {mode}", "", "| option | default | description | values |", "|---|---|---|---|"]
        for spec in option_specs(mode).values():
            description = spec.description.replace("|", "/")
            lines.append(f"| `{spec.name}` | `{spec.default}` | {description} | {_accepted_values(spec)} |")
    return "\n".join(lines) + "\n"


def _accepted_values(spec: OptionSpec) -> str:
    """Return choices or range as short text; empty where any value of the type is accepted."""
    if spec.choices:
        return ", ".join(map(str, spec.choices))
    if spec.low is not None:
        return f"{spec.low:g}…{spec.high:g}" if spec.high is not None else f"from {spec.low:g}"
    return ""


def options_yaml() -> str:
    """Return all options with defaults and help as YAML, the output of `yolo cfg`.

    Options whose default differs between modes are commented out, so that an unedited copy changes nothing.
    """
    import yaml

    lines = ["# Options of yolopose; use an edited copy with `yolo pose predict cfg=FILE.yaml`."]
    seen: set[str] = set()
    for mode in MODES:
        new = [spec for spec in option_specs(mode).values() if spec.name not in seen]
        if new:
            lines.append(f"\n# {mode}")
        for spec in new:
            seen.add(spec.name)
            by_mode = {other: option_specs(other)[spec.name].default for other in modes_by_option()[spec.name]}
            if all(value == spec.default for value in by_mode.values()):
                line = yaml.safe_dump({spec.name: spec.default}).strip()
                lines.append(f"{line:<24} # {spec.description}")
            else:
                defaults = ", ".join(f"{other} {value}" for other, value in by_mode.items())
                lines.append(f"# {spec.name + ':':<22} # by mode: {defaults}")
    return "\n".join(lines) + "\n"
