"""The pages beside the front, in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import wait_for
from selenium.webdriver.common.by import By

from dashboard.page import PAGES_READY, Page, needs_browser
from mbsearch.analysis.choice_effects import effects
from mbsearch.analysis.front import front_of
from mbsearch.analysis.tables import to_frame
from mbsearch.config.specification import load
from mbsearch.cost import layer_costs
from mbsearch.space.architecture import Architecture


@needs_browser
def test_the_layer_table_and_the_yaml_are_those_of_the_record(page: Page, tmp_path: Path) -> None:
    page.open("/?study=first")
    record = front_of(page.records())[-1]
    page.click_on(record)
    wait_for(lambda: page.address().get("trial") == str(record.trial), "the selection")
    page.wait("#cards a").click()
    page.wait("#layers-section summary").click()
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
    assert file.read_text() == to_frame(page.records()).to_csv(index=False)
    row.click()
    wait_for(lambda: page.text("#open-trial") == f"Open trial {record.trial}", "the link")
    page.wait("#open-trial a").click()
    page.wait("#layers tbody tr")
    assert page.address()["trial"] == str(record.trial)


@needs_browser
def test_two_networks_are_compared_and_differences_marked(page: Page) -> None:
    first, *_, last = front_of(page.records())
    address = f"/compare?study=first&trial={first.trial}&other={last.trial}"
    page.open(address, "#differences tbody tr")
    ratio = first.mult_adds / last.mult_adds
    assert f"needs {ratio:.2f} times the Mult-Adds" in page.text("#comparison")
    assert set(page.address()) == {"study", "trial", "other"}
    different = page.cells("#differences tbody tr")
    assert all(left != right for _, left, right, _, _ in different)
    page.wait(".mantine-SegmentedControl-label:last-of-type")
    page.js("[...document.querySelectorAll('label')].find(e => e.innerText == 'All').click()")
    wait_for(lambda: len(page.cells("#differences tbody tr")) > len(different), "equal rows")
    assert page.address()["rows"] == "all"
    reference = next(
        r for r in page.records() if r.is_baseline and r.trial not in (first.trial, last.trial)
    )
    page.wait('[id*="other"][role=combobox], input[id*="other"]').click()
    page.pick(reference.label)
    both = f"{last.trial},{reference.trial}"
    wait_for(lambda: page.address().get("other") == both, "three networks in the address")
    wait_for(lambda: reference.label in page.text("#compared"), "its comparison")


@needs_browser
def test_the_choices_page_follows_choice_and_selection(page: Page) -> None:
    choice = effects(page.records())[-1]
    page.open(f"/choices?study=first&choice={choice.choice}", "#parallel .parcoords")
    plot = "document.querySelector('#distribution .js-plotly-plot')"
    assert set(page.js(f"{plot}.layout.xaxis.ticktext")) >= {
        str(option.option) for option in choice.options
    }
    lines = "document.querySelector('#parallel .js-plotly-plot').data[0].dimensions[0].values"
    everything = page.js(f"Array.from({lines}).length")
    page.drag("#small-front .nsewdrag", 120, 80)
    wait_for(lambda: page.js(f"Array.from({lines}).length") < everything, "fewer lines")


@needs_browser
@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("empty", "No network has been trained yet"),
        ("failing", "training diverged in epoch 1: the loss is nan"),
        ("damaged", "journal.log:2: the study is damaged: expected a line of JSON"),
    ],
)
def test_an_empty_failed_or_damaged_study_shows_the_reason(
    page: Page, study: str, words: str
) -> None:
    for path in ("/", "/network", "/choices"):
        page.open(f"{path}?study={study}", "#notice")
        assert words in page.text("#notice")


@needs_browser
def test_one_network_is_enough_for_every_page(page: Page) -> None:
    ready = {**PAGES_READY, "/compare": "#notice", "/choices": "#notice"}
    for path, selector in ready.items():
        page.open(f"{path}?study=alone", selector)
