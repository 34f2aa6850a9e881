"""The report page in headless Chromium: threshold, layers, search, themes, accessibility, no script error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluate_runs import RectangleRuntime, make_rectangles, val_options
from test_evaluate_page import HOSTILE, reported_run

from yolopose.evaluate import load_record, validate
from yolopose.evaluate.confidence import counts_at
from yolopose.evaluate.page import make_report, write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("Chromium and chromedriver are not installed", allow_module_level=True)

FLAGS = [
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1200,900"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # with an explicit driver, selenium downloads none
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of random records, without images, and one of the rectangles, with images."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "random").mkdir()
    metrics = reported_run(folder)
    metrics.record.save(folder / "random/detections.npz")
    data = make_rectangles(folder / "set", names=["</script><b>red", "green"])
    (folder / "set/images/val/000.png").rename(folder / "set/images/val" / HOSTILE)
    (folder / "set/labels/val/000.txt").rename(folder / "set/labels/val" / HOSTILE.replace(".png", ".txt"))
    validate(RectangleRuntime(shift=3), val_options(data, save_txt=True), save_dir=folder / "rectangles")
    return {"random": write_report(metrics, folder / "random"), "rectangles": make_report(folder / "rectangles")}


def open_page(browser: Any, page: Path) -> Any:
    browser.get(page.as_uri())
    return lambda name: browser.find_element("id", name)


def script_errors(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def read_counts(browser: Any) -> dict[str, list[float]]:
    rows = browser.find_elements("css selector", "#counts tbody tr")
    table = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {name: [float(cell.replace(",", "")) for cell in cells] for name, *cells in table}


def is_visible(browser: Any, selector: str) -> list[bool]:
    script = "return [...document.querySelectorAll(arguments[0])].map(n => n.getClientRects().length > 0)"
    return browser.execute_script(script, selector)


def test_threshold_counts_agree_with_python(browser: Any, pages: dict[str, Path]) -> None:
    by_id, record = open_page(browser, pages["random"]), load_record(pages["random"].parent)
    slider, field, cls, level = by_id("conf"), by_id("conf-input"), by_id("class"), by_id("level")
    start = float(slider.get_attribute("value"))
    slider.send_keys("\ue014")  # arrow to the right
    assert float(field.get_attribute("value")) == pytest.approx(start + 0.01)
    for conf, number, similarity in ((0, "", 0), (0.25, "", 0), (0.375, "1", 4), (0.9, "0", 9), (1, "", 0)):
        for select, value in ((cls, number), (level, str(similarity))):
            select.find_element("css selector", f"option[value='{value}']").click()
        field.clear()
        field.send_keys(f"{conf}\n")
        assert float(slider.get_attribute("value")) == pytest.approx(conf, abs=0.0051)
        for kind, title in (("pose", "Poses"), ("box", "Boxes")):
            counts = counts_at(record, conf, kind, similarity, int(number) if number else None)
            expected = [counts.tp, counts.fp, counts.fn, counts.precision, counts.recall, counts.f1]
            assert read_counts(browser)[title] == pytest.approx(expected, abs=5.1e-5)
    by_id("conf-best").click()
    best = max(counts_at(record, step / 1000).f1 for step in range(1001))
    assert read_counts(browser)["Poses"][5] == pytest.approx(best, abs=5.1e-5)
    # detections below the threshold are not drawn
    drawn = sum(is_visible(browser, "#cards .predictions-layer > .instance"))
    field.clear()
    field.send_keys("0.95\n")
    assert 0 < sum(is_visible(browser, "#cards .predictions-layer > .instance")) < drawn
    assert script_errors(browser) == []


def test_layers_can_be_hidden(browser: Any, pages: dict[str, Path]) -> None:
    by_id = open_page(browser, pages["rectangles"])
    layers = {"show-gt": ".gt-layer .limbs, .gt-layer circle", "show-predictions": ".predictions-layer circle"}
    for box, selector in layers.items():
        others = [other for name, other in layers.items() if name != box]
        assert all(is_visible(browser, f"#cards {selector}"))
        by_id(box).send_keys(" ")  # by keyboard
        assert not any(is_visible(browser, f"#cards {selector}"))
        assert all(is_visible(browser, f"#cards {others[0]}"))
        by_id(box).send_keys(" ")
    assert not any(is_visible(browser, ".box"))
    by_id("show-boxes").click()
    assert any(is_visible(browser, "#cards .gt-layer .box"))
    loaded = "return [...document.querySelectorAll('#cards img')].map(i => i.decode().then(() => i.naturalWidth))"
    assert min(browser.execute_script(f"return Promise.all((() => {{ {loaded} }})())")) >= 96
    # in the viewer, by keyboard: the same layers, the next image, and back
    browser.find_element("css selector", "#cards button").send_keys("\ue007")
    first = by_id("viewer-name").text
    assert all(is_visible(browser, "#viewer .predictions-layer circle"))
    by_id("viewer-predictions").send_keys(" ")
    assert not any(is_visible(browser, ".predictions-layer circle"))
    browser.switch_to.active_element.send_keys("\ue014")
    assert by_id("viewer-name").text != first
    browser.switch_to.active_element.send_keys("\ue00c")
    assert not by_id("viewer").is_displayed()
    assert script_errors(browser) == []


def test_search_by_file_name(browser: Any, pages: dict[str, Path]) -> None:
    by_id = open_page(browser, pages["rectangles"])
    names = [card.get_attribute("data-name") for card in browser.find_elements("css selector", "#cards .card")]
    assert len(names) == 4  # the fifth has no ground truth and no detections
    assert f"images/val/{HOSTILE}" in names
    for query, cards, rows in (("002", 1, 1), ("VAL/00", 3, 4), ("<img", 1, 1), ("nothing", 0, 0), ("", 4, 5)):
        by_id("search").clear()
        by_id("search").send_keys(query or "x\ue003")
        assert len(browser.find_elements("css selector", "#cards .card")) == cards
        assert len(browser.find_elements("css selector", "#all tbody tr")) == rows
        assert by_id("search-count").text == f"{rows} image{'' if rows == 1 else 's'}, {cards} shown"
    assert not browser.find_elements("css selector", "main img:not([src^='data:image/jpeg'])")
    assert "</script><b>red" in by_id("scores").text
    assert script_errors(browser) == []


def test_light_and_dark(browser: Any, pages: dict[str, Path]) -> None:
    open_page(browser, pages["random"])

    def brightness() -> int:
        return sum(browser.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        ))  # fmt: skip

    for system in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for choice, wanted in (("", system), ("light", "light"), ("dark", "dark"), ("", system)):
            browser.find_element("css selector", f"input[name=theme][value='{choice}'] + span").click()
            assert (brightness() < 200) == (wanted == "dark")
    assert script_errors(browser) == []


@pytest.mark.parametrize("name", ["random", "rectangles"])
def test_loads_nothing_and_labels_everything(browser: Any, pages: dict[str, Path], name: str) -> None:
    open_page(browser, pages[name])
    loaded = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    assert browser.execute_script(loaded) == []
    unnamed = [
        field.get_attribute("outerHTML")[:80]
        for field in browser.find_elements("css selector", "main input, main select, main button")
        if field.is_displayed() and not field.accessible_name
    ]
    assert unnamed == []
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(n => n.id)")
    assert len(ids) == len(set(ids))
    for width in (1200, 400):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert script_errors(browser) == []
