"""Pointer, keyboard and touch on the plot of the front."""

from __future__ import annotations

from functools import partial

import pytest
from browser import wait_for
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from dashboard.page import Page, needs_browser
from mbsearch.analysis.front import front_of

PLOT = "document.querySelector('#front .js-plotly-plot')"
EMPTY = (0.04, 0.06)
"""A place of the plot without a network, as shares of its width and height."""


def place(page: Page, x: float, y: float) -> tuple[int, int]:
    """Return the place of the window at shares of the plot's width and height."""
    left, top, width, height = page.js(
        "(({left, top, width, height}) => [left, top, width, height])"
        "(document.querySelector('#front .nsewdrag').getBoundingClientRect())"
    )
    return round(left + x * width), round(top + y * height)


def show_plot(page: Page) -> None:
    """Scroll until the whole plot is in the window."""
    page.browser.execute_script(f"{PLOT}.scrollIntoView({{block: 'center'}})")


def pointer(page: Page, *places: tuple[int, int], press: bool = True) -> None:
    """Move the pointer through places, with the button pressed after the first."""
    chain = ActionChains(page.browser, duration=60)
    first, *others = places
    chain.w3c_actions.pointer_action.move_to_location(*first)
    chain.pause(0.1)
    if press:
        chain.click_and_hold()
    for each in others:
        chain.w3c_actions.pointer_action.move_to_location(*each)
    if press:
        chain.release()
    chain.perform()


def click(page: Page, selector: str) -> None:
    """Click an element that an update of the page may replace meanwhile."""
    page.browser.execute_script(f"document.querySelector('{selector}').click()")


def enough(page: Page, ticks: str) -> bool:
    return 3 <= len(page.js(ticks)) <= 12


def selected(page: Page, trial: int | None) -> None:
    expected = None if trial is None else str(trial)
    wait_for(lambda: page.address().get("trial") == expected, f"the selection of {trial}")


@needs_browser
def test_a_selection_is_made_by_click_and_row_undone_by_esc_click_and_back(page: Page) -> None:
    page.open("/?study=first")
    first, *_, last = front_of(page.records())
    page.click_on(first)
    selected(page, first.trial)
    page.wait("body").send_keys(Keys.ESCAPE)
    selected(page, None)
    click(page, "#front-table tbody tr:last-child td:last-child")
    selected(page, last.trial)
    wait_for(lambda: "selected" in page.text("#front-table"), "the mark of the row")
    page.browser.back()
    selected(page, None)
    wait_for(lambda: "selected" not in page.text("#front-table"), "the row without a mark")
    page.browser.forward()
    selected(page, last.trial)
    wait_for(lambda: "selected" in page.text("#front-table"), "the mark of the row again")
    show_plot(page)
    pointer(page, place(page, *EMPTY))
    selected(page, None)


@needs_browser
def test_the_card_of_a_point_has_noise_references_and_a_drawing(page: Page) -> None:
    page.open("/?study=first")
    record = next(r for r in front_of(page.records()) if not r.is_baseline)
    show_plot(page)
    box = page.js(
        f"(() => {{ const p = {PLOT}, b = p.getBoundingClientRect(), l = p._fullLayout; return ["
        f"b.left + l.xaxis._offset + l.xaxis.d2p({record.mult_adds}),"
        f"b.top + l.yaxis._offset + l.yaxis.d2p({record.accuracy})]; }})()"
    )
    pointer(page, (round(box[0]), round(box[1])), press=False)
    text = page.text(".network-card")
    assert text.startswith(record.label)
    assert f"accuracy {record.accuracy:.3f} ± {record.accuracy_noise:.3f}" in text
    assert "points over MobileNetV1" in text
    assert "points over MobileNetV2" in text
    assert page.js("document.querySelector('.network-card img').naturalWidth") > 0


@needs_browser
def test_the_line_of_the_budget_is_dragged_and_the_sentence_follows(page: Page) -> None:
    page.open("/?study=first")
    before = page.sentence()
    show_plot(page)
    x = page.js(
        f"(() => {{ const p = {PLOT}, b = p.querySelector('.nsewdrag').getBoundingClientRect();"
        "return b.left + p._fullLayout.xaxis.d2p(p.layout.shapes[1].x0); })()"
    )
    _, y = place(page, 0, EMPTY[1])  # no network is near the line there
    target, _ = place(page, 0.5, 0)
    pointer(page, (round(x), y), (round((x + target) / 2), y), (target, y))
    wait_for(lambda: "max_mult_adds" in page.address(), "the budget in the address")
    wait_for(lambda: page.sentence() != before, "another sentence")
    budget = int(page.address()["max_mult_adds"])
    drawn = page.js(f"{PLOT}.layout.shapes[1].x0")
    assert drawn == pytest.approx(budget, rel=0.03)
    slider = page.wait("#budgets [role=slider]")
    assert 10 ** float(slider.get_attribute("aria-valuenow")) == pytest.approx(budget, rel=0.03)
    assert slider.get_attribute("aria-valuetext").endswith(" M")


