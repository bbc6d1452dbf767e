"""Make the reference results: a search, its answers retrained, a report and a model card.

    python scripts/reference_results.py v2                        # 200 trials on built-in images
    python scripts/reference_results.py clothing --data PHOTOS    # from ImageNet weights
    python scripts/reference_results.py fashion                   # for a microcontroller
    python scripts/reference_results.py --page                    # only docs/results.md

The same command resumes. What is kept of a study goes to results/reference/, and all of them to
docs/results.md. Printing the report needs Chromium.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium  # the tests' browser

from mbsearch.analysis.answer import answer_row
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.findings import findings_of
from mbsearch.cost.metrics import amount
from mbsearch.study.opening import read_study
from mbsearch.study.retrained_file import read_retrained

ROOT = Path(__file__).parents[1]
KEPT, PAGE = ROOT / "results" / "reference", ROOT / "docs" / "results.md"
FILES = ("trials.csv", "front.csv", "retrain.csv", "space.yaml")
CARD = ("README.md", "architecture.yaml")
ANSWERS, REPORT = "answers.json", "report.pdf"
A4 = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}  # inches


@dataclass(frozen=True, slots=True)
class Study:
    """A search to be kept: options of `mbsearch run` and of `mbsearch retrain`.

    `photos` is whether it needs a folder of photos.
    """

    title: str
    run: tuple[str, ...]
    retrain: tuple[str, ...] = ()
    photos: bool = False

    def commands(self, name: str, data: str) -> tuple[tuple[str, ...], ...]:
        """Return the commands that make the study, without the program's name."""
        folder = f"results/{name}"
        return (
            ("run", "--data", data, *self.run, "--name", name),
            ("retrain", folder, *self.retrain),
            ("export", folder, "--int8", "-o", f"{folder}/winner"),
            ("report", folder, "-o", f"{folder}/report.html"),
        )


STUDIES = {
    "v2": Study(
        "Fashion-MNIST (built-in), 200 trials",
        ("--space", "v2", "--trials", "200"),
        ("--seeds", "1"),
    ),
    "clothing": Study(
        "Photos of clothing, from ImageNet weights", ("--budget", "20M"), photos=True
    ),
    "fashion": Study(
        "Fashion-MNIST (built-in), within RAM and flash of a Nano 33 BLE",
        ("--space", "tinyml", "--board", "nano33ble", "--trials", "60", "--finals", "15m"),
        ("--int8", "--seeds", "1"),
    ),
}


def keep(name: str) -> None:
    """Copy what is kept of a study, store its answers, and print its report as PDF."""
    study, kept = ROOT / "results" / name, KEPT / name
    kept.mkdir(parents=True, exist_ok=True)
    for source in (*(study / file for file in FILES), *(study / "winner" / file for file in CARD)):
        shutil.copy(source, kept)
    store = read_study(study)
    findings = findings_of(store.records(), store.settings(), read_retrained(study))
    found = answers(findings, findings.default_budgets)
    rows = [answer_row(each, budget) for budget, each in found.items()]
    (kept / ANSWERS).write_text(json.dumps(rows, indent=1) + "\n")
    with chromium(str(which("chromium")), str(which("chromedriver"))) as browser:
        browser.get((study / "report.html").as_uri())
        printed = browser.execute_cdp_cmd("Page.printToPDF", A4)
    (kept / REPORT).write_bytes(base64.b64decode(printed["data"]))


def page() -> str:
    """Return the page of the studies that are kept."""
    lines = [
        "# Reference results",
        "",
        "Searches that anyone can run again, each by one command: `mbsearch run`, `mbsearch",
        "retrain`, `mbsearch export` and `mbsearch report`. `results/reference/` keeps the trials,",
        "the front, the answers, the retrained networks, the model card of the first answer and",
        "the report. This page is written from there.",
    ]
    for name, study in STUDIES.items():
        if not (KEPT / name / ANSWERS).is_file():
            continue
        option = " --data PHOTOS" * study.photos
        commands = study.commands(name, "PHOTOS" if study.photos else "embedded")
        lines += ["", f"## {study.title}", "", "```sh"]
        lines += [f"python scripts/reference_results.py {name}{option}", "```", "", "runs", ""]
        lines += ["```sh", *(" ".join(("mbsearch", *words)) for words in commands), "```", ""]
        lines += [_made(name), ""]
        lines += [HEAD, "|" + "---|" * HEAD.count(" | ") + "---|"]
        rows = json.loads((KEPT / name / ANSWERS).read_text())
        lines += [_row(row) for row in rows]
        lines += ["", *(f"{row['sentence']}.\n" for row in rows)]
    return "\n".join(lines).rstrip() + "\n"


HEAD = "| budget | answer | accuracy (95 % interval) | split | over | points (95 % interval) |"


def _made(name: str) -> str:
    """Return a sentence on the trials of a kept study: date, device, versions."""
    trials = pd.read_csv(KEPT / name / "trials.csv", parse_dates=["started"])
    first = trials.dropna(subset=["device"]).iloc[0]
    versions = " and ".join(f"{k} {v}" for k, v in json.loads(first["versions"]).items())
    started = trials["started"].min()
    return (
        f"{len(trials)} networks were screened on {started.day} {started:%B %Y} by {versions}, "
        f"{first['device']}."
    )


def _row(row: dict[str, Any]) -> str:
    budget = " and ".join(amount(metric, bound) for metric, bound in row["budget"].items())
    if row["name"] is None:
        return f"| {budget} | none | | | | |"
    margins = row["margins"]
    over = "<br>".join(each["name"] for each in margins)
    points = "<br>".join(_points(each) for each in margins)
    accuracy = f"{row['accuracy']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
    return f"| {budget} | {row['name']} | {accuracy} | {row['split']} | {over} | {points} |"


def _points(margin: dict[str, Any]) -> str:
    values = [f"{100 * margin[key]:+.1f}" for key in ("difference", "low", "high")]
    return "{} ({} to {})".format(*values).replace("-", "\N{MINUS SIGN}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the studies that were named, keep their results, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument("--data", default="embedded", help="folder of photos")
    parser.add_argument("--jobs", help="trainings at a time")
    parser.add_argument("--page", action="store_true", help="only write the page")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in STUDIES:
            parser.error(f"expected one of {', '.join(STUDIES)}, got {name}")
        if STUDIES[name].photos == (given.data == "embedded"):
            needed = "a folder of photos" if STUDIES[name].photos else "no"
            parser.error(f"{name}: expected {needed} --data, got {given.data}")
        data = str(Path(given.data).resolve()) if STUDIES[name].photos else given.data
        for words in STUDIES[name].commands(name, data):
            trains = words[0] in ("run", "retrain") and given.jobs is not None
            jobs = ("--jobs", given.jobs) if trains else ()
            print("mbsearch", *words, *jobs, flush=True)
            subprocess.run([sys.executable, "-m", "mbsearch", *words, *jobs], check=True, cwd=ROOT)
        keep(name)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
