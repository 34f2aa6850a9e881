"""Install the wheel in dist/ with each extra in a clean environment and use it: `python tools/try_install.py`.

    python tools/try_install.py --extras headless gui,track headless,torch,onnx --python python3.13
    python tools/try_install.py --find-links FOLDER        # wheels that are preferred, such as a CPU build of torch

Each environment is removed afterwards. The table has the number of packages, the size and the outcome.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIGHT = [
    "headless",
    "gui",
    *(f"headless,{name}" for name in ("track", "parquet", "coco", "hdf5", "mat", "sleap", "openvino", "serve", "jobs")),
]
"""Extras without torch."""

BASE_SCRIPT = """
import pathlib, sys
import yolopose
from yolopose.cli import main

pathlib.Path("set.yaml").write_text(
    "path: set\\ntrain: images/train\\nval: images/val\\nfigures: {train: 4, val: 2, size: 96, seed: 0}\\n"
    "kpt_shape: [17, 3]\\nflip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]\\nnames: {0: person}\\n"
)
assert main(["version"]) == 0
assert main(["data", "show", "data=set.yaml"]) == 0
assert main(["convert", "data=set.yaml", "split=val", "output=val.json"]) == 0
assert "torch" not in sys.modules
"""
TORCH_SCRIPT = """
from yolopose import YOLO

model = YOLO("yolo11n-pose.yaml")
model.train(data="set.yaml", epochs=1, imgsz=64, workers=0, plots=False, verbose=False)
assert len(model("set/images/val", imgsz=64, verbose=False)) == 2
"""
ONNX_SCRIPT = """
from yolopose import YOLO

path = YOLO("yolo11n-pose.yaml").export(format="onnx", imgsz=64)
assert len(YOLO(path)("set/images/val", imgsz=64, verbose=False)) == 2
"""


def scripts(extra: str) -> list[str]:
    """Return the programs that must run with these extras."""
    names = set(extra.split(","))
    with_onnx = names & {"onnx", "mnn", "export", "dev"}
    with_torch = with_onnx or names & {"torch", "ncnn", "tflite", "executorch", "coreml"}
    return [BASE_SCRIPT, *([TORCH_SCRIPT] if with_torch else []), *([ONNX_SCRIPT] if with_onnx else [])]


def try_extra(extra: str, wheel: Path, python: str, pip_options: list[str]) -> str | None:
    """Install the wheel with extras in a new environment, use it and print a row; return the error, if there is one."""
    start = time.time()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([python, "-m", "venv", str(folder / "env")], check=True)
        executable = next(
            path for path in (folder / "env/bin/python", folder / "env/Scripts/python.exe") if path.exists()
        )
        before = folder_bytes(folder)
        commands = [[*pip_options, f"{wheel}[{extra}]" if extra else str(wheel)]]
        steps = [[str(executable), "-m", "pip", "install", "--quiet", *command] for command in commands]
        steps += [[str(executable), "-m", "pip", "check"]]
        steps += [[str(executable), "-c", script] for script in scripts(extra)]
        error = None
        for step in steps:
            result = subprocess.run(step, cwd=folder, capture_output=True, text=True, check=False)
            if result.returncode:
                error = (result.stderr or result.stdout).strip()[-2000:]
                break
        freeze = subprocess.run([executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=False)
        megabytes = (folder_bytes(folder / "env") - before) / 1e6
    outcome = "failed" if error else "ok"
    count = len(freeze.stdout.splitlines())
    print(f"| `{extra or '(none)'}` | {count} | {megabytes:.0f} | {time.time() - start:.0f} | {outcome} |", flush=True)
    return error


def folder_bytes(folder: Path) -> int:
    """Return the size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="*", default=LIGHT, help="extras to install, several joined by commas")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environments")
    parser.add_argument("--wheel", type=Path, help="by default the wheel in dist/")
    parser.add_argument("--find-links", help="folder of wheels that pip prefers")
    arguments = parser.parse_args()
    wheels = [arguments.wheel] if arguments.wheel else sorted((ROOT / "dist").glob("*.whl"))
    if len(wheels) != 1:
        print(f"dist/ has {len(wheels)} wheels; one is needed: python -m build --wheel", file=sys.stderr)
        return 1
    options = ["--find-links", arguments.find_links] if arguments.find_links else []
    print("| extras | packages | MB | seconds | outcome |\n|---|---|---|---|---|")
    errors = {extra: try_extra(extra, wheels[0].resolve(), arguments.python, options) for extra in arguments.extras}
    for extra, error in errors.items():
        if error:
            print(f"\n{extra or '(none)'}:\n{error}", file=sys.stderr)
    return any(errors.values())


if __name__ == "__main__":
    sys.exit(main())
