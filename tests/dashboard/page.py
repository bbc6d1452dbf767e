"""Drive a page of the dashboard in a headless Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import wait_for
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mbsearch.dashboard.view import read_query
from mbsearch.study.opening import read_study
from mbsearch.study.records import TrialRecord

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PAGES_READY = {
    "/": "#front .main-svg .trace",
    "/network": "#layers tbody tr",
    "/search": "#trials .ag-row",
    "/compare": "#differences tbody tr",
    "/choices": "#rules li",
    "/published": "#published .main-svg .trace",
    "/studies": ".study-card",
}
"""Pages, and an element that each has once it is drawn."""


def needs_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs Chromium: slow, and skipped if Chromium is missing."""
    missing = CHROMIUM is None or DRIVER is None
    skip = pytest.mark.skipif(missing, reason="needs chromium and chromedriver")
    marked: Callable[..., None] = pytest.mark.slow(skip(test))
    return marked


class Page:
    """A browser on a page of the dashboard."""

    def __init__(self, browser: webdriver.Chrome, url: str, folder: Path) -> None:
        self.browser, self.url, self.folder = browser, url, folder

    def open(self, path: str = "/", ready: str = "#front .main-svg .trace") -> None:
        self.browser.get(self.url + path)
        self.wait(ready)

    def wait(self, selector: str) -> Any:
        return wait_for(lambda: self.browser.find_elements(By.CSS_SELECTOR, selector), selector)[0]

    def text(self, selector: str) -> str:
        return str(wait_for(lambda: [self.wait(selector).text], selector)[0])

    def sentence(self) -> str:
        """Return the answer's sentence, whose parts are shown as lines."""
        self.wait("#sentence")
        return str(self.js("document.querySelector('#sentence').textContent"))

    def options(self) -> dict[str, Any]:
        """Return the options of the open list, by text."""
        found = self.browser.find_elements(By.CSS_SELECTOR, "[role=option]")
        return {option.text: option for option in found}

    def pick(self, text: str) -> None:
        """Click an option of the open list."""
        wait_for(lambda: self.options().get(text), f"the option {text}").click()

    def js(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.browser.execute_script(f"return {script}")

    def cells(self, rows: str) -> list[list[str]]:
        """Return the texts of a table's cells; one request for all, as each takes 20 ms."""
        found: list[list[str]] = self.js(
            f"Array.from(document.querySelectorAll('{rows}'),"
            " row => Array.from(row.querySelectorAll('td'), cell => cell.innerText.trim()))"
        )
        return found

    def address(self) -> dict[str, str]:
        return read_query(self.browser.current_url.partition("?")[2])

    def records(self, study: str = "first") -> list[TrialRecord]:
        return read_study(self.folder / study).records()

    def click_on(self, record: TrialRecord, *, shift: bool = False) -> None:
        """Click a network in the plot of the front."""
        self.browser.execute_script("document.querySelector('#front').scrollIntoView()")
        place = self.js(
            f"""(() => {{
              const plot = document.querySelector('#front .js-plotly-plot, #front.js-plotly-plot');
              const box = plot.getBoundingClientRect(), {{xaxis, yaxis}} = plot._fullLayout;
              return [box.left + xaxis._offset + xaxis.d2p({record.mult_adds}),
                      box.top + yaxis._offset + yaxis.d2p({record.accuracy})];
            }})()"""
        )
        chain = ActionChains(self.browser)
        chain.w3c_actions.pointer_action.move_to_location(*map(round, place))
        chain.pause(0.2)
        if shift:
            chain.key_down(Keys.SHIFT)
        chain.click()
        if shift:
            chain.key_up(Keys.SHIFT)
        chain.perform()

    def drag(self, selector: str, right: int, down: int = 0) -> None:
        """Drag an element, starting at its centre."""
        chain = ActionChains(self.browser)
        chain.click_and_hold(self.wait(selector)).pause(0.1).move_by_offset(right, down)
        chain.pause(0.1).release().perform()

    def downloads_to(self, folder: Path) -> None:
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", settings)

    def trials_drawn(self) -> list[int]:
        """Return the numbers of the trials in the plot of the front, without duplicates."""
        found: list[int] = self.js(
            "document.querySelector('#front .js-plotly-plot').data"
            ".filter(t => t.name != 'Pareto front' && t.name != 'Within noise of the front')"
            ".flatMap(t => t.customdata.map(d => d[0]))"
        )
        return found

    def errors(self) -> list[str]:
        """Return the messages of the browser's console."""
        messages = [entry["message"] for entry in self.browser.get_log("browser")]
        return [text for text in messages if "GL Driver Message" not in text]  # no GPU here
