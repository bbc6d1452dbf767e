"""A page on a study that is still running, and a page slower than its updates."""

from __future__ import annotations

import math
import shutil

import pytest
from browser import wait_for

from dashboard.page import Page, needs_browser
from dashboard.studies import search, search_elsewhere
from mbsearch.dashboard.app import POLL_MILLISECONDS
from mbsearch.dashboard.view import read_query


@needs_browser
def test_a_new_trial_appears_and_the_zoom_stays(page: Page) -> None:
    shutil.copytree(page.folder / "first", page.folder / "growing")
    page.open("/?study=growing&alphas=0.25&max_mult_adds=8000000")
    selected = next(r for r in page.records("growing") if r.origin == "mobilenet_v1")
    page.click_on(selected)
    wait_for(lambda: page.address().get("trial") == str(selected.trial), "the selection")
    page.drag("#front .nsewdrag", 60)
    zoomed = page.js("document.querySelector('#front .js-plotly-plot')._fullLayout.xaxis.range")
    search_elsewhere(page.folder / "growing", 30)
    narrow = {r.trial for r in page.records("growing") if r.architecture.alpha == 0.25}
    baselines = {r.trial for r in page.records("growing") if r.is_baseline}
    wait_for(lambda: set(page.trials_drawn()) == narrow | baselines, "every new trial")
    layout = "document.querySelector('#front .js-plotly-plot')._fullLayout"
    assert page.js(f"{layout}.xaxis.range") == zoomed
    texts = page.js(f"{layout}.annotations.map(note => note.text)")
    assert f"<b>{selected.label}</b>" in texts


@needs_browser
def test_a_page_opened_before_the_first_trial_follows_the_search(page: Page) -> None:
    """Sliders, filters and effects of choices cover the trials that come later."""
    folder = page.folder / "begun"
    search(folder, 0)
    page.open("/?study=begun")
    slider = "[role=slider][aria-label='Mult-Adds, at most']"
    before = float(page.wait(slider).get_attribute("aria-valuemin"))
    assert page.js("document.querySelector('#filters').innerText").count("0.25") == 0
    search_elsewhere(folder, 24, racing=False)  # enough for effects of choices
    cheapest = min(r.mult_adds for r in page.records("begun"))
    assert math.log10(cheapest) < before, "the test is blind"
    wait_for(
        lambda: float(page.wait(slider).get_attribute("aria-valuemin")) < before, "a wider slider"
    )
    alphas = {f"{r.architecture.alpha:g}" for r in page.records("begun") if not r.is_baseline}

    def lists_them() -> bool:
        if not set(page.options()) - {""}:  # an update of the filters closes their list
            page.wait('[id*="alphas"][role=combobox], input[id*="alphas"]').click()
        return set(page.options()) >= alphas

    wait_for(lists_them, "the widths of later trials")
    page.open("/choices?study=begun", "#rules")


@needs_browser
@pytest.mark.parametrize("while_polling", [False, True])
def test_a_page_slower_than_the_poll_follows_its_address(page: Page, while_polling: bool) -> None:
    """Dash drops a response if a newer request of the same callback overtook it."""
    page.open("/?study=first")
    page.browser.execute_script(
        f"""
        const fetched = window.fetch;
        const rest = polls => new Promise(done => setTimeout(done, polls * {POLL_MILLISECONDS}));
        window.fetch = async (...given) => {{
          const answer = await fetched(...given);
          await rest(1.5);
          window.nearlyAnswered = true;
          await rest(0.5);
          return answer;
        }};
        """
    )
    if while_polling:
        wait_for(lambda: page.js("window.nearlyAnswered"), "a poll")
    link = page.wait("#front-table a")
    trial = read_query(link.get_attribute("href").partition("?")[2])["trial"]
    link.click()
    page.wait("#layers tbody tr")
    wait_for(lambda: page.address().get("trial") == trial, f"trial {trial} in the address")
