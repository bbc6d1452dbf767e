"""The page, driven in a real browser."""

from __future__ import annotations

import base64
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from browser import answers, chromium, wait_for
from dash import Dash
from fake_evaluator import FakeEvaluator
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mbsearch.analysis import tables as results
from mbsearch.analysis.answer import Findings, answer, said
from mbsearch.analysis.answer import answers as said_of
from mbsearch.analysis.choice_effects import effects
from mbsearch.cli import app
from mbsearch.config.settings import Budget, Racing
from mbsearch.config.specification import load, load_specification, read_specification
from mbsearch.cost import layer_costs, measure
from mbsearch.dashboard import app as dashboard_app
from mbsearch.dashboard.app import POLL_MILLISECONDS, create_app
from mbsearch.dashboard.downloads import zipped_export
from mbsearch.dashboard.pages.compare import _accuracies, comparison
from mbsearch.dashboard.pages.front import sentence
from mbsearch.dashboard.pages.network import flat_recipe
from mbsearch.dashboard.pages.published import audit_command
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.dashboard.view import View, query, read_query
from mbsearch.errors import ExportError
from mbsearch.execution.local import LocalProcesses
from mbsearch.figures.audit import audit_figure
from mbsearch.figures.front import front_figure, selection_annotations
from mbsearch.figures.search import hypervolume_figure
from mbsearch.figures.style import FAMILY_LABELS, cost_axis
from mbsearch.report.html import document
from mbsearch.search.driver import Driver
from mbsearch.search.factory import make_sampler
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import scaled_reference
from mbsearch.space.space import SearchSpace
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.artifacts import AUDIT, LATENCY, RETRAINED, Audit, Ranking, read_measured
from mbsearch.study.journal import open_journal
from mbsearch.study.records import Evaluation, State, TrialRecord
from mbsearch.study.store import JOURNAL, create_study, read_study

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def needs_browser(test: Callable[..., None]) -> Callable[..., None]:
    """A test that drives Chromium."""
    missing = CHROMIUM is None or DRIVER is None
    skip = pytest.mark.skipif(missing, reason="needs chromium and chromedriver")
    return pytest.mark.slow(skip(test))


TINY = load_specification("tiny")
PAGES_READY = {
    "/": "#front .main-svg .trace",
    "/network": "#layers tbody tr",
    "/search": "#trials .ag-row",
    "/compare": "#differences tbody tr",
    "/choices": "#rules li",
    "/published": "#published .main-svg .trace",
}
"""Pages, and what is there once they are."""
AUDITED = Audit(
    "tiny",
    "embedded",
    "30 epochs",
    24,
    7.25,
    0.012,
    [
        Ranking("mult_adds", 0.5, 0.25, 0.75, (0.4, 0.3, 0.2), 0.02),
        Ranking("proxy", 0.75, 0.5, 0.875, (0.5, 0.6, 0.1), 0.01),
    ],
)


def search(folder: Path, trials: int, *, fails: bool = False, space: SearchSpace = TINY) -> None:
    """A study in milliseconds: the accuracies are made up."""
    store = create_study(open_journal(folder / JOURNAL, create=True), space.name)
    store.search.sampler = make_sampler("random", space, seed=0)
    with LocalProcesses(FakeEvaluator(epochs=3, fails=fails), 1) as executor:
        Driver(store, space, executor, trials, 0).run()


