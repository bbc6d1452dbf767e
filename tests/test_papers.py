"""The papers' experiments: their spaces, and the pages of those that have been run."""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from statistics import fmean

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import papers

from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.search.grid import GridSampler, adapted
from mbsearch.space.layers import Conv
from mbsearch.space.library import load_reference, paper_names, papers_folder

ROOT = Path(__file__).parents[1]
OTHERS = {"relu6_int8"}  # of benchmarks/int8.py, tested in test_int8_page.py
PAGES = sorted({path.stem for path in (ROOT / "docs" / "papers").glob("*_*.md")} - OTHERS)


@pytest.mark.parametrize("name", paper_names())
def test_a_space_is_a_small_grid_under_its_own_name(name: str) -> None:
    space = load_specification(name)
    assert space.name == name
    assert space.size <= 12
    assert adapted(space, "grid").settings.racing.rungs == ()
    networks = {space.decode(params).fingerprint for params in space.enumerate_params()}
    assert len(networks) == space.size, "every encoding is a network of its own"
    assert GridSampler(list(space.enumerate_params()))


def test_networks_of_v2_figure_6_differ_in_shortcuts_and_activations_alone() -> None:
    space = load_specification("v2_figure_6")
    networks = [space.decode({"stages": i}) for i in range(4)]
    layers = [
        [
            (layer.kernel, layer.stride, layer.depthwise, placed.in_shape, placed.out_shape)
            for placed in network.layers()
            if isinstance(layer := placed.layer, Conv)
        ]
        for network in networks
    ]
    assert layers[1:] == layers[:1] * 3
    published = load_reference("mobilenet_v2").replace(alpha=0.5, resolution=128)
    costs = measure(published)
    # The head has as many channels at every alpha below 1.
    assert all(measure(each) == costs for each in networks[:2])
    shortcuts = [sum(p.added is not None for p in network.layers()) for network in networks]
    assert shortcuts == [10, 10, 0, 10]


@pytest.mark.parametrize(
    ("name", "within"), [("residual_bottlenecks", 0.03), ("v1_narrow_shallow", 0.09)]
)
def test_networks_that_are_compared_at_equal_cost_are_within_some_percent(
    name: str, within: float
) -> None:
    """The paper's narrow network has 6 % more Mult-Adds than its shallow one."""
    space = load_specification(name).with_classes(10)
    one, other = (measure(space.decode({"stages": i})) for i in (0, 1))
    for metric in ("mult_adds", "params"):
        assert one[metric] == pytest.approx(other[metric], rel=within), metric


def test_every_file_of_the_papers_folder_is_listed() -> None:
    assert {path.stem for path in papers_folder().iterdir()} == set(paper_names())


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_a_page_are_those_of_the_stored_results(name: str) -> None:
    text = (ROOT / "docs" / "papers" / f"{name}.md").read_text()
    written = text.partition(papers.BEGIN)[2].partition(papers.END)[0]
    assert written == papers.tables(papers.PAGES[name])


@pytest.mark.parametrize("name", PAGES)
def test_the_accuracies_of_a_page_are_the_means_of_the_stored_seeds(name: str) -> None:
    """Read independently of the script that writes the page."""
    text = (ROOT / "docs" / "papers" / f"{name}.md").read_text()
    shown = re.findall(r"\| (0\.\d{3}) \((0\.\d{3}) to (0\.\d{3})\) \|", text)
    stored = []
    for space in papers.PAGES[name].spaces:
        with (ROOT / "results" / "papers" / f"{space}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == load_specification(space).size
        for row in rows:
            seeds = [float(each) for each in row["accuracies"].split()]
            assert len(seeds) == 3
            assert fmean(seeds) == pytest.approx(float(row["accuracy"]), abs=1e-6)
            stored.append(f"{float(row['accuracy']):.3f}")
    assert sorted(mean for mean, _, _ in shown) == sorted(stored)
    assert all(low < mean < high for mean, low, high in shown)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_its_plot_and_is_in_the_index(name: str) -> None:
    text = (ROOT / "docs" / "papers" / f"{name}.md").read_text()
    assert f"]({name}.svg)" in text
    assert (ROOT / "docs" / "papers" / f"{name}.svg").read_text().startswith("<svg")
    assert "](index.md)" in text  # it has the command
    assert f"({name}.md)" in (ROOT / "docs" / "papers" / "index.md").read_text()


def test_a_separable_layer_costs_1_over_n_plus_1_over_9_of_a_standard_one() -> None:
    rows = re.findall(r"\| (\d+) \| (0\.\d{4}) \| (0\.\d{4}) \|", papers.separable_ratios())
    assert len(rows) == 5
    for channels, ratio, formula in rows:
        assert ratio == formula == f"{1 / int(channels) + 1 / 9:.4f}"
