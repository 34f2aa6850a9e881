"""The page in a real browser without a window: what slider, toggles, search and colors do, and no error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_evaluate_page import HOSTILE, made_run
from test_evaluate_validator import Rectangles, make_data, options

from yolopose.evaluate import load_record, validate
from yolopose.evaluate.page import counts_at, make_report, write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("there is no Chromium with its chromedriver here", allow_module_level=True)

FLAGS = [
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chosen = webdriver.ChromeOptions()
    chosen.binary_location = BROWSER
    for flag in [*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}", "window-size=1200,900"]:
        chosen.add_argument(f"--{flag}")
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # the driver is named, so that selenium looks for none and fetches nothing
    driver = webdriver.Chrome(options=chosen, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on made records, whose images never were, and one of the rectangles, whose images lie in it."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "made").mkdir()
    metrics = made_run(folder)
    assert metrics.record is not None
    metrics.record.save(folder / "made/detections.npz")
    data = make_data(folder / "set", names=["</script><b>red", "green"])
    (folder / "set/images/val/000.png").rename(folder / "set/images/val" / HOSTILE)
    (folder / "set/labels/val/000.txt").rename(folder / "set/labels/val" / HOSTILE.replace(".png", ".txt"))
    validate(Rectangles(shift=3), options(data, save_txt=True), save_dir=folder / "rectangles")
    return {"made": write_report(metrics, folder / "made"), "rectangles": make_report(folder / "rectangles")}


def opened(browser: Any, page: Path) -> Any:
    browser.get(page.as_uri())
    return lambda name: browser.find_element("id", name)


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def shown_counts(browser: Any) -> dict[str, list[float]]:
    rows = browser.find_elements("css selector", "#counts tbody tr")
    found = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in rows]
    return {name: [float(cell.replace(",", "")) for cell in cells] for name, *cells in found}


def seen(browser: Any, selector: str) -> list[bool]:
    script = "return [...document.querySelectorAll(arguments[0])].map(n => n.getClientRects().length > 0)"
    return browser.execute_script(script, selector)


def test_the_slider_counts_as_python_does(browser: Any, pages: dict[str, Path]) -> None:
    part, record = opened(browser, pages["made"]), load_record(pages["made"].parent)
    slider, exactly, cls, level = part("conf"), part("conf-exactly"), part("class"), part("level")
    start = float(slider.get_attribute("value"))
    slider.send_keys("\ue014")  # arrow to the right
    assert float(exactly.get_attribute("value")) == pytest.approx(start + 0.01)
    for conf, number, similarity in ((0, "", 0), (0.25, "", 0), (0.375, "1", 4), (0.9, "0", 9), (1, "", 0)):
        for field, value in ((cls, number), (level, str(similarity))):
            field.find_element("css selector", f"option[value='{value}']").click()
        exactly.clear()
        exactly.send_keys(f"{conf}\n")
        assert float(slider.get_attribute("value")) == pytest.approx(conf, abs=0.0051)
        for kind, words in (("pose", "Poses"), ("box", "Boxes")):
            found = counts_at(record, conf, kind, similarity, int(number) if number else None)
            expected = [found.tp, found.fp, found.fn, found.precision, found.recall, found.f1]
            assert shown_counts(browser)[words] == pytest.approx(expected, abs=5.1e-5)
    part("conf-best").click()
    best = max(counts_at(record, step / 1000).f1 for step in range(1001))
    assert shown_counts(browser)["Poses"][5] == pytest.approx(best, abs=5.1e-5)
    # what is drawn on the images follows
    drawn = sum(seen(browser, "#cards .found-layer > .object"))
    exactly.clear()
    exactly.send_keys("0.95\n")
    assert 0 < sum(seen(browser, "#cards .found-layer > .object")) < drawn
    assert complaints(browser) == []


def test_truth_and_prediction_come_and_go(browser: Any, pages: dict[str, Path]) -> None:
    part = opened(browser, pages["rectangles"])
    layers = {"show-truth": ".truth-layer .limbs, .truth-layer circle", "show-found": ".found-layer circle"}
    for box, selector in layers.items():
        others = [other for name, other in layers.items() if name != box]
        assert all(seen(browser, f"#cards {selector}"))
        part(box).send_keys(" ")  # by keyboard
        assert not any(seen(browser, f"#cards {selector}"))
        assert all(seen(browser, f"#cards {others[0]}"))
        part(box).send_keys(" ")
    assert not any(seen(browser, ".box"))
    part("show-boxes").click()
    assert any(seen(browser, "#cards .truth-layer .box"))
    loaded = "return [...document.querySelectorAll('#cards img')].map(i => i.decode().then(() => i.naturalWidth))"
    assert min(browser.execute_script(f"return Promise.all((() => {{ {loaded} }})())")) >= 96
    # enlarged, by keyboard: the same toggles, the next image, and back
    browser.find_element("css selector", "#cards button").send_keys("\ue007")
    first = part("viewer-name").text
    assert all(seen(browser, "#viewer .found-layer circle"))
    part("viewer-found").send_keys(" ")
    assert not any(seen(browser, ".found-layer circle"))
    browser.switch_to.active_element.send_keys("\ue014")
    assert part("viewer-name").text != first
    browser.switch_to.active_element.send_keys("\ue00c")
    assert not part("viewer").is_displayed()
    assert complaints(browser) == []


def test_search_by_file_name(browser: Any, pages: dict[str, Path]) -> None:
    part = opened(browser, pages["rectangles"])
    names = [card.get_attribute("data-name") for card in browser.find_elements("css selector", "#cards .card")]
    assert len(names) == 4  # the fifth is empty, and nothing is found in it
    assert f"images/val/{HOSTILE}" in names
    for words, cards, rows in (("002", 1, 1), ("VAL/00", 3, 4), ("<img", 1, 1), ("nothing", 0, 0), ("", 4, 5)):
        part("search").clear()
        part("search").send_keys(words or "x\ue003")
        assert len(browser.find_elements("css selector", "#cards .card")) == cards
        assert len(browser.find_elements("css selector", "#all tbody tr")) == rows
        assert part("search-count").text == f"{rows} image{'' if rows == 1 else 's'}, {cards} shown"
    assert not browser.find_elements("css selector", "main img:not([src^='data:image/jpeg'])")
    assert "</script><b>red" in part("numbers").text
    assert complaints(browser) == []


def test_light_and_dark(browser: Any, pages: dict[str, Path]) -> None:
    opened(browser, pages["made"])

    def paper() -> int:
        return sum(browser.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        ))  # fmt: skip

    for system in ("dark", "light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": system}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        for choice, wanted in (("", system), ("light", "light"), ("dark", "dark"), ("", system)):
            browser.find_element("css selector", f"input[name=theme][value='{choice}'] + span").click()
            assert (paper() < 200) == (wanted == "dark")
    assert complaints(browser) == []


@pytest.mark.parametrize("name", ["made", "rectangles"])
def test_nothing_is_loaded_and_everything_has_a_label(browser: Any, pages: dict[str, Path], name: str) -> None:
    opened(browser, pages[name])
    fetched = "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith('data:'))"
    assert browser.execute_script(fetched) == []
    nameless = [
        field.get_attribute("outerHTML")[:80]
        for field in browser.find_elements("css selector", "main input, main select, main button")
        if field.is_displayed() and not field.accessible_name
    ]
    assert nameless == []
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(n => n.id)")
    assert len(ids) == len(set(ids))
    for width in (1200, 400):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        inner, needed = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert needed <= inner == width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []
