"""Write the seeds of the corpora with the writers of the package: `python fuzz/make_seeds.py`."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import cv2
import harness
import numpy as np
from convert_records import random_record

from yolopose.data.convert.conversion import write_annotations
from yolopose.data.convert.record import DatasetRecord

ROOT = harness.FUZZ.parent
CORPUS = harness.FUZZ / "corpus"


def put(target: str, name: str, data: bytes | str) -> None:
    """Write a seed."""
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def small_record(folder: Path, several: bool) -> DatasetRecord:
    """Two images with few instances."""
    record = random_record(folder, 1, several=several, splits=False)
    images = [image for image in record.images() if image.instances][:2]
    for image in images:
        image.instances = image.instances[:2]
    return DatasetRecord(classes=record.classes, read_images=lambda issues: iter(images))


def annotations() -> None:
    """Files of each annotation format."""
    single = ["coco", "cvat", "labelstudio", "via", "mpii", "ndjson"]
    for name in [*single, "labelme", "deeplabcut", "sleap", "yolo"]:
        with tempfile.TemporaryDirectory() as folder:
            record = small_record(Path(folder) / "source", several=name in ("coco", "cvat", "labelstudio"))
            report = write_annotations(record, Path(folder) / "out", to=name, verbose=False)
            output = Path(report.output)
            if name == "sleap":
                import h5py

                slp = output if output.is_file() else next(output.rglob("*.slp"))
                shutil.copyfile(slp, harness.FUZZ / "project.slp")
                with h5py.File(slp) as file:
                    put(name, "written", bytes(file["metadata"].attrs["json"]))
            elif name == "deeplabcut":
                root = output if output.is_dir() else output.parent
                table = next(root.rglob("CollectedData_*.csv")).read_text()
                table = "\n".join(
                    line.replace(next(root.rglob("CollectedData_*.csv")).parent.name, "m1")
                    for line in table.splitlines()
                )
                put(name, "written", (root / "config.yaml").read_text() + "\n=====\n" + table)
            elif name == "yolo":
                root = output if output.is_dir() else output.parent
                label = next(path for path in root.rglob("*.txt") if path.stat().st_size)
                put(name, "written", next(root.glob("*.yaml")).read_text() + "\n=====\n" + label.read_text())
            else:
                files = (
                    [output] if output.is_file() else sorted(output.rglob("*.*json")) + sorted(output.rglob("*.xml"))
                )
                files = [file for file in files if file.name != "yolopose.json"]
                put(name, "written", files[0].read_bytes())


def texts() -> None:
    """Label rows, YAML, words of the command line, metadata, requests."""
    put("labels", "two_keypoints", "0 0.5 0.5 0.2 0.3 0.4 0.4 2 0.6 0.6 1\n1 0.1 0.1 0.1 0.1 0 0 0 0.1 0.1 2\n")
    put("labels", "two_dims", "0 0.5 0.5 0.2 0.3 0.4 0.4 0.6 0.6\n")
    put("labels", "one_keypoint", "1 0.5 0.5 0.2 0.3 0.4 0.4 0.9\n\n")
    put("labels", "person", "0 0.5 0.5 0.2 0.3 " + "0.4 0.4 2 " * 17 + "\n")
    data = "path: .\ntrain: images\nval: images\nnames: {0: a, 1: 'no'}\nkpt_shape: [3, 2]\nflip_idx: [0, 2, 1]\n"
    put("data_yaml", "plain", data)
    put(
        "data_yaml",
        "full",
        data + "kpt_names: {0: [n, l, r]}\nskeleton: [[0, 1]]\noks_sigmas: [0.1, 0.1, 0.1]\nchannels: 3\n",
    )
    put(
        "data_yaml",
        "lists",
        "train: [images, images]\nval: images\nnc: 1\nkpt_shape: [17, 3]\ndownload: https://a.b/c.zip\n",
    )
    put("yaml", "plain", data)
    put("yaml", "anchors", "a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}}\ne: !!binary aGk=\nf: 2020-01-01\ng: |\n  h\n")
    models = ROOT / "src/yolopose/zoo/models"
    for path in sorted(models.glob("*pose*.yaml"))[:4]:
        put("model_yaml", path.stem, path.read_bytes())
    lines = [
        "pose predict model=a.pt source=b.jpg conf=0.3", "train data=a.yaml imgsz=[320,640] device=0,1",
        "val model=a.pt split=test", "export format=onnx half=True", "convert source=a to=coco",
        "help train", "compare a b",
        "data split data=a.yaml", "track model=a.pt tracker=oks.yaml", "settings runs_dir=a", "toolchain run a -- b",
    ]  # fmt: skip
    for number, line in enumerate(lines):
        put("cli", f"line_{number}", line.replace(" ", "\0"))
    from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

    own = ModelMetadata(spec=PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person()))
    from yolopose.formats.metadata import KEY, own_metadata

    put("metadata", "own", json.dumps({KEY: own_metadata(own)}))
    reference = {
        "description": "Ultralytics YOLO11n-pose model", "task": "pose", "batch": "1", "imgsz": "[640, 640]",
        "stride": "32",
        "names": "{0: 'person'}", "kpt_shape": "[17, 3]", "args": "{'dynamic': False}", "channels": "3",
    }  # fmt: skip
    put("metadata", "reference", json.dumps(reference))
    put("server", "models", "GET /models\n\n")
    put("server", "page", "GET /?a=b\naccept: text/html\n\n")
    image = cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    put("server", "predict", b"POST /predict?conf=0.5&imgsz=160\ncontent-type: image/png\n\n" + image)
    form = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + image + b"\r\n--b--\r\n"
    put("server", "form", b"POST /predict\ncontent-type: multipart/form-data; boundary=b\n\n" + form)
    infer = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["aGk="]}]}
    put("server", "infer", "POST /v2/models/fake/infer\ncontent-type: application/json\n\n" + json.dumps(infer))


def weights() -> None:
    """Weights files of small networks, and their pickles."""
    import io
    import zipfile

    golden = ROOT / "tests/weights/golden"
    content = (golden / "format_1.bin").read_bytes()
    put("checkpoint", "format_1", content)
    put("safetensors", "format_1", (golden / "format_1_safetensors.bin").read_bytes())
    from weights_craft import good

    put("checkpoint", "reference", good())
    for name, data in (("format_1", content), ("reference", good())):
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            put("pickle", name, next(opened.read(item) for item in opened.namelist() if item.endswith("data.pkl")))


def images() -> None:
    """One small image of each format that OpenCV writes."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (4, 5, 3), np.uint8), (24, 17))
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm", ".avif"):
        try:
            is_written, data = cv2.imencode(suffix, image)
            if is_written:
                put("images", f"small{suffix}", data.tobytes())
        except cv2.error:
            print(f"OpenCV does not write {suffix}")
    put("images", "progressive.jpg", cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    put("images", "alpha.png", cv2.imencode(".png", np.dstack([image, image[:, :, :1]]))[1].tobytes())


def tracks() -> None:
    """One file of each format of tracks; the first byte chooses it."""
    from yolopose.data.figures.sequences import write_sequences
    from yolopose.data.tracks import read_tracks, write_tracks

    with tempfile.TemporaryDirectory() as folder:
        write_sequences(folder, ["crossing-2"], [0])
        (sequence,) = read_tracks(next(Path(folder).rglob("gt.jsonl")))
        for number, (name, format) in enumerate(
            (("a.jsonl", None), ("a.csv", None), ("a.txt", None), ("b.csv", "deeplabcut"))
        ):
            path = Path(write_tracks(Path(folder) / name, sequence, format))
            lines = path.read_bytes().splitlines(keepends=True)[:6]
            put("tracks", name, bytes([number if number < 3 else 1]) + b"".join(lines))


if __name__ == "__main__":
    for make in (texts, weights, images, tracks, annotations):
        make()
