"""Measure the answers of pretrained searches on test images.

    python benchmarks/pretrained.py --clothing FOLDER --cifar10 FOLDER

For each data set and search: `mbsearch run`, then `mbsearch retrain`, both with their defaults, so
networks inherit EfficientNet-Lite0's weights. The answers are compared with the strongest
references: the fine-tuned donor, and MobileNetV2 with inherited weights. Completed cells are kept
in --rows; an interrupted search resumes. At the end it writes docs/experiments/pretrained.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from wins import CIFAR_PER_CLASS, CIFAR_SEED, HERE, DataSet, drawn_part

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.findings import findings_of
from mbsearch.config.budgets import Budget
from mbsearch.study.opening import read_study
from mbsearch.study.retrained_file import read_retrained

ROWS = HERE.parent / "results" / "pretrained"
PAGE = HERE.parent / "docs" / "experiments" / "pretrained.md"
MARGINS = {
    "efficientnet_lite0": "EfficientNet-Lite0, fine-tuned",
    "mobilenet_v2": "MobileNetV2, inherited",
    "mobilenet_v3_small": "MobileNetV3-small, from scratch",
    "mobilenet_v1": "MobileNetV1, from scratch",
}
_STRONGEST = ("EfficientNet-Lite0 ", "MobileNetV2 ")


@dataclass(frozen=True)
class Cell:
    """The answer to one budget of one search after retraining, and its margins by family."""

    data: str
    budget: str
    search: int
    weights: str
    answer: str
    mult_adds: int
    accuracy: float
    margins: dict[str, dict[str, Any]]
    search_seconds: float
    retrain_seconds: float
    sentence: str


def cells(args: argparse.Namespace, data: DataSet, seed: int) -> list[Cell]:
    """Run one search, retrain its answers, and return a cell per budget."""
    name = f"{data.name}-{args.weights}-{seed}"
    folder = args.work / name
    mbsearch = [sys.executable, "-m", "mbsearch"]
    bounds = [part for budget in data.budgets for part in ("--budget", budget)]
    run = [*mbsearch, "run", "--data", data.path, "--results", str(args.work), "--name", name]
    run += ["--seed", str(seed), "--trials", str(args.trials), "--weights", args.weights]
    retrain = [*mbsearch, "retrain", str(folder), "--seeds", str(args.seeds)]
    retrain += ["--epochs", str(args.epochs)]
    jobs = ["--jobs", str(args.jobs)]
    seconds = []
    for command in ([*run, *bounds], [*retrain, *bounds]):
        started = time.monotonic()
        print(" ".join([*command, *jobs]), flush=True)
        subprocess.run([*command, *jobs], check=True)
        seconds.append(time.monotonic() - started)
    study = read_study(folder)
    findings = findings_of(study.records(), study.settings(), read_retrained(folder))
    found = []
    search_seconds, retrain_seconds = seconds
    for budget in data.budgets:
        best: Answer = answer(findings, Budget.model_validate({"mult_adds": budget}))
        margins: dict[str, dict[str, Any]] = {}
        for margin in best.margins:
            margins.setdefault(margin.other.record.origin, margin.to_dict())
        found.append(
            Cell(
                data.name,
                budget,
                seed,
                args.weights,
                best.name,
                best.record.mult_adds,
                best.best.accuracy.mean,
                margins,
                search_seconds,
                retrain_seconds,
                best.sentence(),
            )
        )
    return found


def read_cells(rows: Path) -> list[Cell]:
    """Return the completed cells of a folder."""
    files = sorted(rows.glob("*.json"))
    return [Cell(**row) for path in files for row in json.loads(path.read_text())]


def markdown(found: Sequence[Cell]) -> str:
    """Return the page with a table of the cells."""
    lines = [
        "# Answers of pretrained searches on test images",
        "",
        "`python benchmarks/pretrained.py` runs `mbsearch run`, then `mbsearch retrain`; its",
        "options stand in [the result](../pretrained.md#result-on-photos). Accuracies are of test",
        "images after retraining. Margins are in points over the strongest reference of each",
        "family at the same budget, with their 95 % intervals (paired, over images and seeds). Of",
        "the searched network and the references retrained beside it, the answer is the most",
        "accurate one on these images. Means treat cells as independent.",
        "",
        f"| cell | start | answer | accuracy | {' | '.join(MARGINS.values())} | search, min |",
        "|---|---|---|---|" + "---|" * (len(MARGINS) + 1),
    ]
    for cell in found:
        margins = [_margin(cell.margins.get(family)) for family in MARGINS]
        lines.append(
            f"| {cell.data}, {cell.budget}, search {cell.search} | {cell.weights} "
            f"| {cell.answer} ({cell.mult_adds / 1e6:.1f} M) | {cell.accuracy:.3f} "
            f"| {' | '.join(margins)} | {cell.search_seconds / 60:.0f} |"
        )
    for family, title in MARGINS.items():
        known = [cell.margins[family] for cell in found if family in cell.margins]
        lines += _pooled(f"over {title}, where it is not the answer", known)
    lines += _pooled(
        "over the stronger of the fine-tuned donor and the inherited MobileNetV2 (0 where one of "
        "them is the answer)",
        [margin for cell in found if (margin := _over_the_stronger(cell)) is not None],
    )
    return "\n".join(lines) + "\n"


def _over_the_stronger(cell: Cell) -> dict[str, Any] | None:
    """Return the smaller of a cell's margins over donor and MobileNetV2; None without any."""
    if cell.answer.startswith(_STRONGEST):
        return {"difference": 0.0, "low": 0.0, "high": 0.0}
    found = [cell.margins[each] for each in (cell.weights, "mobilenet_v2") if each in cell.margins]
    return min(found, key=lambda margin: margin["difference"], default=None)


