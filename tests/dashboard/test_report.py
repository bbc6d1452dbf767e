"""The report: one HTML file that needs no server."""

from __future__ import annotations

import base64
from pathlib import Path

from selenium.webdriver.common.keys import Keys

from dashboard.page import Page, needs_browser
from dashboard.studies import AUDITED
from mbsearch.analysis.answer import answer_text
from mbsearch.analysis.answer_selection import answers as said_of
from mbsearch.analysis.findings import Findings
from mbsearch.analysis.front import knee_of
from mbsearch.cli import app
from mbsearch.config.budgets import Budget
from mbsearch.report.html import document
from mbsearch.study.artifacts import read_artifacts
from mbsearch.study.opening import read_study


@needs_browser
def test_the_report_needs_no_server_and_answers_for_any_budget(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    app(["report", str(page.folder / "first"), "-o", str(file)], standalone_mode=False)
    page.browser.get(file.as_uri())
    page.wait("#published .main-svg .trace")
    assert "Run mbsearch audit" in page.text("body")
    assert page.js("performance.getEntriesByType('resource').length") == 0
    slider = page.wait("#budget")
    for key in (Keys.HOME, Keys.END):
        slider.send_keys(key)
        budget = page.js("document.getElementById('front').layout.shapes[1].x0")
        (expected,) = said_of(Findings(page.records()), [Budget(mult_adds=budget)]).values()
        assert page.text("#sentence") == answer_text(expected)
    knee = knee_of(page.records())
    page.wait(f"#network-{knee.trial} summary").click()
    link = page.wait(f"#network-{knee.trial} a[download]").get_attribute("href")
    assert base64.b64decode(link.partition(",")[2]).decode() == knee.architecture.to_yaml()
    width = page.js(f"document.getElementById('drawing-{knee.trial}').clientWidth")
    assert width == page.js(f"document.getElementById('drawing-{knee.trial}')._fullLayout.width")


def test_the_report_has_measurements_and_names_damaged_files(studies: Path) -> None:
    records = read_study(studies / "second").records()
    html = document(Findings(records), "second", read_artifacts(studies / "second"))
    assert AUDITED.sentence()[1:] in html
    assert 'id="front-torch_us"' in html
    assert "<td>0.9120 (95 % interval 0." in html
    assert "<li>Trial 1 is ahead.</li>" in html
    torn = document(Findings(records), "torn", read_artifacts(studies / "torn"))
    assert torn.count('<p class="damaged">') == 3


def test_the_report_escapes_the_name_of_a_study(studies: Path) -> None:
    name = "</script><script>alert(1)</script>"
    html = document(Findings(read_study(studies / "first").records()), name)
    assert name not in html
