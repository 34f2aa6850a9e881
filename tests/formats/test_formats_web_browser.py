"""The page of format=web in a headless browser: it detects what Python detects, and sends no requests."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from formats_samples import require_installed
from web_pages import real_runtime

from few_images import SMALL
from servers import Server
from yolopose import YOLO
from yolopose.results import Results

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
require_installed("torch", "onnx", "onnxscript")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and chromedriver are needed", allow_module_level=True)

pytestmark = pytest.mark.slow  # its computations are tested in Node.js, in test_formats_web

FLAGS = [
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "use-fake-device-for-media-stream",
    "use-fake-ui-for-media-stream",
]  # fmt: skip
QUICK: dict[str, Any] = {"format": "web", "opset": 17, "simplify": False, "verbose": False, "imgsz": [64, 96]}
DUAL = SMALL.replace("nc: 3\n", "nc: 3\nend2end: True\nreg_max: 1\n").replace("Pose,", "Pose26,")
# a promise of the next result or error message of the page
LISTEN = """const [name, message] = [arguments[0], document.getElementById("message")];
    window.result = new Promise((done) => {
      document.addEventListener("poses", ({ detail }) => !name || detail.source === name ? done(detail) : null);
      new MutationObserver(() => message.hidden || done({ error: message.textContent }))
        .observe(message, { attributes: true, childList: true });
    });"""


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Serve the folder of the test."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=tmp_path))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = BROWSER
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1200,900"]:
        chosen.add_argument(f"--{flag}")
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # the driver is named, so that selenium looks for none and fetches nothing
    driver = webdriver.Chrome(options=chosen, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=["usual", "end2end"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> YOLO:
    """Return a small network with widely different scores: three classes, five keypoints without visibility."""
    import torch

    file = tmp_path_factory.mktemp("small") / "small-pose.yaml"
    file.write_text(SMALL if request.param == "usual" else DUAL, encoding="utf-8")
    torch.manual_seed(0)
    model = YOLO(file)
    for name, value in model.model.state_dict().items():
        if "cv3" in name and name.endswith("2.bias"):
            value.zero_()
        elif "cv3" in name and name.endswith("2.weight"):
            value.mul_(20)
    return model


def export_page(model: YOLO, folder: Path, **options: Any) -> Path:
    end2end = model.model.supports_end2end or None
    made = Path(model.export(**QUICK, web_runtime=str(real_runtime()), end2end=end2end, **options))
    return Path(shutil.move(made, folder / "page_web_page"))


def open_page(browser: Any, address: str, folder: str = "page_web_page") -> str:
    """Open a page and wait until it is ready or shows an error; return the error message."""
    browser.get(f"{address}/{folder}/")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if browser.execute_script("return document.documentElement.classList.contains('ready')"):
            return ""
        if message := browser.find_element("id", "message").text:
            return message
        time.sleep(0.05)
    raise AssertionError(f"the page does not start: {browser.get_log('browser')}")


def show_file(browser: Any, file: Path) -> dict[str, Any]:
    """Open a file on the page; return its detections or the error."""
    browser.execute_script(LISTEN, file.name)
    browser.find_element("id", "file").send_keys(str(file))
    return next_result(browser)


def next_result(browser: Any) -> dict[str, Any]:
    return browser.execute_async_script("window.result.then(arguments[0])")


def assert_equal(found: dict[str, Any], expected: Results, near: float) -> None:
    objects, (height, width) = found["found"], expected.orig_shape
    assert len(objects) == len(expected) > 0
    np.testing.assert_array_equal([one["cls"] for one in objects], expected.boxes.cls)
    np.testing.assert_allclose([one["score"] for one in objects], expected.boxes.conf, atol=1e-3)
    np.testing.assert_allclose([one["box"] for one in objects], expected.boxes.xyxy, atol=near)
    points = np.array([one["points"] for one in objects])
    np.testing.assert_allclose(points[..., :2], expected.keypoints.xy, atol=near)
    assert points[..., 0].max() <= width
    assert points[..., 1].max() <= height


def browser_errors(browser: Any) -> list[str]:
    return [line["message"] for line in browser.get_log("browser") if "No available adapters" not in line["message"]]


def write_image(path: Path, height: int, width: int) -> Path:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(noise, (0, 0), 3) * 3)
    return path


@pytest.mark.parametrize("options", [{}, {"dynamic": True}])
def test_detects_what_python_detects(options: dict, model: YOLO, browser: Any, address: str, tmp_path: Path) -> None:
    folder = export_page(model, tmp_path, **options)
    python = YOLO(folder)
    assert open_page(browser, address) == ""
    assert "96 × 64" in browser.find_element("id", "status").text
    for height, width in ((101, 77), (64, 96)):
        image = write_image(tmp_path / f"{height}.png", height, width)
        (expected,) = python(image, conf=0.01, verbose=False)
        conf = round(float(np.median(expected.boxes.conf)), 2)
        browser.execute_script("document.getElementById('conf').value = arguments[0]", conf)
        (expected,) = python(image, conf=conf, verbose=False)
        assert_equal(show_file(browser, image), expected.numpy(), 0.01)
        browser.execute_script(LISTEN)
        browser.find_element("id", "conf").send_keys("\ue012")  # arrow to the left: the network does not run again
        (expected,) = python(image, conf=conf - 0.01, verbose=False)
        again = next_result(browser)
        assert_equal(again, expected.numpy(), 0.01)
        assert again["times"] is None
    assert browser.find_element("id", "summary").text.count("× class") == len(set(expected.boxes.cls.tolist()))
    assert browser_errors(browser) == []


@pytest.fixture(scope="module")
def page(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page of the untrained small network."""
    return export_page(small, tmp_path_factory.mktemp("page"))