def measure_front(folder: Path) -> None:
    """Latencies of a study's front, and an audit, as the command line leaves them."""
    rows = [
        {
            "engine": "torch",
            "fingerprint": record.fingerprint,
            "lower_quartile_seconds": 0.002 + i / 1000,
            "median_seconds": 0.0025 + i / 1000,
            "upper_quartile_seconds": 0.004 + i / 1000,
        }
        for i, record in enumerate(results.front(read_study(folder).records()))
    ]
    (folder / LATENCY).write_text(json.dumps({"networks": rows}))
    (folder / AUDIT).write_text(json.dumps(asdict(AUDITED)))
    row = {"rival_of": None, "mult_adds": 10**6, "proxy_accuracy": 0.7, "seeds": [0, 1]}
    row |= {"family": "search", "alpha": 0.5, "resolution": 96, "pixels": 24, "seconds": 9.0}
    row |= {"accuracies": [0.909, 0.915]}
    knee = results.knee(read_study(folder).records())
    retrained = {
        "settings": {"test_images": 100},
        "networks": [{"name": "trial 1", "fingerprint": knee.fingerprint, **row}],
        "leads": [{"candidate": "trial 1", "sentence": "trial 1 is ahead"}],
    }
    (folder / RETRAINED).write_text(json.dumps(retrained))


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

    def options(self) -> dict[str, Any]:
        """Options by what they show, which is nothing until their list is to be seen."""
        found = self.browser.find_elements(By.CSS_SELECTOR, "[role=option]")
        return {option.text: option for option in found}

    def pick(self, text: str) -> None:
        """Click an option of the list that is open."""
        wait_for(lambda: self.options().get(text), f"the option {text}").click()

    def js(self, script: str) -> Any:
        return self.browser.execute_script(f"return {script}")

    def cells(self, rows: str) -> list[list[str]]:
        """What the rows of a table show, asked for at once: a question takes 20 ms."""
        return self.js(
            f"Array.from(document.querySelectorAll('{rows}'),"
            " row => Array.from(row.querySelectorAll('td'), cell => cell.innerText.trim()))"
        )

    def address(self) -> dict[str, str]:
        return read_query(self.browser.current_url.partition("?")[2])

    def records(self, study: str = "first") -> list[TrialRecord]:
        return read_study(self.folder / study).records()

    def click_on(self, record: TrialRecord, *, shift: bool = False) -> None:
        """Click where a network stands in the plot of the front."""
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
        """Drag something from its middle."""
        chain = ActionChains(self.browser)
        chain.click_and_hold(self.wait(selector)).pause(0.1).move_by_offset(right, down)
        chain.pause(0.1).release().perform()

    def downloads_to(self, folder: Path) -> None:
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        self.browser.execute_cdp_cmd("Browser.setDownloadBehavior", settings)

    def trials_drawn(self) -> list[int]:
        """Trials in the plot of the front, each once."""
        return self.js(
            "document.querySelector('#front .js-plotly-plot').data"
            ".filter(t => t.name != 'Pareto front' && t.name != 'Tied with the front')"
            ".flatMap(t => t.customdata.map(d => d[0]))"
        )

    def errors(self) -> list[str]:
        messages = [entry["message"] for entry in self.browser.get_log("browser")]
        return [text for text in messages if "GL Driver Message" not in text]  # no GPU here


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    search(folder / "second", 3)
    calm = TINY.with_settings({"racing": Racing(rungs=())})
    search(folder / "first", 8, space=calm)  # networks enough to say what matters
    search(folder / "failing", 2, fails=True)
    alone = TINY.with_settings({"baselines": ()})
    search(folder / "alone", 1, space=alone)
    create_study(open_journal(folder / "empty" / JOURNAL, create=True), "empty")
    shutil.copytree(folder / "second", folder / "torn")
    (folder / "torn" / AUDIT).write_text("{")
    (folder / "torn" / LATENCY).write_text("[]")
    (folder / "torn" / RETRAINED).write_text('{"networks": [{}], "leads": []}')
    measure_front(folder / "second")
    shutil.copytree(folder / "second", folder / "damaged")
    journal = folder / "damaged" / JOURNAL
    journal.write_text(journal.read_text().replace("\n", "\nnot JSON\n", 1))
    return folder


