"""The dashboard by keyboard alone and on a phone."""

from __future__ import annotations

from browser import wait_for
from selenium.webdriver.common.keys import Keys

from dashboard.page import PAGES_READY, Page, needs_browser
from mbsearch.analysis.front import front_of


@needs_browser
def test_the_keyboard_alone_opens_a_network(page: Page) -> None:
    page.open("/?study=first")
    body = page.wait("body")
    body.send_keys(Keys.TAB)
    assert page.js("document.activeElement.textContent") == "Skip to content"
    for _ in range(60):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        if page.js("document.activeElement.closest('#front-table') !== null"):
            break
    assert page.js("document.activeElement.closest('#front-table') !== null")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.wait("#layers tbody tr")
    first = str(front_of(page.records())[0].trial)
    wait_for(lambda: page.address().get("trial") == first, f"trial {first} in the address")


@needs_browser
def test_a_phone_scrolls_down_only(page: Page) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for path, ready in PAGES_READY.items():
            page.open(f"{path}?study=first", ready)
            assert page.js("document.documentElement.scrollWidth") <= 390, path
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