@pytest.fixture
def copied(page: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(page, tmp_path / page.name))


def test_video_camera_and_unreadable_files(browser: Any, address: str, copied: Path, tmp_path: Path) -> None:
    assert open_page(browser, address) == ""
    writer = cv2.VideoWriter(str(tmp_path / "noise.webm"), cv2.VideoWriter_fourcc(*"VP80"), 10, (64, 48))
    for _ in range(8):
        writer.write(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    found = show_file(browser, tmp_path / "noise.webm")
    assert found["source"] == "noise.webm"
    for _ in range(3):  # it goes on by itself
        browser.execute_script(LISTEN)
        assert next_result(browser)["times"]["network"] > 0
    assert "frames per second" in browser.find_element("id", "status").text
    for name in ("broken.png", "broken.mp4"):
        (tmp_path / name).write_bytes(b"neither")
        assert name in show_file(browser, tmp_path / name)["error"]
        assert not browser.find_element("id", "playing").is_displayed()
    browser.execute_script(LISTEN)
    browser.find_element("id", "camera").send_keys(" ")
    assert next_result(browser)["source"] == "camera"
    assert browser.find_element("id", "camera").text == "Stop the camera"
    browser.find_element("id", "camera").send_keys(" ")
    assert browser.find_element("id", "camera").text == "Use the camera"
    refuse = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); };"
    browser.execute_script(refuse + LISTEN)
    browser.find_element("id", "camera").click()
    assert "Access to the camera was denied" in next_result(browser)["error"]
    assert browser_errors(browser) == []


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("model.json", "model.json is missing"),
        ("model.onnx", "model.onnx is missing"),
        ("letterbox.js", "worker.js, or a file that it imports, is missing"),
        ("runtime/ort.wasm.bundle.min.js", "runtime/ort.wasm.bundle.min.js is missing"),
        ("runtime/ort-wasm-simd-threaded.wasm", "threaded.wasm is missing"),
    ],
)
def test_missing_files(file: str, words: str, browser: Any, address: str, copied: Path) -> None:
    (copied / file).unlink()
    assert words in open_page(browser, address)
    assert browser.find_element("id", "camera").get_property("disabled")
    browser.get_log("browser")


def test_damaged_network_and_page_from_the_disk(browser: Any, address: str, copied: Path) -> None:
    (copied / "model.onnx").write_bytes((copied / "model.onnx").read_bytes()[:3000])
    assert "model.onnx cannot be opened" in open_page(browser, address)
    browser.get((copied / "index.html").as_uri())
    time.sleep(1.6)
    assert "python -m http.server" in browser.find_element("id", "not-started").text
    browser.get_log("browser")


def test_browser_blocks_requests_to_other_servers(browser: Any, address: str, copied: Path, server: Server) -> None:
    spies = {"app.js": "page", "worker.js": "worker"}
    for name, path in spies.items():
        with (copied / name).open("a") as file:
            file.write(f"\nfetch('{server.address}/{path}').catch(() => {{}});\n")
    assert open_page(browser, address) == ""
    assert server.seen == []
    index = copied / "index.html"  # without the policy the same calls arrive
    index.write_text(re.sub(r"<meta http-equiv=[^>]+>", "", index.read_text(encoding="utf-8")), encoding="utf-8")
    assert open_page(browser, address) == ""
    assert {path for path, _ in server.seen} == {"/page", "/worker"}
    browser.get_log("browser")


def test_color_schemes_narrow_screens_and_keyboard(browser: Any, address: str, copied: Path, tmp_path: Path) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    for scheme, dark in (("dark", True), ("light", False)):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert open_page(browser, address) == ""
        assert (browser.execute_script(paper) < 100) == dark
    assert "error" not in show_file(browser, write_image(tmp_path / "wide.png", 90, 700))
    for width in (1200, 400, 320):
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    fields = [field for field in browser.find_elements("css selector", "input, select, button") if field.is_enabled()]
    fields = [field for field in fields if field.is_displayed()]
    assert [field.get_attribute("id") for field in fields if not field.accessible_name] == []
    reached = set()
    for _ in range(len(fields) + 1):
        webdriver.ActionChains(browser).send_keys("\ue004").perform()
        reached.add(browser.execute_script("return document.activeElement.id"))
    assert {"file", "camera", "conf", "boxes", "points", "names"} <= reached
    assert browser_errors(browser) == []


@pytest.mark.parametrize("options", [{"imgsz": 640}, {"imgsz": 320, "nms": True}, {"imgsz": 320, "dynamic": True}])
def test_public_weights(options: dict, browser: Any, address: str, shared: Path, tmp_path: Path) -> None:
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", tmp_path / "page.pt")
    folder = YOLO(tmp_path / "page.pt").export(**{**QUICK, **options}, web_runtime=str(real_runtime()))
    assert open_page(browser, address) == ""
    for name in ("bus.jpg", "zidane.jpg"):
        (expected,) = YOLO(folder)(shared / "images" / name, verbose=False)
        assert_equal(show_file(browser, shared / "images" / name), expected.numpy(), 0.05)
    found = show_file(browser, shared / "video/people_mmpose_demo.mp4")
    if "cannot be played" not in found.get("error", ""):  # not every build of Chromium has H.264
        assert found["found"]
