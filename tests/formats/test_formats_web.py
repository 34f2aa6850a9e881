"""format=web without a browser: its runtime, the content of the folder, and its computations in Node.js."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from formats_samples import assert_agrees, random_batch, require_installed
from web_pages import NAMES, make_package

from servers import Server, whole
from yolopose import YOLO
from yolopose.base.errors import DependencyError, DownloadError, NotFoundError, UsageError, WeightsError
from yolopose.base.settings import cache_dir
from yolopose.data.images import letterbox_batch
from yolopose.formats import open_runtime
from yolopose.formats.web import page_metadata
from yolopose.formats.web.onnxruntime_web import fetch_runtime, runtime_files
from yolopose.geometry import Letterbox
from yolopose.runtime import from_end2end, from_raw
from yolopose.runtime.nms import nms
from yolopose.schema import COCO_PERSON_SKELETON, KeypointSchema, ModelMetadata, PoseSpec

PARTS = files("yolopose.formats.web") / "parts"
NODE = shutil.which("node")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a small package that matches the table."""
    table = make_package(tmp_path)
    monkeypatch.setattr("yolopose.zoo.web_runtime_table", lambda: table)
    return tmp_path


# -- the runtime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["installed", "installed/dist", "package.tgz"])
def test_reads_a_local_copy(place: str, package: Path) -> None:
    assert list(runtime_files(str(package / place))) == NAMES


def test_missing_runtime_error_states_the_remedy(package: Path) -> None:
    with pytest.raises(DependencyError, match=r"web_runtime=fetch .* 33 MB .* npm install onnxruntime-web@"):
        runtime_files(None)
    with pytest.raises(NotFoundError, match="node_modules/onnxruntime-web"):
        runtime_files(str(package / "nowhere"))


@pytest.mark.parametrize("place", ["installed", "package.tgz"])
def test_refuses_other_versions_and_other_files(place: str, package: Path) -> None:
    if place == "installed":
        (package / "installed/dist" / NAMES[1]).write_bytes(b"another")
    else:
        (package / place).write_bytes((package / place).read_bytes()[:150])
    with pytest.raises(UsageError, match=r"is not onnxruntime-web 1\.30\.0") as caught:
        runtime_files(str(package / place))
    assert ("but 1.20.0" in str(caught.value)) == (place == "installed")