def _pooled(over: str, margins: Sequence[dict[str, Any]]) -> list[str]:
    """Return a paragraph about the mean of independent margins, with its 95 % interval."""
    if not margins:
        return []
    mean = 100 * fmean(margin["difference"] for margin in margins)
    half = 50 * sum((m["high"] - m["low"]) ** 2 for m in margins) ** 0.5 / len(margins)
    interval = f"{mean - half:+.1f} to {mean + half:+.1f}"
    count = f"{len(margins)} cell{'s' * (len(margins) > 1)}"
    return ["", f"Mean margin {over}, {count}: {mean:+.1f} points ({interval})."]


def _margin(margin: dict[str, Any] | None) -> str:
    if margin is None:
        return ""
    values = [f"{100 * margin[key]:+.1f}" for key in ("difference", "low", "high")]
    return f"{margin['name']}: {values[0]} ({values[1]} to {values[2]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clothing", type=Path, help="folder of clothing-dataset-small, shorter side 160 px"
    )
    parser.add_argument("--cifar10", type=Path, help="CIFAR-10 as a folder of train and test")
    parser.add_argument("--budgets", nargs="*", default=["5M", "10M", "20M", "50M"])
    parser.add_argument("--weights", default="efficientnet_lite0", help="donor, or none")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--searches", type=int, default=2, help="searches per data set")
    parser.add_argument("--seeds", type=int, default=3, help="retrainings per network")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a retraining")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--work", type=Path, default=Path("results/pretrained-work"))
    args = parser.parse_args()
    sets = []
    if args.clothing is not None:
        sets.append(DataSet("clothing", str(args.clothing), tuple(args.budgets)))
    if args.cifar10 is not None:
        drawn = drawn_part(args.cifar10, args.work / "cifar10", CIFAR_PER_CLASS, CIFAR_SEED)
        sets.append(DataSet("cifar10", str(drawn), tuple(args.budgets)))
    args.rows.mkdir(parents=True, exist_ok=True)
    for seed in range(args.searches):
        for data in sets:
            path = args.rows / f"{data.name}-{args.weights}-{seed}.json"
            if not path.exists():
                rows = [asdict(cell) for cell in cells(args, data, seed)]
                path.write_text(json.dumps(rows, indent=1) + "\n")
    PAGE.write_text(markdown(read_cells(args.rows)))


if __name__ == "__main__":
    main()
