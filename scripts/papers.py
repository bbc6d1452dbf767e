"""Run an experiment of a paper as a grid, and write its results, its page's tables and its plot.

    python scripts/papers.py v1_separable          # 3 seeds; the same command resumes
    python scripts/papers.py v1_separable --page   # from the stored results, without training

The results are in results/papers/, the pages in docs/papers/. The plot needs Chromium.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from urllib.parse import unquote

import plotly.graph_objects as go

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium  # the tests' browser

import mbsearch as mb
from mbsearch.analysis.repeated_trainings import Trainings, pooled_seed_deviation_of
from mbsearch.config.specification import load_specification
from mbsearch.cost import layer_costs
from mbsearch.cost.units import millions
from mbsearch.figures.style import cost_axis, styled
from mbsearch.space.library import papers_folder
from mbsearch.space.size import Size
from mbsearch.study_run import SEEDS

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "results" / "papers", ROOT / "docs" / "papers"
BEGIN, END = "<!-- results: written by scripts/papers.py -->\n", "<!-- end of results -->\n"
SIZE = {"width": 720, "height": 440}
COLOURS = ("#0B84CC", "#D55E00", "#009E73", "#5B4BC4")  # visible on white


@dataclass(frozen=True, slots=True)
class Network:
    """A row of stored results: one network with its trainings."""

    space: str
    alpha: float
    resolution: int
    choices: dict[str, str]
    mult_adds: int
    params: int
    peak_activation_bytes: int
    trainings: Trainings


@dataclass(frozen=True, slots=True)
class Page:
    """An experiment: its spaces, the series of each network, and the pairs that are compared.

    A network's name is its series with alpha and resolution, or the series alone if it is not
    `sized`: then all networks have about the same Mult-Adds. `more` returns further tables.
    """

    spaces: tuple[str, ...]
    series: Callable[[Network], str]
    compared: tuple[tuple[str, str], ...]
    more: Callable[[], str] = lambda: ""
    sized: bool = True

    def name(self, network: Network) -> str:
        """Return the name of a network in tables."""
        size = f" {network.alpha:g}/{network.resolution}" if self.sized else ""
        return self.series(network) + size


def stages(*names: str) -> Callable[[Network], str]:
    """Return the function from a network to the name of its option of ``stages``."""
    return lambda network: names[int(network.choices["stages"])]


def separable_ratios() -> str:
    """Return a table of the Mult-Adds of depthwise separable layers over those of standard ones."""
    space = load_specification("v1_separable")
    standard, separable = (
        [c for c in layer_costs(space.decode({"alpha": 0.5, "stages": i})) if "stages" in c.name]
        for i in (0, 1)
    )
    pairs = zip(standard, separable[::2], separable[1::2], strict=True)
    ratios = {
        one.out_shape[0]: (depthwise.mult_adds + pointwise.mult_adds) / one.mult_adds
        for one, depthwise, pointwise in pairs
    }
    lines = ["", "| output channels N at alpha 0.5 | ratio of a layer's Mult-Adds | 1/N + 1/9 |"]
    lines += ["|---|---|---|"]
    lines += [f"| {n} | {ratio:.4f} | {1 / n + 1 / 9:.4f} |" for n, ratio in ratios.items()]
    return "\n".join(lines) + "\n"


FIGURE_6 = ("published V2", "ReLU6 bottleneck", "no shortcuts", "shortcuts between expansions")
PAGES = {
    "v1_separable": Page(
        ("v1_separable",),
        stages("standard", "depthwise separable", "spatially separable"),
        (
            ("depthwise separable 0.25/128", "standard 0.25/128"),
            ("depthwise separable 0.5/128", "standard 0.5/128"),
            ("depthwise separable 0.25/128", "spatially separable 0.25/128"),
            ("depthwise separable 0.5/128", "spatially separable 0.5/128"),
            ("depthwise separable 0.5/128", "standard 0.25/128"),
        ),
        separable_ratios,
    ),
    "v1_narrow_shallow": Page(
        ("v1_narrow_shallow",),
        stages("narrow", "shallow"),
        (("narrow", "shallow"),),
        sized=False,
    ),
    "v1_alpha_resolution": Page(
        ("v1_alpha_resolution",),
        lambda _: "MobileNetV1",
        (
            ("MobileNetV1 0.75/128", "MobileNetV1 0.5/128"),
            ("MobileNetV1 0.5/128", "MobileNetV1 0.25/128"),
            ("MobileNetV1 0.75/128", "MobileNetV1 0.75/64"),
            ("MobileNetV1 0.25/128", "MobileNetV1 0.5/64"),
        ),
    ),
    "v2_figure_6": Page(
        ("v2_figure_6",),
        stages(*FIGURE_6),
        tuple((FIGURE_6[0], other) for other in FIGURE_6[1:]),
        sized=False,
    ),
    "v2_alpha_resolution": Page(
        ("v1_alpha_resolution", "v2_alpha_resolution"),
        lambda network: f"MobileNet{network.space[:2].upper()}",
        (
            ("MobileNetV2 0.5/128", "MobileNetV1 0.5/128"),
            ("MobileNetV2 0.75/128", "MobileNetV1 0.75/128"),
            ("MobileNetV2 0.35/128", "MobileNetV1 0.75/64"),
            ("MobileNetV2 0.75/64", "MobileNetV1 0.5/64"),
        ),
    ),
    "residual_bottlenecks": Page(
        ("residual_bottlenecks",),
        stages("inverted residual", "ResNet bottleneck"),
        (("inverted residual", "ResNet bottleneck"),),
        sized=False,
    ),
}


def networks(space: str) -> list[Network]:
    """Return the stored results of a space, sorted by Mult-Adds."""
    with (RESULTS / f"{space}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [
        Network(
            space,
            float(row["alpha"]),
            int(row["resolution"]),
            {key.removeprefix("choice "): v for key, v in row.items() if key.startswith("choice ")},
            int(row["mult_adds"]),
            int(row["params"]),
            int(row["peak_activation_bytes"]),
            Trainings(
                [float(each) for each in row["accuracies"].split()],
                [],
                Size.read(row["pixels"]),
                int(row["images"]),
            ),
        )
        for row in rows
    ]
    return sorted(found, key=lambda network: network.mult_adds)


def tables(page: Page) -> str:
    """Return the page's tables in Markdown: the networks, and the differences of the pairs."""
    rows = [network for space in page.spaces for network in networks(space)]
    deviation = pooled_seed_deviation_of([row.trainings for row in rows])
    lines = ["| network | Mult-Adds | parameters | peak memory | accuracy (95 % interval) |"]
    lines += ["|---|---|---|---|---|"]
    for row in sorted(rows, key=page.series):
        accuracy = row.trainings.accuracy(deviation)
        lines.append(
            f"| {page.name(row)} | {millions(row.mult_adds)} | {millions(row.params)} | "
            f"{row.peak_activation_bytes / 1024:,.0f} KiB | "
            f"{accuracy.mean:.3f} ({accuracy.low:.3f} to {accuracy.high:.3f}) |"
        )
    lines += ["", "| difference | points (95 % interval) | Mult-Adds | |", "|---|---|---|---|"]
    by_name = {page.name(row): row for row in rows}
    for one, other in page.compared:
        first, second = by_name[one], by_name[other]
        margin = first.trainings.margin(second.trainings, deviation)
        lines.append(
            f"| {one} − {other} | {100 * margin.mean:+.1f} ({100 * margin.low:+.1f} to "  # noqa: RUF001
            f"{100 * margin.high:+.1f}) | {first.mult_adds / second.mult_adds:.3f} × | "  # noqa: RUF001
            f"{'significant' if margin.significant else 'not significant'} |"
        )
    return "\n".join(lines) + "\n" + page.more()


