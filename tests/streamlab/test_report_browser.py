"""The report in a real browser: values under the pointer, pictures that save, a phone, paper, no network."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comparing import Listening, asking

from streamlab.data.source import Source
from streamlab.experiments.run import run_experiment
from streamlab.report.gather import gather
from streamlab.report.write import write_report

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]
BROWSER, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tiny: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("browser")
    request = asking(strategies=("er", "expandable-der", "finetune"))
    run_experiment(request, out, lambda grid, title: Listening(grid), print, {"tiny": tiny})
    return write_report(gather([out]), out)[0]


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Any]:
    if not (BROWSER and DRIVER):
        missing = "chromium and chromedriver are not installed (apt-get install chromium chromium-driver)"
        if os.environ.get("STREAMLAB_MUST_RUN"):
            pytest.fail(missing)
        pytest.skip(missing)
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(page.parent / "saved")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_window_size(1280, 900)
    driver.get(page.as_uri())
    yield driver
    driver.quit()


def test_it_opens_without_a_complaint_and_without_a_network(browser: Any) -> None:
    assert browser.title == "Comparison at aligned memory budgets"
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert len(browser.find_elements("css selector", "figure svg")) >= 8


def test_hover_shows_values(browser: Any) -> None:
    from selenium.webdriver import ActionChains

    point = browser.find_elements("css selector", "#p0memorya .says")[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    ActionChains(browser).move_to_element(point).perform()
    assert tip.is_displayed()
    assert " at 12kB: A_avg " in tip.text
    said = [own.get_attribute("data-words") for own in browser.find_elements("css selector", ".says")]
    assert tip.text in said
    ActionChains(browser).move_to_element(browser.find_element("tag name", "h1")).perform()
    assert not tip.is_displayed()
    bar = browser.find_elements("css selector", "#p0kinds .says")[0]
    browser.execute_script("arguments[0].focus()", bar)
    assert " at " in tip.text


def test_a_picture_saves_as_svg_and_pdf(browser: Any, page: Path) -> None:
    figure = browser.find_element("css selector", "#p0memorya")
    for control in ("button", "a[download]"):
        element = figure.find_element("css selector", control)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()
    saved = page.parent / "saved"
    wanted = [saved / "p0memorya.svg", saved / "p0memorya.pdf"]
    deadline = time.monotonic() + 20
    while not all(path.exists() and path.stat().st_size for path in wanted) and time.monotonic() < deadline:
        time.sleep(0.1)
    svg = wanted[0].read_text()
    assert svg.startswith("<svg")
    assert "</svg>" in svg
    assert wanted[1].read_bytes().startswith(b"%PDF-")
    assert wanted[1].read_bytes() == (page.parent / "pictures" / "p0memorya.pdf").read_bytes()


def test_it_fits_a_phone(browser: Any) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        width = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1]
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('#p0memorya text, #p0stream0 text')].map("
            "e => e.getBoundingClientRect().height)"
        )
        assert min(size for size in sizes if size) >= 8  # pixels of a line of text in a chart
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_prints(browser: Any) -> None:
    printed, deadline = b"", time.monotonic() + 20
    while len(printed) <= 20_000 and time.monotonic() < deadline:  # what is still laid out prints blank
        told = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
        printed = base64.b64decode(told["data"])
    assert printed.startswith(b"%PDF-")
    assert len(printed) > 20_000


def test_rows_are_told_apart_without_colour(browser: Any) -> None:
    """Every line of a chart has a dash pattern or a marker that no other has."""
    looks = browser.execute_script(
        "return [...document.querySelectorAll('#p0memorya [id^=\"line2d\"] > path')]"
        ".map(e => getComputedStyle(e).strokeDasharray)"
    )
    assert len({look for look in looks if look != "none"}) >= 2