@pytest.fixture(scope="module")
def url(studies: Path) -> Iterator[str]:
    """The dashboard as a user starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mbsearch", "dashboard", str(studies), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: answers(address), "the server", 60)
            yield address
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium(str(CHROMIUM), str(DRIVER)) as driver:
        yield driver


@pytest.fixture
def page(browser: webdriver.Chrome, url: str, studies: Path) -> Iterator[Page]:
    """A page whose console stays clean."""
    browser.get_log("browser")
    opened = Page(browser, url, studies)
    yield opened
    assert opened.errors() == []


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
    before = page.text("#sentence")
    thumb.send_keys(Keys.HOME)
    for _ in range(5):
        thumb.send_keys(Keys.ARROW_RIGHT)
    wait_for(lambda: page.text("#sentence") != before, "another sentence")
    wait_for(lambda: page.address().get("max_mult_adds", "") != "", "the budget in the address")

    def agrees() -> bool:
        budget = Budget(mult_adds=int(page.address()["max_mult_adds"]))
        return page.text("#sentence") == f"{answer(Findings(page.records()), budget).sentence()}."

    wait_for(agrees, "the sentence that the command line prints")


@needs_browser
def test_a_click_selects_and_a_shift_click_compares(page: Page) -> None:
    page.open("/?study=first")
    first, *_, last = results.front(page.records())
    page.click_on(first)
    wait_for(lambda: page.address().get("trial") == str(first.trial), "the selection")
    page.click_on(last, shift=True)
    wait_for(lambda: page.address().get("other") == str(last.trial), "the comparison")
    assert page.address()["trial"] == str(first.trial)
    wait_for(lambda: "Compare the two" in page.text("#cards"), "the link to the comparison")


@needs_browser
def test_the_layer_table_and_the_yaml_are_those_of_the_record(page: Page, tmp_path: Path) -> None:
    page.open("/?study=first")
    record = results.front(page.records())[-1]
    page.click_on(record)
    wait_for(lambda: page.address().get("trial") == str(record.trial), "the selection")
    page.wait("#cards a").click()
    page.wait("#layers tbody tr")
    rows = page.cells("#layers tbody tr")
    expected = layer_costs(record.architecture)
    assert [row[0] for row in rows] == [layer.name for layer in expected]
    assert [int(row[4].replace(",", "")) for row in rows] == [c.mult_adds for c in expected]
    page.downloads_to(tmp_path)
    page.wait("#take-yaml").click()
    file = wait_for(lambda: next(tmp_path.glob("*.yaml"), None), "the download")
    loaded = load(file)
    assert isinstance(loaded, Architecture)
    assert loaded == record.architecture.replace(name=loaded.name)
    assert loaded.name == record.architecture.name


@needs_browser
def test_an_address_opens_the_same_view(page: Page) -> None:
    page.open("/?study=second&metric=params&resolutions=96&colour=alpha&max_mult_adds=20000000")
    title = page.js("document.querySelector('#front .js-plotly-plot').layout.xaxis.title.text")
    assert title == "Parameters"
    assert page.text("#sentence").startswith("At 20 M Mult-Adds")
    sizes = page.js(
        "document.querySelector('#front .js-plotly-plot').data"
        ".filter(t => t.name.startsWith('alpha')).flatMap(t => t.customdata.map(d => d[4]))"
    )
    assert set(sizes) == {96}


@needs_browser
def test_what_was_measured_is_an_axis_and_an_audit(page: Page) -> None:
    page.open("/?study=second&metric=torch_us")
    plot = "document.querySelector('#front .js-plotly-plot')"
    assert page.js(f"{plot}.layout.xaxis.title.text") == "Latency by torch"
    records = page.records("second")
    front = results.front(records)
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
def test_a_trial_that_a_worker_adds_appears_and_nothing_else_moves(page: Page) -> None:
    shutil.copytree(page.folder / "first", page.folder / "growing")
    page.open("/?study=growing&alphas=0.25&max_mult_adds=8000000")
    selected = next(r for r in page.records("growing") if r.origin == "mobilenet_v1")
    page.click_on(selected)
    wait_for(lambda: page.address().get("trial") == str(selected.trial), "the selection")
    page.drag("#front .nsewdrag", 60)
    zoomed = page.js("document.querySelector('#front .js-plotly-plot')._fullLayout.xaxis.range")
    code = (
        f"from test_dashboard import *\n"
        f"if __name__ == '__main__': search(Path({str(page.folder / 'growing')!r}), 30)"
    )
    tests = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": tests}
    )
    narrow = {r.trial for r in page.records("growing") if r.architecture.alpha == 0.25}
    baselines = {r.trial for r in page.records("growing") if r.is_baseline}
    wait_for(lambda: set(page.trials_drawn()) == narrow | baselines, "every new trial")
    layout = "document.querySelector('#front .js-plotly-plot')._fullLayout"
    assert page.js(f"{layout}.xaxis.range") == zoomed
    assert page.js(f"{layout}.annotations.length") == 1


@needs_browser
def test_a_page_that_was_opened_at_the_start_follows_to_the_end(page: Page) -> None:
    """Sliders and filters reach what came later; what was too early to tell is told."""
    folder = page.folder / "begun"
    search(folder, 0)
    page.open("/?study=begun")
    slider = "[role=slider][aria-label='Mult-Adds, at most']"
    before = float(page.wait(slider).get_attribute("aria-valuemin"))
    assert page.js("document.querySelector('#filters').innerText").count("0.25") == 0
    code = (
        f"from test_dashboard import *\n"
        f"if __name__ == '__main__': search(Path({str(folder)!r}), 12, space=TINY.with_settings("
        "{'racing': Racing(rungs=())}))"
    )
    tests = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": tests}
    )
    cheapest = min(r.mult_adds for r in page.records("begun"))
    assert math.log10(cheapest) < before, "the test is blind"
    wait_for(
        lambda: float(page.wait(slider).get_attribute("aria-valuemin")) < before, "a wider slider"
    )
    page.wait('[id*="alphas"][role=combobox], input[id*="alphas"]').click()
    alphas = {f"{r.architecture.alpha:g}" for r in page.records("begun") if not r.is_baseline}
    wait_for(lambda: set(page.options()) >= alphas, "the widths that came later")
    page.open("/choices?study=begun", "#rules")


@needs_browser
def test_the_table_lists_trials_and_a_row_leads_to_its_network(page: Page, tmp_path: Path) -> None:
    page.open("/search?study=first&beside=second&against=time", "#trials .ag-row")
    traces = page.js("document.querySelector('#hypervolume .js-plotly-plot').data.map(t => t.name)")
    assert traces == ["With the baselines", "The search alone", "second, alone"]
    record = page.records()[2]
    row = page.wait(f"#trials .ag-center-cols-container [row-id='{record.trial}']")
    cells = {
        c.get_attribute("col-id"): c.text for c in row.find_elements(By.CSS_SELECTOR, ".ag-cell")
    }
    assert cells["accuracy"] == f"{record.accuracy:.4f}"
    assert cells["mult_adds"] == f"{record.mult_adds:,}"
    page.downloads_to(tmp_path)
    page.wait("#take-csv").click()
    file = wait_for(lambda: next(tmp_path.glob("*.csv"), None), "the download")
    assert file.read_text() == results.to_frame(page.records()).to_csv(index=False)
    row.click()
    wait_for(lambda: page.text("#open-trial") == f"Open trial {record.trial}", "the link")
    page.wait("#open-trial a").click()
    page.wait("#layers tbody tr")
    assert page.address()["trial"] == str(record.trial)


@needs_browser
def test_two_networks_are_compared_and_differences_marked(page: Page) -> None:
    first, *_, last = results.front(page.records())
    address = f"/compare?study=first&trial={first.trial}&other={last.trial}"
    page.open(address, "#differences tbody tr")
    ratio = first.mult_adds / last.mult_adds
    assert f"needs {ratio:.2f} times the Mult-Adds" in page.text("#comparison")
    assert set(page.address()) == {"study", "trial", "other"}
    for _, mark, left, right in page.cells("#differences tbody tr"):
        assert (mark == "differs") == (left != right)
    rival = next(r for r in page.records() if r.is_baseline)
    page.wait('[id*="other"][role=combobox], input[id*="other"]').click()
    page.pick(rival.label)
    wait_for(lambda: page.address().get("other") == str(rival.trial), "the other network")
    wait_for(lambda: rival.label in page.text("#compared"), "its comparison")


@needs_browser
def test_the_choices_page_follows_choice_and_selection(page: Page) -> None:
    choice = effects(page.records())[-1]
    page.open(f"/choices?study=first&choice={choice.choice}", "#parallel .parcoords")
    plot = "document.querySelector('#distribution .js-plotly-plot')"
    assert set(page.js(f"{plot}.data.map(t => t.name)")) >= {
        str(option.option) for option in choice.options
    }
    lines = "document.querySelector('#parallel .js-plotly-plot').data[0].dimensions[0].values"
    everything = page.js(f"Array.from({lines}).length")
    page.drag("#small-front .nsewdrag", 120, 80)
    wait_for(lambda: page.js(f"Array.from({lines}).length") < everything, "fewer lines")


@needs_browser
def test_studies_are_switched_and_an_address_is_reloaded(page: Page) -> None:
    page.open("/?study=first")
    page.wait("#study").click()
    page.pick("second")
    wait_for(lambda: page.address() == {"study": "second"}, "the other study's address")
    drawn = sorted(r.trial for r in page.records("second"))
    wait_for(lambda: sorted(page.trials_drawn()) == drawn, "the other study")
    before = page.text("#sentence")
    page.wait("[role=slider][aria-label='Mult-Adds, at most']").send_keys(Keys.ARROW_LEFT)
    wait_for(lambda: "max_mult_adds" in page.address(), "the budget in the address")
    wait_for(lambda: page.text("#sentence") != before, "the answer to that budget")
    sentence = page.text("#sentence")
    page.browser.refresh()
    page.wait("#front .main-svg .trace")
    wait_for(lambda: page.text("#sentence") == sentence, "the same answer")


@needs_browser
@pytest.mark.parametrize("while_polling", [False, True])
def test_a_page_slower_than_the_poll_follows_its_address(page: Page, while_polling: bool) -> None:
    """Dash drops an answer that the same callback's next question has overtaken."""
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
    first = str(results.front(page.records())[0].trial)
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


