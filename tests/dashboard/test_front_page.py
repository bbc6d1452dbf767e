"""The page of the front, in a browser."""

from __future__ import annotations

from browser import wait_for
from selenium.webdriver.common.keys import Keys

from dashboard.page import Page, needs_browser
from dashboard.studies import AUDITED
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import front_of
from mbsearch.config.budgets import Budget
from mbsearch.study.audit_file import AUDIT
from mbsearch.study.latency_file import LATENCY
from mbsearch.study.retrained_file import RETRAINED


@needs_browser
def test_the_front_shows_both_families_and_every_trial(page: Page) -> None:
    page.open("/?study=first")
    names = page.js("document.querySelector('#front .js-plotly-plot').data.map(t => t.name)")
    assert {"MobileNet V1", "MobileNet V2", "Pareto front", "Search trials"} <= set(names)
    assert sorted(page.trials_drawn()) == [r.trial for r in page.records()]


@needs_browser
def test_the_sentence_follows_the_budget_by_keyboard(page: Page) -> None:
    page.open("/?study=first")
    thumb = page.wait("[role=slider][aria-label='Mult-Adds, at most']")
    before = page.sentence()
    thumb.send_keys(Keys.HOME)
    for _ in range(5):
        thumb.send_keys(Keys.ARROW_RIGHT)
    wait_for(lambda: page.sentence() != before, "another sentence")
    wait_for(lambda: page.address().get("max_mult_adds", "") != "", "the budget in the address")

    def agrees() -> bool:
        budget = Budget(mult_adds=int(page.address()["max_mult_adds"]))
        return page.sentence() == f"{answer(Findings(page.records()), budget).sentence()}."

    wait_for(agrees, "the sentence that the command line prints")


@needs_browser
def test_a_click_selects_and_a_shift_click_compares(page: Page) -> None:
    page.open("/?study=first")
    first, *_, last = front_of(page.records())
    page.click_on(first)
    wait_for(lambda: page.address().get("trial") == str(first.trial), "the selection")
    page.click_on(last, shift=True)
    wait_for(lambda: page.address().get("other") == str(last.trial), "the comparison")
    assert page.address()["trial"] == str(first.trial)
    wait_for(lambda: "Compare the two" in page.text("#cards"), "the link to the comparison")


@needs_browser
def test_an_address_opens_the_same_view(page: Page) -> None:
    page.open("/?study=second&metric=params&resolutions=96&colour=alpha&max_mult_adds=20000000")
    title = page.js("document.querySelector('#front .js-plotly-plot').layout.xaxis.title.text")
    assert title == "Parameters"
    assert page.sentence().startswith("At 20 M Mult-Adds")
    trials = page.js(
        "document.querySelector('#front .js-plotly-plot').data"
        ".filter(t => t.name.startsWith('alpha')).flatMap(t => t.customdata.map(d => d[0]))"
    )
    sizes = {r.trial: r.architecture.resolution.plain for r in page.records("second")}
    assert {sizes[trial] for trial in trials} == {96}


@needs_browser
def test_measured_latency_is_an_axis_and_the_audit_is_shown(page: Page) -> None:
    page.open("/?study=second&metric=torch_us")
    plot = "document.querySelector('#front .js-plotly-plot')"
    assert page.js(f"{plot}.layout.xaxis.title.text") == "Latency by torch"
    records = page.records("second")
    front = front_of(records)
    assert sorted(page.trials_drawn()) == sorted(r.trial for r in front)
    left_out = f"left out: {len(records) - len(front)} of {len(records)} networks"
    assert left_out in page.text("#caption")
    page.open("/published?study=second", "#agreement .main-svg .trace")
    assert page.text("#audit").lower() == f"{AUDITED.sentence()}.".lower()
    page.open("/published?study=first", "#audit")
    assert "mbsearch audit --space" in page.text("#audit")
    page.open("/?study=torn&metric=torch_us")
    assert page.js(f"{plot}.layout.xaxis.title.text") == "Mult-Adds of one image"
    told = page.js("Array.from(document.querySelectorAll('.damaged'), alert => alert.textContent)")
    for file, text in zip((AUDIT, LATENCY, RETRAINED), told, strict=True):
        assert f"{file}: expected what" in text
        assert "got a damaged file" in text


@needs_browser
def test_studies_are_switched_and_an_address_is_reloaded(page: Page) -> None:
    page.open("/?study=first")
    page.wait("#study").click()
    page.pick("second")
    wait_for(lambda: page.address() == {"study": "second"}, "the other study's address")
    drawn = sorted(r.trial for r in page.records("second"))
    wait_for(lambda: sorted(page.trials_drawn()) == drawn, "the other study")
    before = page.sentence()
    page.wait("[role=slider][aria-label='Mult-Adds, at most']").send_keys(Keys.ARROW_LEFT)
    wait_for(lambda: "max_mult_adds" in page.address(), "the budget in the address")
    wait_for(lambda: page.sentence() != before, "the answer to that budget")
    sentence = page.sentence()
    page.browser.refresh()
    page.wait("#front .main-svg .trace")
    wait_for(lambda: page.sentence() == sentence, "the same answer")
