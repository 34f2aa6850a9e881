"""Help texts, made from the table of options."""

from __future__ import annotations

from yolopose._version import __version__
from yolopose.config import MODES, OptionSpec, modes_by_option, option_specs

BUILT = {
    "train": "train a network on a data set",
    "predict": "estimate poses in images",
    "val": "measure precision, recall and mAP on a data set",
    "export": "write a network in another format, such as ONNX",
    "benchmark": "size, accuracy and time of a network in every format",
    "convert": "COCO keypoint annotations to labels, and back",
    "compare": "what one run of val is better by than another, and whether that is chance",
    "report": "the page of a run of val (report.html), made again from its folder",
}

TOPICS = {
    "toolchain": """yolo toolchain list | install name=tf | remove name=tf | run name=tf -- yolo …

  list       the converters that pin their libraries against each other, what each is for, its size and state
  install    puts one into a room of its own, a private Python environment, after saying its size
  remove     takes it away again
  run        runs a command in it, such as yolo val model=x_saved_model data=my-data.yaml

Nothing is installed without this word. YOLOPOSE_TOOLCHAINS_DIR says where the rooms are.""",
}


def overview() -> str:
    """The screen of `yolo help`."""
    modes = "\n".join(f"  {mode:<10}{words}" for mode, words in BUILT.items())
    later = ", ".join(mode for mode in MODES if mode not in BUILT)
    return f"""yolopose {__version__}: pose estimation with YOLO networks

  yolo [pose] MODE key=value …

Modes
{modes}
  (not in this version yet: {later})

Examples
  yolo pose train data=coco8-pose.yaml model=yolo11n-pose.yaml epochs=100 imgsz=640
  yolo pose train resume=True model=runs/pose/train/weights/last.pt
  yolo pose predict model=yolo11n-pose.pt source=images/
  yolo pose val model=yolo11n-pose.pt data=coco8-pose.yaml imgsz=640
  yolo export model=yolo11n-pose.pt format=onnx
  yolo benchmark model=yolo11n-pose.pt data=coco8-pose.yaml

Also
  yolo help MODE               the options of a mode, with defaults
  yolo settings [key=value]    folders of data sets, weights and runs;  yolo settings reset
  yolo models                  networks that ship, their sizes, public weights and license
  yolo formats                 file formats: what they heed and need
  yolo toolchain list          converters in rooms of their own: install name=tf, remove, run name=tf -- yolo …
  yolo checks                  what is installed here, and clashes
  yolo cfg                     all options as YAML;  yolo copy-cfg writes them to default_copy.yaml
  yolo version

YOLO_DEBUG=1 shows the traceback of an error."""


def of_mode(mode: str) -> str:
    """The screen of `yolo help MODE`."""
    lines = [f"yolo pose {mode} key=value …", ""]
    if mode not in BUILT:
        lines.append(f"({mode} is not in this version yet; these are the options it will take.)\n")
    for key in option_specs(mode).values():
        span = _span(key)
        lines.append(f"  {key.name + '=' + str(key.default):<22} {key.description}{f' ({span})' if span else ''}")
    return "\n".join(lines)


def as_markdown() -> str:
    """All options of all modes as a page; docs/options.md is this text."""
    lines = ["# Options", "", "Made from the option dataclasses, as `yolo help MODE` is; a test keeps this page equal."]
    for mode in MODES:
        later = "" if mode in BUILT else " (not in this version yet)"
        lines += ["", f"## {mode}{later}", "", "| key | default | what | values |", "|---|---|---|---|"]
        for key in option_specs(mode).values():
            lines.append(f"| `{key.name}` | `{key.default}` | {key.description.replace('|', '/')} | {_span(key)} |")
    return "\n".join(lines) + "\n"


def _span(key: OptionSpec) -> str:
    """The values that a key takes, in a few signs; empty where its type says all."""
    if key.choices:
        return ", ".join(map(str, key.choices))
    if key.low is not None:
        return f"{key.low:g}…{key.high:g}" if key.high is not None else f"from {key.low:g}"
    return ""


def as_yaml() -> str:
    """All options with their defaults as YAML, each with its line of help; what `yolo cfg` prints.

    A key whose default differs between modes is commented out, so that an unchanged copy changes nothing.
    """
    import yaml

    lines = ["# Options of yolopose; use a changed copy with `yolo pose predict cfg=FILE.yaml`."]
    seen: set[str] = set()
    for mode in MODES:
        own = [key for key in option_specs(mode).values() if key.name not in seen]
        if own:
            lines.append(f"\n# {mode}")
        for key in own:
            seen.add(key.name)
            values = {other: option_specs(other)[key.name].default for other in modes_by_option()[key.name]}
            if all(value == key.default for value in values.values()):
                value = yaml.safe_dump({key.name: key.default}).strip()
                lines.append(f"{value:<24} # {key.description}")
            else:
                each = ", ".join(f"{other} {value}" for other, value in values.items())
                lines.append(f"# {key.name + ':':<22} # by mode: {each}")
    return "\n".join(lines) + "\n"