@needs_browser
def test_the_report_needs_no_server_and_answers_for_any_budget(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    app(["report", str(page.folder / "first"), "-o", str(file)], standalone_mode=False)
    page.browser.get(file.as_uri())
    page.wait("#published .main-svg .trace")
    assert "mbsearch audit does" in page.text("body")
    assert page.js("performance.getEntriesByType('resource').length") == 0
    slider = page.wait("#budget")
    for key in (Keys.HOME, Keys.END):
        slider.send_keys(key)
        budget = page.js("document.getElementById('front').layout.shapes[1].x0")
        (expected,) = said_of(Findings(page.records()), [Budget(mult_adds=budget)]).values()
        assert page.text("#sentence") == said(expected)
    knee = results.knee(page.records())
    page.wait(f"#network-{knee.trial} summary").click()
    link = page.wait(f"#network-{knee.trial} a[download]").get_attribute("href")
    assert base64.b64decode(link.partition(",")[2]).decode() == knee.architecture.to_yaml()
    width = page.js(f"document.getElementById('drawing-{knee.trial}').clientWidth")
    assert width == page.js(f"document.getElementById('drawing-{knee.trial}')._fullLayout.width")


def test_the_report_has_what_was_measured_and_what_is_damaged(studies: Path) -> None:
    records = read_study(studies / "second").records()
    html = document(Findings(records), "second", read_measured(studies / "second"))
    assert AUDITED.sentence()[1:] in html
    assert 'id="front-torch_us"' in html
    assert "<td>0.9120 ± 0.0042</td>" in html
    assert "<li>Trial 1 is ahead.</li>" in html
    torn = document(Findings(records), "torn", read_measured(studies / "torn"))
    assert torn.count('<p class="damaged">') == 3


def test_a_measured_latency_is_drawn_with_its_quartiles(studies: Path) -> None:
    records = read_study(studies / "second").records()
    found = read_measured(studies / "second").latencies["torch_us"]
    figure = front_figure(records, metric="torch_us", latencies=found)
    [front] = [trace for trace in figure.data if trace.name == "Pareto front"]
    assert list(front.x) == pytest.approx([2500.0 + 1000 * i for i in range(len(found))])
    assert list(front.error_x.array) == pytest.approx([1500.0] * len(found))
    assert list(front.error_x.arrayminus) == pytest.approx([500.0] * len(found))
    assert figure.layout.xaxis.ticktext[0].endswith(" ms")
    pointed = selection_annotations(records, "torch_us", found)
    assert [10 ** each["x"] for each in pointed] == pytest.approx(
        [found[r.fingerprint].median for r in records if r.fingerprint in found]
    )


def test_labels_of_the_two_families_lie_on_different_sides(studies: Path) -> None:
    baselines = [r for r in read_study(studies / "first").records() if r.is_baseline]
    assert {r.origin for r in baselines} == {"mobilenet_v1", "mobilenet_v2"}
    traces = front_figure(baselines).data
    sides = {trace.legendgroup: trace.textposition for trace in traces if trace.text is not None}
    assert len(set(sides.values())) == len(sides) == 2


def test_networks_without_the_choice_that_colours_are_there_too() -> None:
    space = read_specification(
        parse_document(
            "stem: {channels: 8}\nstages: [{block: {choices: [separable, inverted_residual]}, "
            "channels: 16, expansion: {choices: [1, 1.5, 2, 3, 4, 5, 6, 8]}}]",
            "s.yaml",
        )
    )
    evaluation = Evaluation(0.5, 1.0, 1.0, 0, 32, (), "fake", {}, "none")
    records = [
        TrialRecord(i, "search", State.COMPLETE, network, measure(network), params, evaluation)
        for i, params in enumerate(space.enumerate_params())
        for network in [space.decode(params)]
    ]
    traces = {t.name: t for t in front_figure(records, colour="stages.0.expansion").data}
    assert len(traces["without stages.0.expansion"].x) == 1
    assert len(traces["Search trials"].x) == len(set(traces["Search trials"].marker.color)) == 8


@pytest.mark.parametrize("family", [*FAMILY_LABELS, "mobilenet_v3_small"])
def test_references_of_every_family_are_drawn(family: str) -> None:
    evaluation = Evaluation(0.5, 1.0, 1.0, 0, 32, (), "fake", {}, "none")
    network = scaled_reference(family, 0.5, 96)
    record = TrialRecord(0, family, State.COMPLETE, network, measure(network), {}, evaluation)
    traces = [trace for trace in front_figure([record]).data if len(trace.x)]
    names = {trace.name for trace in traces}
    assert FAMILY_LABELS.get(family, "Other references") in names


def test_an_audit_is_drawn_with_its_intervals_and_thirds() -> None:
    everything, *thirds = audit_figure(AUDITED).data
    assert list(everything.x) == [0.75, 0.5]  # from below
    assert list(everything.error_x.array) == [0.125, 0.25]
    assert list(everything.error_x.arrayminus) == [0.25, 0.25]
    assert [list(third.x) for third in thirds] == [[0.5, 0.4], [0.6, 0.3], [0.1, 0.2]]


def test_the_command_of_an_audit_leads_to_the_folder_of_the_study() -> None:
    command = "mbsearch audit --space results/v2/space.yaml --name v2"
    assert audit_command(Path("results/v2"), {}) == command
    assert audit_command(Path("/far/v2"), {}).endswith("--name v2 --results /far")
    here = f"--name {Path.cwd().name} --results {Path.cwd().parent}"
    assert audit_command(Path(), {}).endswith(here)
    stamp = {"data": "my photos", "seed": 3}
    of_study = f"{command} --data 'my photos' --seed 3"
    assert audit_command(Path("results/v2"), {"stamp": stamp | {"weights": None}}) == of_study
    old = audit_command(Path("results/v2"), {"stamp": stamp})
    assert old == f"{of_study} --weights none", "it knew no donors"


def test_settings_of_a_supernet_count_where_one_was_trained() -> None:
    recipe = {"epochs": 4, "cutout": None, "supernet": {"steps": 9}, "evaluator": "training"}
    assert flat_recipe(recipe) == {"epochs": 4, "evaluator": "training"}
    assert flat_recipe({**recipe, "evaluator": "supernet"})["supernet steps"] == 9


def test_a_name_cannot_break_out_of_the_report(studies: Path) -> None:
    name = "</script><script>alert(1)</script>"
    html = document(Findings(read_study(studies / "first").records()), name)
    assert name not in html


@needs_browser
@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("empty", "No network has been trained yet"),
        ("failing", "training diverged in epoch 1: the loss is nan"),
        ("damaged", "journal.log:2: the study is damaged: expected a line of JSON"),
    ],
)
def test_a_study_with_nothing_to_show_says_why(page: Page, study: str, words: str) -> None:
    for path in ("/", "/network", "/choices"):
        page.open(f"{path}?study={study}", "#notice")
        assert words in page.text("#notice")


