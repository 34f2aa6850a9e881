"""The page of the server in headless Chromium: images, camera, settings, keys, themes, phone width, keyboard."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_requests import GOOD
from running_server import BOX, Running, encoded, running

from fake_runtime import FakeRuntime

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and chromedriver are not installed", allow_module_level=True)

FLAGS = [
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "use-fake-device-for-media-stream",
    "use-fake-ui-for-media-stream",
]  # fmt: skip
KEY = "key-of-this-server-1234"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1200,900"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(model="fake=a.onnx,other=b.onnx") as started:
        yield started


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    files = {"red.png": GOOD, "green.jpg": encoded(".jpg", cls=1), "red.avif": encoded(".avif"), "text.png": b"text"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return {name: tmp_path / name for name in files}


def wait_until(condition: Any) -> Any:
    end = time.monotonic() + 120  # a busy machine
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def open_page(browser: Any, server: Running, path: str = "/") -> Any:
    browser.get(server.address + path)
    if path == "/":
        wait_until(lambda: browser.execute_script("return document.documentElement.classList.contains('ready')"))
    return lambda name: browser.find_element("id", name)


def errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def test_images(browser: Any, server: Running, images: dict[str, Path]) -> None:
    by_id = open_page(browser, server)
    assert by_id("title").text == "fake"
    for name, kind in (("red.png", "red"), ("green.jpg", "green")):
        by_id("file").send_keys(str(images[name]))
        wait_until(lambda kind=kind: by_id("summary").text == f"1 × {kind}")
        assert f'file=@"{name}"' in by_id("request").text
    assert '"class": "green"' in by_id("response").text
    latency = by_id("latency").text.split()
    assert {"decode", "queue", "inference", "postprocess", "total"} <= set(latency)
    assert latency.count("ms") == 6
    drawn = browser.execute_script(
        "const c = document.getElementById('canvas'); const s = c.width / 160;"
        f"return [...c.getContext('2d').getImageData({BOX[0]} * s, {(BOX[1] + BOX[3]) / 2} * s, 1, 1).data]"
    )
    assert drawn[:3] != [0, 255, 0]  # the box is drawn on the green rectangle
    by_id("file").send_keys(str(images["text.png"]))
    wait_until(lambda: "cannot be opened" in by_id("message").text)
    assert errors(browser) == []


def test_other_formats_are_sent_as_jpeg(browser: Any, server: Running, images: dict[str, Path]) -> None:
    by_id = open_page(browser, server)
    by_id("file").send_keys(str(images["red.avif"]))
    wait_until(lambda: by_id("summary").text == "1 × red" or by_id("message").text)
    assert by_id("message").text == ""
    assert errors(browser) == []


def test_settings_and_the_same_request(browser: Any, server: Running, images: dict[str, Path]) -> None:
    by_id = open_page(browser, server)
    by_id("file").send_keys(str(images["red.png"]))
    wait_until(lambda: by_id("summary").text == "1 × red")
    for _ in range(70):
        by_id("conf").send_keys("\ue014")  # arrow to the right
    wait_until(lambda: by_id("summary").text == "no pose above this confidence")
    assert by_id("conf-value").text == "0.95"
    assert "conf=0.95" in by_id("request").text
    by_id("model").find_element("css selector", "option[value=other]").click()
    wait_until(lambda: by_id("summary").text == "1 × red")
    for language, text in (("python", "httpx.post("), ("javascript", "await fetch("), ("curl", "curl -s")):
        by_id("language").find_element("css selector", f"option[value={language}]").click()
        assert text in by_id("request").text
        assert "model=other" in by_id("request").text
    assert errors(browser) == []


def test_python_request_of_the_page_runs(
    browser: Any, server: Running, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    by_id = open_page(browser, server)
    by_id("file").send_keys(str(images["red.png"]))
    wait_until(lambda: by_id("summary").text == "1 × red")
    by_id("language").find_element("css selector", "option[value=python]").click()
    monkeypatch.chdir(images["red.png"].parent)
    exec(compile(by_id("request").text, "page", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("0.875 {'keypoint 0'")


def test_camera(browser: Any, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    by_id = open_page(browser, server)
    by_id("camera").click()
    wait_until(lambda: "frames per second" in by_id("status").text)
    wait_until(lambda: '"frame":' in by_id("response").text)
    assert by_id("camera").text == "Stop the camera"
    by_id("conf").send_keys("\ue014")
    by_id("camera").click()
    assert by_id("camera").text == "Use the camera"
    assert by_id("message").text == ""
    wait_until(lambda: not server.app.service.metrics.streams._value.get())
    assert errors(browser) == []


def test_errors_are_shown(browser: Any, server: Running, images: dict[str, Path], monkeypatch: Any) -> None:
    by_id = open_page(browser, server)
    monkeypatch.setattr(FakeRuntime, "infer", lambda *_, **__: 1 / 0)
    by_id("file").send_keys(str(images["red.png"]))
    wait_until(lambda: "An error occurred in the server" in by_id("message").text)
    browser.get_log("browser")  # Chromium logs the status


def test_key(browser: Any, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_API_KEY", KEY)
    with running() as server:
        browser.get(server.address)
        by_id = lambda name: browser.find_element("id", name)  # noqa: E731
        field = by_id("key")
        assert field.is_displayed()
        field.send_keys("wrong\n")
        wait_until(lambda: "This key is wrong" in by_id("key-text").text)
        field.clear()
        field.send_keys(f"{KEY}\n")
        wait_until(lambda: not field.is_displayed())
        by_id("file").send_keys(str(images["red.png"]))
        wait_until(lambda: by_id("summary").text == "1 × red")
        assert "$YOLOPOSE_API_KEY" in by_id("request").text
        assert KEY not in browser.page_source
        by_id("camera").click()
        wait_until(lambda: "frames per second" in by_id("status").text)
        by_id("camera").click()
    browser.get_log("browser")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_themes_phone_width_and_names(path: str, browser: Any, server: Running) -> None:
    open_page(browser, server, path)
    color = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    for system in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for choice, wanted in (("", system), ("light", "light"), ("dark", "dark"), ("", system)):
            browser.find_element("css selector", f"input[name=theme][value='{choice}'] + span").click()
            assert (sum(browser.execute_script(color)) < 200) == (wanted == "dark")
    for width in (1200, 390, 320):
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    fields = browser.find_elements("css selector", "main input, main select, main button")
    assert [field.get_attribute("id") for field in fields if field.is_displayed() and not field.accessible_name] == []
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(n => n.id)")
    assert len(ids) == len(set(ids))
    # nothing is loaded from elsewhere
    loaded = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    assert {url.removeprefix(server.address) for url in browser.execute_script(loaded)} <= {"/models"}
    assert errors(browser) == []


def test_keyboard(browser: Any, server: Running) -> None:
    open_page(browser, server)
    reached = set()
    for _ in range(25):
        webdriver.ActionChains(browser).send_keys("\ue004").perform()
        reached.add(browser.execute_script("return document.activeElement.id"))
    assert {
        "file",
        "camera",
        "model",
        "conf",
        "iou",
        "boxes",
        "smooth",
        "language",
        "copy-request",
        "request",
    } <= reached


def test_other_servers_cannot_be_reached(browser: Any, server: Running) -> None:
    open_page(browser, server)
    script = "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('sent'), (e) => done(e.name));"
    assert browser.execute_async_script(script) == "TypeError"
    assert any("Content Security Policy" in line for line in errors(browser))


def test_documentation(browser: Any, server: Running) -> None:
    open_page(browser, server, "/docs")
    text = browser.find_element("id", "operations").text
    for part in ("/predict", "/stream", "/v2/models/{model}/infer", "Retry-After", "curl -s -F file=@image.jpg"):
        assert part in text
    assert errors(browser) == []
