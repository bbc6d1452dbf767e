"""Comparison of up to four networks: defaults, table, common scale, colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mbsearch.config.families import FAMILIES, scaled_reference
from mbsearch.cost import measure
from mbsearch.dashboard.pages.compare import compared
from mbsearch.dashboard.studies import Snapshot
from mbsearch.dashboard.view import View
from mbsearch.figures.comparison import compared_facts, comparison_head, comparison_rows
from mbsearch.figures.network import curve_figure
from mbsearch.figures.stages import drawing, stage_rows
from mbsearch.study.artifacts import read_artifacts
from mbsearch.study.opening import read_study
from mbsearch.study.records import State, TrialRecord


def study(studies: Path, name: str = "first", **settings: object) -> Snapshot:
    folder = studies / name
    records = tuple(read_study(folder).records())
    return Snapshot(name, name, folder, 0, records, settings, read_artifacts(folder))


def test_the_address_holds_up_to_three_others(studies: Path) -> None:
    snapshot = study(studies)
    trials = [r.trial for r in snapshot.records][:5]
    fields = {"trial": str(trials[0]), "other": ",".join(map(str, trials[1:]))}
    assert View.parse(fields).others == tuple(trials[1:])
    assert [r.trial for r in compared(snapshot, fields)] == trials[:4]


def test_it_opens_on_networks_within_the_budget(studies: Path) -> None:
    costs = sorted(r.cost for r in study(studies).records if r.is_baseline)
    bound = costs[len(costs) // 2]
    snapshot = study(studies, budgets=[{"mult_adds": bound}])
    networks = compared(snapshot, {})
    assert len(networks) > 1
    assert all(r.cost <= bound for r in networks)


def test_a_row_has_difference_and_ratio_to_the_first_network(studies: Path) -> None:
    first, second, third, *_ = study(studies).records
    networks = [first, second, third]
    facts = compared_facts(networks, read_artifacts(studies / "first"))
    rows = {row[0]: row for row in comparison_rows(facts, equal=True)}
    assert {len(row) for row in rows.values()} == {len(comparison_head(networks))} == {8}
    cells = rows["Mult-Adds of one image"]
    assert cells[4] == f"{second.mult_adds / first.mult_adds:.2f} x"
    assert cells[7] == f"{third.mult_adds / first.mult_adds:.2f} x"
    points = 100 * (second.accuracy - first.accuracy)
    assert rows["accuracy, screening"][3] == f"{points:+.1f} points"
    different = comparison_rows(facts, equal=False)
    assert 0 < len(different) < len(rows)


def test_a_pruned_accuracy_has_no_difference(studies: Path) -> None:
    first, second, *_ = study(studies).records
    facts = compared_facts([first, replace(second, state=State.PRUNED)], read_artifacts(studies))
    (row,) = (row for row in comparison_rows(facts, equal=True) if row[0].startswith("accuracy"))
    assert row[2].endswith("(pruned)")
    assert row[3:] == ["", ""]


def test_latency_and_retraining_are_compared(studies: Path) -> None:
    snapshot = study(studies, "second")
    measured = {each.fingerprint for each in snapshot.measured.retrained}
    known = next(r for r in snapshot.records if r.fingerprint in measured)
    other = next(r for r in snapshot.records if r.fingerprint not in measured)
    rows = {fact.name: fact.texts for fact in compared_facts([known, other], snapshot.measured)}
    assert rows["test accuracy after retraining"] == ("0.9120 ± 0.0042", "not retrained")
    assert rows["Latency by torch"][0].endswith(" ms")


def test_a_family_keeps_its_colour(studies: Path) -> None:
    records = study(studies).records
    references = {r.origin: r for r in records if r.is_baseline}
    candidate = next(r for r in records if not r.is_baseline)
    networks: list[TrialRecord] = [*references.values(), candidate]
    colours = {trace.name: trace.line.color for trace in curve_figure(networks, records).data}
    for origin, record in references.items():
        (colour,) = (c for name, c in colours.items() if name.startswith(record.label))
        assert colour == FAMILIES[origin].colour
    assert len(set(colours.values())) == len(networks)


@pytest.mark.parametrize("family", ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small"])
def test_the_shares_of_the_stages_sum_to_the_whole(family: str) -> None:
    network = scaled_reference(family, 0.5, 96)
    rows = stage_rows(network)
    assert sum(row.mult_adds for row in rows) == pytest.approx(1)
    assert sum(row.params for row in rows) == pytest.approx(1)
    assert sum(row.skips for stage in rows for row in stage.blocks) == sum(
        block.shortcut is not None for stage in network.lower().stages for block in stage
    )
    assert measure(network)["mult_adds"] > 0


def test_drawings_side_by_side_have_one_scale() -> None:
    small, large = (scaled_reference("mobilenet_v2", alpha, 96) for alpha in (0.35, 1.4))
    alone = drawing(small).layout.xaxis.range
    beside = drawing(small, [small, large]).layout.xaxis.range
    assert beside == drawing(large, [small, large]).layout.xaxis.range
    assert beside[1] > alone[1]