@needs_browser
def test_one_network_is_enough_for_every_page(page: Page) -> None:
    ready = {**PAGES_READY, "/compare": "#notice", "/choices": "#notice"}
    for path, selector in ready.items():
        page.open(f"{path}?study=alone", selector)


def test_trainings_that_came_to_nothing_do_not_press_the_front(studies: Path) -> None:
    found = read_study(studies / "first").records()

    def drawn(accuracies: list[float]) -> Any:
        evaluations = [r.evaluation for r in found]
        assert None not in evaluations
        pairs = zip(found, evaluations, accuracies, strict=True)
        return front_figure(
            [replace(r, evaluation=replace(e, accuracy=a)) for r, e, a in pairs if e]
        ).layout.yaxis

    level = [0.6 + 0.01 * i for i in range(len(found))]
    assert drawn(level).autorangeoptions.clipmin is None
    searched = [i for i, r in enumerate(found) if not r.is_baseline]
    level[max(searched, key=lambda i: found[i].mult_adds)] = 0.1
    axis = drawn(level)
    assert 0.1 < axis.autorangeoptions.clipmin < 0.6
    assert axis.title.text.endswith("; 1 network lies lower")


def test_a_stopped_training_is_not_held_against_a_whole_one(studies: Path) -> None:
    first, second, *_ = read_study(studies / "first").records()
    stopped = replace(second, state=State.PRUNED)
    assert "significant given the noise" in comparison(first, second)
    assert comparison(first, stopped).endswith(
        "pruned training does not show which one is more accurate."
    )
    promoted = replace(first, promotion=first.evaluation)
    assert set(_accuracies(promoted)) == {"accuracy, short training", "accuracy, longer training"}
    assert _accuracies(stopped)["accuracy, short training"].endswith("(pruned)")