def test_downloads_once_and_again_when_damaged(package: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolopose import zoo

    table = {**zoo.web_runtime_table(), "address": f"{server.address}/package.tgz"}
    monkeypatch.setattr("yolopose.zoo.web_runtime_table", lambda: table)
    server.answers["/package.tgz"] = whole((package / "package.tgz").read_bytes())
    for expected in (1, 1):
        assert list(runtime_files("fetch")) == list(runtime_files(None)) == NAMES
        assert len(server.seen) == expected
    kept = cache_dir() / "onnxruntime-web-1.30.0"
    assert [path.name for path in cache_dir().iterdir() if path.suffix != ".lock"] == [kept.name]
    (kept / NAMES[0]).write_bytes(b"altered")
    with pytest.raises(DependencyError):
        runtime_files(None)
    assert list(runtime_files("fetch")) == NAMES
    assert len(server.seen) == 2


def test_checks_the_download(package: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolopose import zoo

    table = {**zoo.web_runtime_table(), "address": f"{server.address}/package.tgz", "integrity": "sha512-AAAA"}
    monkeypatch.setattr("yolopose.zoo.web_runtime_table", lambda: table)
    server.answers["/package.tgz"] = whole((package / "package.tgz").read_bytes())
    with pytest.raises(DownloadError, match="sha512 differs"):
        fetch_runtime()
    assert not any(path.suffix == ".tgz" or path.is_dir() for path in cache_dir().iterdir())
    monkeypatch.setenv("YOLOPOSE_OFFLINE", "1")
    with pytest.raises(DownloadError, match="offline mode"):
        fetch_runtime()


# -- the folder -----------------------------------------------------------------------------------------------------


def test_exports_a_folder_and_opens_it(small: YOLO, package: Path) -> None:
    require_installed("torch", "onnx", "onnxscript")
    quick: dict[str, Any] = {"opset": 17, "simplify": False, "verbose": False}
    folder = Path(small.export(format="web", imgsz=[64, 96], web_runtime=str(package / "installed"), **quick))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    own = {part.name for part in PARTS.iterdir() if "LICENSE" not in part.name}
    engine = {f"runtime/{name.replace('.mjs', '.js')}" for name in (*NAMES, "LICENSE.txt")}
    assert there == own | engine | {"model.onnx", "model.json"}
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert (about["imgsz"], about["kpt_shape"], about["end2end"], about["dynamic"]) == ([64, 96], [5, 2], False, False)
    assert [one["name"] for one in about["classes"]] == ["class0", "class1", "class2"]
    assert about["classes"][2]["points"][4] == "keypoint 4"
    assert (about["conf"], about["floor"], about["iou"], about["max_det"]) == (0.25, 0.01, 0.7, 300)
    runtime = open_runtime(folder, device="cpu")
    assert_agrees(runtime, small, [random_batch(2, 64, 96)])
    (folder / "model.onnx").unlink()
    with pytest.raises(WeightsError, match=r"should hold one \.onnx"):
        open_runtime(folder)


def test_page_metadata_with_nms_in_the_graph() -> None:
    rules = {"nms": {"conf": 0.4, "max_det": 7, "iou": 0.5}}
    person = PoseSpec(classes=("person",), keypoints=KeypointSchema(count=17))
    about = page_metadata(ModelMetadata(spec=person, end2end=True, args=rules, license="X"), 16, "best")
    assert (about["name"], about["license"], about["bits"]) == ("best", "X", 16)
    assert (about["conf"], about["floor"], about["max_det"], about["end2end"]) == (0.4, 0.4, 7, True)
    assert about["classes"][0]["points"][:2] == ["nose", "left_eye"]
    assert [limb[:2] for limb in about["limbs"]] == [list(edge) for edge in COCO_PERSON_SKELETON]
    assert len(about["points"]) == 17
    assert all(re.fullmatch("#[0-9a-f]{6}", paint) for paint in (*about["points"], about["limbs"][0][2]))


def test_writes_nothing_without_the_runtime(small: YOLO, tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="web_runtime=fetch"):
        small.export(format="web", imgsz=64, verbose=False)
    with pytest.raises(UsageError, match="these support it: web"):
        small.export(format="onnx", imgsz=64, web_runtime="fetch", verbose=False)


def test_page_sends_no_requests_to_other_servers() -> None:
    page = (PARTS / "index.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules.pop("default-src") == ["'none'"]
    local = {"'self'", "'none'", "'wasm-unsafe-eval'", "blob:", "data:"}
    assert {place for places in rules.values() for place in places} <= local
    assert rules["connect-src"] == rules["style-src"] == ["'self'"]
    assert rules["script-src"] == ["'self'", "'wasm-unsafe-eval'"]
    for part in PARTS.iterdir():
        if part.name.endswith((".js", ".html", ".css")):
            text = part.read_text(encoding="utf-8")
            found = re.findall(
                r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}|innerHTML|eval\(|<script>|\sstyle=|\son\w+=", text
            )
            assert found == [], part.name


# -- its arithmetic -------------------------------------------------------------------------------------------------


def run_node(folder: Path, program: str, given: Any) -> Any:
    """Run a program that imports modules of the page; its input is `given`, its output a JSON text."""
    if NODE is None:
        pytest.skip("node is not installed")
    shutil.copytree(str(PARTS), folder, dirs_exist_ok=True)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "given.json").write_text(json.dumps(given))
    head = 'import { readFileSync } from "node:fs";\nconst given = JSON.parse(readFileSync("given.json"));\n'
    (folder / "program.js").write_text(head + program)
    done = subprocess.run([NODE, "program.js"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SIZES = [(640, 640), (1080, 810), (720, 1280), (480, 640), (97, 401), (1, 700), (33, 31), (1281, 639), (640, 427)]


def test_letterbox_equals_that_of_python(tmp_path: Path) -> None:
    cases = [
        [source, target, stride]
        for source in SIZES
        for target in ((640, 640), (320, 480), (384, 640))
        for stride in (0, 32)
    ]
    program = """import { fit, roundEven } from "./letterbox.js";
        console.log(JSON.stringify({
          fits: given.map(([source, target, stride]) => fit(source, target, stride)),
          halves: [0.5, 1.5, 2.5, -0.5, 1.4999, 2.5001].map(roundEven),
        }));"""
    found = run_node(tmp_path, program, cases)
    assert found["halves"] == [0, 2, 2, 0, 1, 3]
    for (source, target, stride), one in zip(cases, found["fits"], strict=True):
        expected = Letterbox.fit(source, target, auto=bool(stride), stride=stride or 32)
        assert (tuple(one["inner"]), one["top"], one["left"], tuple(one["out"])) == (
            expected.inner, expected.top, expected.left, expected.out,
        )  # fmt: skip


@pytest.mark.parametrize("size", [(64, 64), (48, 100), (23, 17), (128, 128), (130, 77), (200, 64)])
def test_resizing_equals_that_of_opencv(size: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    cv2.GaussianBlur(image[: size[0] // 2], (5, 5), 0, dst=image[: size[0] // 2])
    expected = letterbox_batch([image], [Letterbox.fit(size, (64, 96))])[0]
    rgba = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)
    program = """import { fill, fit } from "./letterbox.js";
        const planes = new Float32Array(3 * 64 * 96);
        fill(Uint8ClampedArray.from(given.pixels), fit(given.size, [64, 96]), planes);
        console.log(JSON.stringify([...planes].map((value) => value * 255)));"""
    found = run_node(tmp_path, program, {"pixels": rgba.ravel().tolist(), "size": size})
    np.testing.assert_allclose(np.reshape(found, (3, 64, 96)), expected, atol=1e-4)


@pytest.mark.parametrize(("nc", "shape"), [(1, (17, 3)), (3, (5, 2)), (2, (4, 3))])
@pytest.mark.parametrize("final", [False, True])
def test_postprocessing_equals_that_of_python(nc: int, shape: tuple[int, int], final: bool, tmp_path: Path) -> None:
    rng, (count, dims) = np.random.default_rng(nc), shape
    fit, cells, iou, conf, most = Letterbox.fit((375, 501), (320, 320)), 400, 0.45, 0.3, 25
    centers = rng.uniform(0, 320, (2, 30)).repeat(-(-cells // 30), 1)[:, :cells] + rng.normal(0, 6, (2, cells))
    sides, scores = rng.uniform(20, 90, (2, cells)), rng.uniform(0, 1, (nc, cells)).round(2)  # ties among them
    points = rng.uniform(-20, 340, (count * dims, cells))
    if final:
        boxes = np.concatenate((centers - sides / 2, centers + sides / 2))
        raw = np.concatenate((boxes, -np.sort(-scores[:1]), rng.integers(0, nc, (1, cells)), points)).T[None]
        candidates = from_end2end(raw.astype(np.float32), shape, conf=conf)
    else:
        raw = np.concatenate((centers, sides, scores, points))[None]
        candidates = from_raw(raw.astype(np.float32), shape, conf=conf)
    (kept,) = nms(candidates, 1, iou=iou, max_det=most)
    metadata = {"classes": [{}] * nc, "kpt_shape": shape, "end2end": final, "iou": iou, "max_det": most}
    program = """import { postprocess } from "./postprocess.js";
        import { fit } from "./letterbox.js";
        const output = { data: Float32Array.from(given.raw), dims: given.dims };
        console.log(JSON.stringify(postprocess(output, given.metadata, given.conf, fit([375, 501], [320, 320]))));"""
    given = {"raw": raw.astype(np.float32).ravel().tolist(), "dims": raw.shape, "metadata": metadata, "conf": conf}
    found = run_node(tmp_path, program, given)
    assert len(found) == len(kept) == (most if final else len(kept)) > 9
    np.testing.assert_array_equal([one["cls"] for one in found], kept.classes)
    np.testing.assert_array_equal(np.float32([one["score"] for one in found]), kept.scores)
    np.testing.assert_allclose([one["box"] for one in found], fit.boxes_to_source(kept.boxes), rtol=1e-6)
    np.testing.assert_allclose([one["points"] for one in found], fit.points_to_source(kept.points), rtol=1e-6)
