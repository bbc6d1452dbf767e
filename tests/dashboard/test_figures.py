"""Figures from records, without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dashboard.studies import AUDITED
from mbsearch.analysis.front import front_of
from mbsearch.config.families import FAMILIES, scaled_reference
from mbsearch.config.specification import read_specification
from mbsearch.cost import measure
from mbsearch.figures.audit import audit_figure
from mbsearch.figures.front import front_figure, selection_annotations
from mbsearch.figures.search import hypervolume_figure
from mbsearch.figures.style import CONTINUOUS_COLOURS, FRONT, OPTION_COLOURS, OTHER, cost_axis
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import parse_document
from mbsearch.study.artifacts import read_artifacts
from mbsearch.study.opening import read_study
from mbsearch.study.records import Evaluation, State, TrialRecord


def test_a_measured_latency_is_drawn_with_its_quartiles(studies: Path) -> None:
    records = read_study(studies / "second").records()
    found = read_artifacts(studies / "second").latencies["torch_us"]
    figure = front_figure(records, metric="torch_us", latencies=found)
    [front] = [trace for trace in figure.data if trace.name == "Pareto front"]
    assert list(front.x) == pytest.approx([2500.0 + 1000 * i for i in range(len(found))])
    assert list(front.error_x.array) == pytest.approx([1500.0] * len(found))
    assert list(front.error_x.arrayminus) == pytest.approx([500.0] * len(found))
    assert figure.layout.xaxis.ticktext[0].endswith(" ms")
    pointed = selection_annotations(records, metric="torch_us", latencies=found)
    assert [10 ** each["x"] for each in pointed] == pytest.approx(
        [found[r.fingerprint].median for r in records if r.fingerprint in found]
    )


def test_labels_of_the_two_families_lie_on_different_sides(studies: Path) -> None:
    baselines = [r for r in read_study(studies / "first").records() if r.is_baseline]
    assert {r.origin for r in baselines} == {"mobilenet_v1", "mobilenet_v2"}
    traces = front_figure(baselines).data
    sides = {trace.legendgroup: trace.textposition for trace in traces if trace.text is not None}
    assert len(set(sides.values())) == len(sides) == 2


def test_networks_without_the_colour_choice_are_drawn() -> None:
    space = read_specification(
        parse_document(
            "stem: {channels: 8}\nstages: [{block: {choices: [separable, inverted_residual]}, "
            "channels: 16, expansion: {choices: [1, 1.5, 2, 3, 4, 5, 6, 8]}}]",
            "s.yaml",
        )
    )
    evaluation = Evaluation(0.5, 1.0, 1.0, 0, Size.square(32), (), "fake", {}, "none")
    records = [
        TrialRecord(i, "search", State.COMPLETE, network, measure(network), params, evaluation)
        for i, params in enumerate(space.enumerate_params())
        for network in [space.decode(params)]
    ]
    traces = {t.name: t for t in front_figure(records, colour="stages.0.expansion").data}
    assert len(traces["without stages.0.expansion"].x) == 1
    assert len(traces["Search trials"].x) == len(set(traces["Search trials"].marker.color)) == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_references_of_every_family_are_drawn(family: str) -> None:
    evaluation = Evaluation(0.5, 1.0, 1.0, 0, Size.square(32), (), "fake", {}, "none")
    network = scaled_reference(family, 0.5, 96)
    record = TrialRecord(0, family, State.COMPLETE, network, measure(network), {}, evaluation)
    traces = [trace for trace in front_figure([record]).data if len(trace.x)]
    names = {trace.name for trace in traces}
    assert FAMILIES[family].label in names


def test_an_audit_is_drawn_with_its_intervals_and_thirds() -> None:
    everything, *thirds = audit_figure(AUDITED).data
    assert list(everything.x) == [0.75, 0.5]  # from below
    assert list(everything.error_x.array) == [0.125, 0.25]
    assert list(everything.error_x.arrayminus) == [0.25, 0.25]
    assert [list(third.x) for third in thirds] == [[0.5, 0.4], [0.6, 0.3], [0.1, 0.2]]


def test_failed_trainings_do_not_stretch_the_accuracy_axis(studies: Path) -> None:
    found = read_study(studies / "first").records()

    def drawn(accuracies: list[float]) -> Any:
        evaluations = [r.evaluation for r in found]
        assert None not in evaluations
        pairs = zip(found, evaluations, accuracies, strict=True)
        return front_figure(
            [replace(r, evaluation=replace(e, accuracy=a)) for r, e, a in pairs if e]
        ).layout.yaxis

    level = [0.6 + 0.01 * i for i in range(len(found))]
    axis = drawn(level)
    assert axis.autorangeoptions.clipmin is None
    assert axis.autorangeoptions.include > max(level), "room for labels"
    searched = [i for i, r in enumerate(found) if not r.is_baseline]
    level[max(searched, key=lambda i: found[i].mult_adds)] = 0.1
    axis = drawn(level)
    assert 0.1 < axis.autorangeoptions.clipmin < 0.6
    assert axis.title.text.endswith("; 1 network lies lower")


def test_a_second_study_is_drawn_by_the_cost_of_the_first(studies: Path) -> None:
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
def test_a_cost_axis_of_any_range_has_ticks(metric: str, low: float, high: float) -> None:
    axis = cost_axis(metric, low, high)
    ends = axis["autorangeoptions"]
    inside = [tick for tick in axis["tickvals"] if ends["clipmin"] <= tick <= ends["clipmax"]]
    assert len(inside) >= 3
    assert len(set(axis["ticktext"])) == len(axis["tickvals"]) < 12


def test_colours_of_a_trait_are_not_those_of_a_family() -> None:
    taken = [family.colour for family in FAMILIES.values()] + [FRONT, OTHER]
    scale = [colour for _, colour in CONTINUOUS_COLOURS]

    def channels(colour: Any) -> np.ndarray[Any, Any]:
        return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])

    for colour in (*OPTION_COLOURS, *scale):
        for other in taken:
            assert np.linalg.norm(channels(colour) - channels(other)) > 80, (colour, other)


def test_a_trait_fills_the_front_which_is_its_outline(studies: Path) -> None:
    records = read_study(studies / "first").records()
    for trait in ("alpha", "trial"):
        figure = front_figure(records, colour=trait)
        front = [t for t in figure.data if t.name == "Pareto front" and not t.line.color]
        drawn = [each[0] for trace in front for each in trace.customdata]
        assert drawn == [r.trial for r in front_of(records) if not r.is_baseline]
        assert {trace.marker.line.color for trace in front} == {FRONT}
        assert all(fill != FRONT for trace in front for fill in trace.marker.color)


def test_all_points_or_none_have_an_error_bar_and_the_front_is_first(studies: Path) -> None:
    records = read_study(studies / "second").records()
    latencies = read_artifacts(studies / "second").latencies["torch_us"]
    assert all(trace.error_y.array is None for trace in front_figure(records).data)
    measured = front_figure(records, metric="torch_us", latencies=latencies)
    drawn = [t for t in measured.data if len(t.x) and t.name != "Within noise of the front"]
    assert all(len(trace.error_x.array) == len(trace.x) for trace in drawn)
    ranked = sorted(front_figure(records).data, key=lambda trace: trace.legendrank)
    names = list(dict.fromkeys(trace.name for trace in ranked))
    assert names[:4] == ["Pareto front", "MobileNet V1", "MobileNet V2", "Search trials"]


def test_labels_of_references_name_their_family(studies: Path) -> None:
    records = read_study(studies / "first").records()
    texts = [text for trace in front_figure(records).data for text in trace.text or ()]
    assert {text.split(" ")[0] for text in texts} == {"V1", "V2"}


def test_a_figure_without_texts_for_the_pointer_has_less_than_half_the_bytes(studies: Path) -> None:
    records = read_study(studies / "first").records()
    many = [replace(r, trial=100 * i + r.trial) for r in records for i in range(40)]
    with_texts, without = front_figure(many), front_figure(many, hover=False)
    for one, other in zip(with_texts.data, without.data, strict=True):
        assert [row[0] for row in one.customdata] == [row[0] for row in other.customdata]
    assert len(without.to_json()) < 0.5 * len(with_texts.to_json())