def test_a_study_of_another_cost_is_drawn_by_that_of_this_one(studies: Path) -> None:
    records = read_study(studies / "first").records()
    other = [replace(r, metric="params") for r in read_study(studies / "second").records()]
    figure = hypervolume_figure(records, "trials", ("second", other))
    same = hypervolume_figure(
        records, "trials", ("second", read_study(studies / "second").records())
    )
    assert [list(t.y) for t in figure.data] == [list(t.y) for t in same.data]
    lacking = [replace(r, metric="latency_us", costs={"latency_us": 5}) for r in other]
    alone = hypervolume_figure(records, "trials", ("second", lacking)).data[-1]
    assert not alone.x


@pytest.mark.parametrize(
    ("metric", "low", "high"),
    [
        ("mult_adds", 6_300_000, 6_840_000),
        ("mult_adds", 60_800_000, 91_100_000),
        ("params", 127_000, 150_000),
        ("peak_activation_bytes", 1.47 * 2**20, 3.2 * 2**20),
        ("mult_adds", 5_123_456, 5_123_456),
        ("mult_adds", 1_500_000, 100_000_000),
    ],
)
def test_an_axis_of_any_range_says_where_it_is(metric: str, low: float, high: float) -> None:
    axis = cost_axis(metric, low, high)
    inside = [tick for tick in axis["tickvals"] if low <= tick <= high]
    assert len(inside) >= (2 if high > 1.05 * low else 1)
    assert len(set(axis["ticktext"])) == len(axis["tickvals"]) < 12