def figure(page: Page) -> go.Figure:
    """Return the plot of accuracy with 95 % intervals, one colour a series.

    The horizontal axis is Mult-Adds, or the series if the networks are not sized.
    """
    rows = [network for space in page.spaces for network in networks(space)]
    deviation = pooled_seed_deviation_of([row.trainings for row in rows])
    plot = go.Figure()
    for i, series in enumerate(sorted(set(map(page.series, rows)))):
        members = [row for row in rows if page.series(row) == series]
        accuracies = [row.trainings.accuracy(deviation) for row in members]
        plot.add_trace(
            go.Scatter(
                x=[row.mult_adds if page.sized else series for row in members],
                y=[each.mean for each in accuracies],
                error_y={
                    "array": [each.high - each.mean for each in accuracies],
                    "arrayminus": [each.mean - each.low for each in accuracies],
                },
                name=series,
                mode="markers+text" if page.sized else "markers",
                text=[f"{row.alpha:g}/{row.resolution}" for row in members],
                textposition="bottom right",
                textfont={"size": 10},
                marker={"color": COLOURS[i]},
            )
        )
    costs = [row.mult_adds for row in rows]
    return styled(
        plot,
        xaxis=cost_axis("mult_adds", min(costs), max(costs)) if page.sized else {},
        yaxis={"title": {"text": "Validation accuracy (3 seeds, 95 % interval)"}},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        showlegend=page.sized,
        **SIZE,
    )


def write_plot(plot: go.Figure, path: Path) -> None:
    """Write a plot as SVG, drawn by Chromium."""
    with chromium(str(which("chromium")), str(which("chromedriver"))) as browser:
        page = path.with_suffix(".html")
        page.write_text(plot.to_html(div_id="plot"))
        browser.get(page.resolve().as_uri())
        page.unlink()
        data = browser.execute_async_script(
            "Plotly.toImage('plot', arguments[0]).then(arguments[1])", {"format": "svg", **SIZE}
        )
    path.write_text(unquote(data.partition(",")[2]) + "\n")


def write_page(name: str) -> None:
    """Write the tables of a page between its marks, and its plot beside it."""
    path = DOCS / f"{name}.md"
    before, _, rest = path.read_text().partition(BEGIN)
    path.write_text(before + BEGIN + tables(PAGES[name]) + END + rest.partition(END)[2])
    write_plot(figure(PAGES[name]), path.with_suffix(".svg"))


def run(name: str, jobs: int) -> None:
    """Run the grid of a space with 3 seeds, and store its results."""
    folder = ROOT / "results" / name
    space = load_specification(papers_folder() / f"{name}.yaml")
    mb.run(space, trials=None, folder=folder, sampler="grid", seeds=3, jobs=jobs)
    shutil.copy(folder / SEEDS, RESULTS / f"{name}.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the experiments that were named, and write their pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(PAGES), metavar="NAME")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default 1)")
    given = parser.parse_args(arguments)
    for name in given.names:
        if not given.page:
            for space in PAGES[name].spaces:
                run(space, given.jobs)
        write_page(name)


if __name__ == "__main__":
    main()
