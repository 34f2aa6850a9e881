"""`doctor.html` in headless Chromium: findings, filter, enlarged images, narrow windows, themes, no script error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolopose.data.dataset import load_dataset
from yolopose.data.doctor import examine
from yolopose.tools.doctor_page import write_page

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and chromedriver are not installed", allow_module_level=True)

FLAGS = [
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "hide-scrollbars",
]  # fmt: skip
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with an error, two warnings and a notice; a class has a hostile name."""
    root = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    for folder in ("images/train", "labels/train", "images/val", "labels/val"):
        (root / folder).mkdir(parents=True)
    for split, count in (("train", 6), ("val", 2)):
        for index in range(count):
            pixels = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (200, 150))
            cv2.imwrite(str(root / f"images/{split}/{split}{index}.png"), pixels)
            row = "0 .5 .5 .3 .4 .4 .5 2 .6 .5 1\n"
            (root / f"labels/{split}/{split}{index}.txt").write_text(
                row if index else row.replace(".3 .4 ", ".05 .05 ")
            )
    (root / "labels/train/train3.txt").write_text("0 1 2\n")
    (root / "labels/train/train4.txt").unlink()
    (root / "data.yaml").write_text(
        f"path: .\ntrain: images/train\nval: images/val\nkpt_shape: [2, 3]\nflip_idx: [0, 1]\n"
        f"names: [one, '{HOSTILE}']\n"
    )
    return write_page(examine(load_dataset(root / "data.yaml")), root / "doctor.html", 20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1200,900"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def test_page_in_a_browser(page: Path, browser: Any) -> None:
    browser.get(page.as_uri())
    severities = [node.get_attribute("data-severity") for node in browser.find_elements("css selector", ".finding")]
    assert set(severities) == {"error", "warning", "notice"}
    assert severities == sorted(severities, key=["error", "warning", "notice"].index)
    assert HOSTILE in browser.find_element("id", "list").text
    rows = browser.find_elements("css selector", "#overview-table tbody tr")
    assert len(rows) == len(severities)
    # filter
    browser.find_element("css selector", "#filters input").click()
    hidden = [node.get_attribute("hidden") for node in browser.find_elements("css selector", ".finding")]
    assert [bool(value) for value in hidden] == [severity == "error" for severity in severities]
    # enlarge
    card = browser.find_element("css selector", ".finding:not([hidden]) .card button")
    browser.execute_script("arguments[0].scrollIntoView(); arguments[0].click()", card)
    assert browser.find_element("id", "viewer").is_displayed()
    assert browser.find_element("css selector", "#viewer-image svg .highlighted rect")
    browser.find_element("id", "viewer-close").click()
    assert not browser.find_element("id", "viewer").is_displayed()
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_overflows(page: Path, browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_themes(page: Path, browser: Any) -> None:
    browser.get(page.as_uri())
    colors: list[str] = []
    for theme in ("light", "dark"):
        browser.execute_script(f"document.querySelector('input[value={theme}]').click()")
        colors.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert colors[0] != colors[1]