def test_the_sentence_is_in_the_unit_of_the_study_where_nothing_passes(studies: Path) -> None:
    records = [replace(r, metric="params") for r in read_study(studies / "first").records()]
    view = View.parse({"alphas": "0.99", "max_params": "500000"})
    none = Snapshot("a", "a", studies, records=tuple(r for r in records if not r.is_baseline))
    assert sentence(none, view).startswith("At 500 k parameters: no network is trained yet")


def test_what_is_told_instead_of_a_page_is_told_anew(studies: Path) -> None:
    running, failed = Snapshot("a", "a", studies), Snapshot("a", "a", studies)
    [record, *_] = read_study(studies / "failing").records()
    running = replace(running, records=(replace(record, state=State.RUNNING),))
    failed = replace(failed, records=(record,))
    stamps = [dashboard_app._redraw_key("/", {}, each) for each in (running, failed)]
    assert stamps[0] != stamps[1]
    assert dashboard_app._redraw_key("/", {}, replace(failed, name="b")) != stamps[1]


def test_another_study_of_the_same_name_is_read_anew(tmp_path: Path) -> None:
    search(tmp_path / "s", 5)
    library = Library(ResultsFolder(tmp_path))
    wait_for(lambda: not library.snapshot("s").loading, "the study")
    assert len(library.snapshot("s").records) > 5
    shutil.rmtree(tmp_path / "s")
    search(tmp_path / "s", 2, space=TINY.with_settings({"baselines": ()}))
    snapshot = library.snapshot("s")
    assert snapshot.problem is None
    assert len(snapshot.records) == 2