@needs_browser
def test_filters_are_chips_and_do_not_change_the_answer(page: Page) -> None:
    page.open("/?study=first")
    sentence = page.sentence()
    page.open("/?study=first&alphas=0.25&resolutions=96")
    assert page.sentence() == sentence
    shown = len(page.trials_drawn())
    assert f"{shown} of {len(page.records())} networks are shown" in page.text("#chips")
    click(page, "#chips [data-clear=alphas]")
    wait_for(lambda: "alphas" not in page.address(), "no filter of alpha")
    assert page.address()["resolutions"] == "96"
    click(page, "#chips .chip:last-of-type")
    wait_for(lambda: page.address() == {"study": "first"}, "no filter")
    wait_for(lambda: len(page.trials_drawn()) == len(page.records()), "every network")


@needs_browser
def test_a_lasso_lists_the_networks_inside(page: Page) -> None:
    page.open("/?study=first")
    page.browser.execute_script(f"window.Plotly.relayout({PLOT}, {{dragmode: 'lasso'}})")
    show_plot(page)
    corners = [
        place(page, *each) for each in ((0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99))
    ]
    pointer(page, *corners, corners[0])
    title = page.text("#lasso h2")
    assert title == f"{len(page.records())} networks inside the lasso"
    best = max(page.records(), key=lambda r: r.accuracy)
    assert page.cells("#lasso tbody tr")[0][0] == best.label


@needs_browser
def test_an_axis_of_measured_latency_bounds_sentence_and_slider(page: Page) -> None:
    page.open("/?study=second&metric=torch_us")
    assert "ms latency: " in page.sentence()
    slider = page.wait("#budgets [role=slider]")
    assert slider.get_attribute("aria-label") == "Latency, at most"
    assert slider.get_attribute("aria-valuetext").endswith(" ms")
    slider.send_keys(Keys.HOME)
    wait_for(lambda: "max_latency_us" in page.address(), "the budget in the address")
    fastest = front_of(page.records("second"))[0]
    wait_for(lambda: fastest.label in page.sentence(), "the fastest network")
    cheapest = {row[0] for row in page.cells("#front-table tbody tr")}
    assert fastest.label in " ".join(cheapest)


@needs_browser
def test_a_zoom_has_three_ticks_and_labels_neither_overlap_nor_leave_the_plot(page: Page) -> None:
    page.open("/?study=first")
    for low, high in ((6.0, 8.0), (6.8, 7.2), (7.0, 7.01), (7.0, 7.0001)):
        page.browser.execute_script(
            f"window.Plotly.relayout({PLOT}, {{'xaxis.range': [{low}, {high}]}})"
        )

        inside = f"{PLOT}._fullLayout.xaxis.tickvals.filter(v => v >= {10**low} && v <= {10**high})"
        wait_for(partial(enough, page, inside), f"ticks from {low} to {high}")
        texts = page.js(f"{PLOT}._fullLayout.xaxis.ticktext")
        assert len(set(texts)) == len(texts)
    page.browser.execute_script(f"window.Plotly.relayout({PLOT}, {{'xaxis.autorange': true}})")
    wait_for(lambda: page.js(f"{PLOT}._fullLayout.xaxis.range[1]") > 7.2, "the whole range")
    assert page.js(f"{PLOT}._fullLayout.xaxis.ticktext")[0].endswith(" M")
    found = page.js(
        """(() => {
          const area = document.querySelector('#front .nsewdrag').getBoundingClientRect();
          const texts = Array.from(document.querySelectorAll('#front .textpoint text'));
          const visible = texts.filter(t => t.style.visibility != 'hidden');
          const boxes = visible.map(t => t.getBoundingClientRect());
          const outside = boxes.filter(b => b.left < area.left || b.right > area.right);
          const overlaps = boxes.filter((a, i) => boxes.some((b, j) => i < j && a.right > b.left
            && a.left < b.right && a.bottom > b.top && a.top < b.bottom));
          return [boxes.length, outside.length, overlaps.length];
        })()"""
    )
    assert found[0] > 0
    assert found[1:] == [0, 0]


@needs_browser
def test_a_touch_on_the_plot_is_left_to_the_page(page: Page) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser = page.browser
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        page.open("/?study=first")
        wait_for(lambda: page.js(f"{PLOT}._fullLayout.dragmode") is False, "a plot without drags")
        assert page.js("getComputedStyle(document.querySelector('#front .modebar')).opacity") == "1"
        browser.execute_script(
            "document.querySelector('#front').scrollIntoView(); window.kept = [];"
            "for (const kind of ['touchstart', 'touchmove']) window.addEventListener(kind,"
            "  e => setTimeout(() => window.kept.push(e.defaultPrevented)), {capture: true});"
        )
        x, y = place(page, 0.5, 0.5)
        for kind, points in (
            ("touchStart", [{"x": x, "y": y}]),
            ("touchMove", [{"x": x, "y": y - 60}]),
            ("touchEnd", []),
        ):
            touch = {"type": kind, "touchPoints": points}
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
        wait_for(lambda: len(page.js("window.kept")) >= 2, "the touch")
        assert not any(page.js("window.kept")), "the plot keeps the touch from the page"
        action = page.js("getComputedStyle(document.querySelector('#front .nsewdrag')).touchAction")
        assert action != "none"
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
