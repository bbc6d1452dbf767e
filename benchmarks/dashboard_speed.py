"""Time the dashboard with a study of 10,000 trials in a real browser.

    python benchmarks/dashboard_speed.py --trials 10000

The study is made once and kept in --folder. A separate process serves it. Headless Chromium has no
GPU, so WebGL runs in software: a desktop is faster.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from shutil import which
from typing import Any

import psutil
from optuna.trial import TrialState, create_trial
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mbsearch.config.specification import baseline_architectures, load_specification
from mbsearch.cost import measure
from mbsearch.search.factory import distributions
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.journal import open_journal
from mbsearch.study.opening import JOURNAL
from mbsearch.study.records import SEARCH, Epoch, Evaluation
from mbsearch.study.store import StudyStore, create_study, load_study
from mbsearch.study.trial_spec import TrialKind, TrialSpec

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from browser import answers, chromium, wait_for  # the tests' browser

SPACE = load_specification("v2")
SECONDS_PER_TRIAL = 5.5  # of the README's search, on two cores
WATCHED_TRIALS = 8
# Record when the page polls, when it redraws its plot, and when its other texts arrive.
WATCH = """
window.polls = []; window.drawings = []; window.texts = [];
const send = window.fetch;
window.fetch = async (url, options) => {
  const body = String(options?.body ?? '');
  if (body.includes('tick.n_intervals')) window.polls.push(performance.now());
  const answer = await send(url, options);
  if (body.includes('others.children')) window.texts.push(performance.now());
  return answer;
};
const look = setInterval(() => {
  const plot = document.querySelector('#front .js-plotly-plot');
  if (!plot || !plot.on || !document.querySelector('#front .scatterlayer .trace')) return;
  clearInterval(look);
  requestAnimationFrame(() => requestAnimationFrame(() => { window.painted = performance.now(); }));
  plot.on('plotly_afterplot', () => { window.drawings.push(performance.now()); });
}, 10);
"""


def add(store: StudyStore, number: int, origin: str, network: Architecture, params: Any) -> None:
    """Add a completed trial as a driver stores it."""
    rng = Random(number)
    costs = measure(network)
    accuracy = min(0.99, 1 - 3 / math.log10(costs["mult_adds"]) ** 1.2 + rng.gauss(0, 0.01))
    curve = tuple(Epoch(1.0, 1.0, accuracy * (1 - 0.5**e), 5.0) for e in range(1, 5))
    evaluation = Evaluation(
        accuracy, 1.0, 20.0, number, Size.square(48), curve, "made up", {"epochs": 4}, "none"
    )
    kind = TrialKind.SEARCH if origin == SEARCH else TrialKind.BASELINE
    spec = TrialSpec(kind, number, origin, network, network.fingerprint, costs, params, seed=number)
    store.study_of(origin).add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            values=spec.objectives(evaluation.accuracy),
            params=SPACE.complete(params) if params else {},
            distributions=distributions(SPACE) if params else {},
            user_attrs={"record": spec.to_dict(), "evaluation": evaluation.to_dict()},
        )
    )


def make_study(folder: Path, trials: int) -> StudyStore:
    """Return a study of at least this many trials; make it if there is none."""
    if (folder / JOURNAL).is_file():
        store = load_study(open_journal(folder / JOURNAL, create=False))
        if len(store.search.get_trials(deepcopy=False)) >= trials:
            return store
    store = create_study(open_journal(folder / JOURNAL, create=True), SPACE.name)
    baselines = baseline_architectures(SPACE)
    for number, (origin, network) in enumerate(baselines):
        add(store, number, origin, network, {})
    rng = Random(0)
    for number in range(len(baselines), trials + len(baselines)):
        params = SPACE.sample_params(rng)
        add(store, number, "search", SPACE.decode(params), params)
    return store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="trials of the study")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("results/dashboard-benchmark"),
        help="folder of the study",
    )
    parser.add_argument("--port", type=int, default=8097, help="port of the server")
    arguments = parser.parse_args()
    store = make_study(arguments.folder, arguments.trials)
    print(
        f"{arguments.trials:,} trials, {(arguments.folder / JOURNAL).stat().st_size / 1e6:.0f} MB"
    )
    url = f"http://127.0.0.1:{arguments.port}"
    started = time.monotonic()
    command = [sys.executable, "-m", "mbsearch", "dashboard", str(arguments.folder)]
    server = subprocess.Popen([*command, "--port", str(arguments.port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(url), "the server")
        print(f"server answers after {time.monotonic() - started:.2f} s")
        with chromium(str(which("chromium")), str(which("chromedriver"))) as browser:
            browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            measure_page(browser, url, store, started, psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait()


def _above(count: Callable[[], int], before: int) -> bool:
    return count() > before


def _medians(times: Sequence[tuple[float, float]]) -> str:
    plot, texts = (statistics.median(each) for each in zip(*times, strict=True))
    return f"{plot:.2f} s, to the texts {texts:.2f} s (median of {len(times)})"


def filter_seconds(browser: Any) -> list[tuple[float, float]]:
    """Return times from a change of a filter to the plot, and to the texts."""

    def drawings() -> int:
        return int(browser.execute_script("return window.drawings.length"))

    times: list[tuple[float, float]] = []
    for states in (["complete"], []) * 5:
        drawn = drawings()
        begin = browser.execute_script(
            "window.dash_clientside.set_props({ control: 'states' }, { value: arguments[0] });"
            "return performance.now();",
            states,
        )
        wait_for(partial(_above, drawings, drawn), "the redraw")
        time.sleep(1)  # of a redraw in two steps the last counts
        ends = browser.execute_script("return [window.drawings.at(-1), window.texts.at(-1)]")
        times.append(((ends[0] - begin) / 1000, (ends[1] - begin) / 1000))
    return times


def measure_page(
    browser: Any, url: str, store: StudyStore, started: float, server: psutil.Process
) -> None:
    """Print the times of a paint, a live update, a filter and a budget step, and the idle load."""

    def js(script: str) -> Any:
        return browser.execute_script(f"return {script}")

    def changed(script: str, before: object) -> bool:
        return bool(js(script) != before)

    browser.get(url)
    wait_for(lambda: js("window.painted"), "the first paint", 120)
    print(f"study read and front painted {time.monotonic() - started:.2f} s after the start")
    paints = []
    for _ in range(5):
        browser.get(url)
        paints.append(wait_for(lambda: js("window.painted"), "the paint", 60) / 1000)
    print(f"first paint of the front: {statistics.median(paints):.2f} s (median of 5)")

    updates, rng = [], Random(len(store.records()))  # networks that the study does not have
    for _ in range(5):
        drawn, number = js("window.drawings.length"), len(store.records())
        params = SPACE.sample_params(rng)
        add(store, number, "search", SPACE.decode(params), params)
        wait_for(partial(changed, "window.drawings.length", drawn), "the update")
        time.sleep(1)
        end, texts = js("[window.drawings.at(-1), window.texts.at(-1)]")
        begin = js(f"window.polls.filter(t => t < {end}).at(-1)")
        updates.append(((end - begin) / 1000, (texts - begin) / 1000))
    print(f"live update, poll to plot: {_medians(updates)}")

    print(f"change of a filter to its plot: {_medians(filter_seconds(browser))}")

    thumb = browser.find_element(By.CSS_SELECTOR, "[role=slider]")
    steps = []
    for _ in range(9):
        before, begin = js("document.querySelector('#sentence').textContent"), time.monotonic()
        thumb.send_keys(Keys.ARROW_LEFT)
        wait_for(
            partial(changed, "document.querySelector('#sentence').textContent", before),
            "another sentence",
        )
        steps.append(time.monotonic() - begin)
    print(f"step of the budget to its sentence: {statistics.median(steps):.2f} s (median of 9)")

    def share(news: bool) -> float:
        """Return the server's share of all cores, with new trials at the rate of a search."""
        begin, started = float(sum(server.cpu_times()[:2])), time.monotonic()
        for _ in range(WATCHED_TRIALS):
            time.sleep(SECONDS_PER_TRIAL)
            if news:
                params = SPACE.sample_params(rng)
                add(store, len(store.records()), "search", SPACE.decode(params), params)
        used = float(sum(server.cpu_times()[:2])) - begin
        return used / (time.monotonic() - started) / (os.cpu_count() or 1)

    print(f"server's share of all cores with an open page and nothing new: {share(False):.1%}")
    print(f"... with a trial every {SECONDS_PER_TRIAL:g} s: {share(True):.1%}")


if __name__ == "__main__":
    main()
