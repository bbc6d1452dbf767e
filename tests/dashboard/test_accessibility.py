"""The pages and the report in every size and colour scheme, by keyboard and by touch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import axe_core_python
import pytest
from browser import wait_for
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dashboard.page import PAGES_READY, Page, needs_browser
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import front_of, knee_of
from mbsearch.report.html import document
from mbsearch.study.artifacts import read_artifacts

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
SCHEMES = ("light", "dark")
SIZES = (1440, 1280, 390)
PAGES = (*PAGES_READY, "report")
WATCH_SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture
def resized(page: Page) -> Iterator[Page]:
    """Return a page whose browser regains its size and colour scheme at the end."""
    added = page.browser.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": WATCH_SHIFTS}
    )
    yield page
    page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    resize(page.browser, 1280)
    paint(page.browser, "light")


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def paint(browser: webdriver.Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def violations(browser: webdriver.Chrome) -> list[str]:
    """Return the rules of axe-core that a page breaks, with the first element of each."""
    browser.set_script_timeout(120)  # on a busy machine
    browser.execute_script("if (!window.axe) { const run = eval; run(arguments[0]); }", AXE)
    return list(
        browser.execute_async_script(
            """
            const done = arguments[0], plots = document.createElement("style");
            // Reading the texts of a plot takes seconds; they have tests of their own.
            plots.textContent = ".js-plotly-plot { display: none; }";
            document.head.append(plots);
            axe.run({ resultTypes: ["violations"] }).then(({ violations }) => {
              plots.remove();
              done(violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`));
            });
            """
        )
    )


@needs_browser
@pytest.mark.parametrize("path", PAGES)
def test_every_size_and_scheme_is_accessible_and_stable(
    resized: Page, path: str, tmp_path: Path
) -> None:
    """Each page is checked at each size, in alternating schemes; the next page in the others.

    With ``MBSEARCH_EVERY_SCHEME=1``, each page is checked at each size in both.
    """
    browser = resized.browser
    address, ready = f"{resized.url}{path}?study=second", PAGES_READY.get(path, "#published .trace")
    if path == "report":
        file = tmp_path / "report.html"
        found = Findings(resized.records("second"))
        file.write_text(document(found, "second", read_artifacts(resized.folder / "second")))
        address = file.as_uri()
    if path == "/network":
        knee = knee_of(resized.records("second"))
        address += f"&trial={knee.trial}"  # it has predictions
        ready = "#worst-errors figcaption"
    if path == "/choices":
        address = f"{resized.url}{path}?study=first"  # effects need more networks
    every = os.environ.get("MBSEARCH_EVERY_SCHEME") == "1"
    checked = [
        (width, scheme)
        for i, width in enumerate(SIZES)
        for scheme in (SCHEMES if every else SCHEMES[(i + PAGES.index(path)) % 2 :][:1])
    ]
    for width, scheme in checked:
        resize(browser, width)
        paint(browser, scheme)
        browser.get(address)
        wait_for(lambda: browser.find_elements(By.CSS_SELECTOR, ready), ready)
        where = f"{path} at {width} px, {scheme}"
        assert resized.js("document.documentElement.scrollWidth") <= width, where
        if every or width != SIZES[0]:  # it has the layout of the next one
            assert violations(browser) == [], where
        assert resized.js("window.shifts") < 0.05, where
        assert resized.errors() == []


@needs_browser
def test_the_keyboard_alone_opens_a_network(page: Page) -> None:
    page.open("/?study=first")
    body = page.wait("body")
    body.send_keys(Keys.TAB)
    assert page.js("document.activeElement.textContent") == "Skip to content"
    for _ in range(60):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        if page.js("document.activeElement.closest('#front-table a') !== null"):
            break
    assert page.js("document.activeElement.closest('#front-table a') !== null")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait("#layers tbody tr")
    first = str(front_of(page.records())[0].trial)
    wait_for(lambda: page.address().get("trial") == first, f"trial {first} in the address")


@needs_browser
def test_hover_labels_of_a_curve_are_readable_in_both_schemes(resized: Page) -> None:
    for scheme in SCHEMES:
        paint(resized.browser, scheme)
        resized.open("/network?study=first&trial=2", "#layers tbody tr")
        unified = "Array.from(document.querySelectorAll('.js-plotly-plot'))"
        unified += ".find(plot => plot.layout?.hovermode === 'x unified')"
        wait_for(partial(resized.js, f"!!{unified}"), "the learning curve")
        resized.browser.execute_script(f"window.Plotly.Fx.hover({unified}, {{xval: 2}}, ['xy'])")
        resized.wait(".hoverlayer .legend text")
        text = resized.js("getComputedStyle(document.querySelector('.hoverlayer text')).fill")
        box = resized.js("getComputedStyle(document.querySelector('.hoverlayer .bg')).fill")
        assert (text, box) == ("rgb(255, 255, 255)", "rgb(34, 34, 34)"), scheme