def test_an_export_that_fails_says_why(studies: Path) -> None:
    with pytest.raises(ExportError, match=r"trial 999: .*expected a trial of the study"):
        zipped_export([str(studies / "first")], 999)


@pytest.mark.parametrize(
    "text",
    ["trial=x", "max_mult_adds=nan", "alphas=1e400,,&resolutions=-", "states=lost", "metric="],
)
def test_typed_nonsense_falls_to_the_defaults(text: str) -> None:
    assert View.parse(read_query(text)) == View()


def test_addresses_read_back() -> None:
    fields = {"study": "a b", "alphas": "0.5,1", "max_params": "2000000"}
    assert read_query(query(fields)) == fields
    assert View.parse(fields).alphas == (0.5, 1.0)


def test_only_names_of_this_machine_are_answered(studies: Path) -> None:
    client = create_app(Library(ResultsFolder(studies))).server.test_client()
    assert client.get("/", headers={"Host": "127.0.0.1:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "[::1]:8050"}).status_code == 200
    assert client.get("/", headers={"Host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "warns"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)]
)
def test_only_an_open_host_is_warned_about(
    studies: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    warns: bool,
) -> None:
    served: dict[str, Any] = {}
    monkeypatch.setattr(Dash, "run", lambda _app, **options: served.update(options))
    monkeypatch.setenv("DASH_DEBUG", "true")
    monkeypatch.setenv("HOST", "192.0.2.1")
    app(["dashboard", str(studies), "--host", host], standalone_mode=False)
    assert (served["host"], served["debug"]) == (host, False)
    assert ("SSH tunnel" in capsys.readouterr().err) is warns


def test_the_page_needs_no_torch() -> None:
    code = (
        "import sys, mbsearch.dashboard.app, mbsearch.cli.dashboard; "
        "sys.exit(any(name.partition('.')[0] == 'torch' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
