"""The answer to a budget: what it is chosen from, what it says, and that all places agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from answer_records import IMAGES, evaluation, network, reference
from fake_search import search
from shown_text import html_text, page_text

from mbsearch.analysis.answer import Answer, answer_text
from mbsearch.analysis.answer_selection import answer, answers, cheapest_tied
from mbsearch.analysis.fidelity_levels import RETRAINING
from mbsearch.analysis.findings import Findings, findings_of
from mbsearch.analysis.intervals import TIED_WITHIN
from mbsearch.analysis.reference_families import best_references
from mbsearch.cli import main
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.specification import load
from mbsearch.cost import measure
from mbsearch.dashboard.pages import front
from mbsearch.dashboard.pages.front import card
from mbsearch.dashboard.pages.network import chosen
from mbsearch.dashboard.studies import Library, ResultsFolder, Snapshot
from mbsearch.dashboard.view import View
from mbsearch.errors import NoAnswerError, StorageError
from mbsearch.report.html import document
from mbsearch.report.result_files import write_results
from mbsearch.retraining.selection import Selection, select
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.artifacts import Artifacts
from mbsearch.study.records import UNTRIED, State, TrialRecord
from mbsearch.study.retrained_file import Retrained

BUDGET = Budget(mult_adds=20_000_000)


def finalist(
    record: TrialRecord, accuracy: float, *, kept: bool = True, seeds: int = 2
) -> TrialRecord:
    finals = tuple(evaluation(accuracy, seed, kept=kept, pixels=96) for seed in range(seeds))
    return replace(record, finals=finals)


def retrained(record: TrialRecord, accuracies: Sequence[float], *, kept: bool = True) -> Retrained:
    trained = [evaluation(a, seed, kept=kept) for seed, a in enumerate(accuracies)]
    return Retrained(
        name=record.label,
        family=record.origin,
        fingerprint=record.fingerprint,
        alpha=record.architecture.alpha,
        resolution=record.architecture.resolution,
        costs=measure(record.architecture) | dict(record.costs),
        proxy_accuracy=record.accuracy,
        seeds=tuple(range(len(accuracies))),
        accuracies=tuple(accuracies),
        pixels=Size.square(24),
        seconds=1.0,
        architecture=record.architecture,
        images=IMAGES,
        predictions=tuple(e.predictions for e in trained if e.predictions is not None),
    )


def test_the_most_accurate_within_every_bound_is_the_answer() -> None:
    records = [network(1, 0.80, 10**7), network(2, 0.85, 2 * 10**7), network(3, 0.9, 3 * 10**7)]
    assert answer(Findings(records), BUDGET).record.trial == 2
    both = Budget(mult_adds=20_000_000, params=150_000)
    assert answer(Findings(records), both).record.trial == 1
    with pytest.raises(NoAnswerError, match=r"^At 5 M Mult-Adds: no trained .*, trial 1, has 10 M"):
        answer(Findings(records), Budget(mult_adds=5_000_000))
    with pytest.raises(StorageError, match="expected a study that knows latency"):
        answer(Findings(records), Budget.model_validate({"latency": "5ms"}))
    with pytest.raises(NoAnswerError, match="no network is trained yet"):
        answer(Findings([]), BUDGET)


def test_limits_apply_to_references_and_the_largest_budget_to_what_is_shown() -> None:
    records = [network(1, 0.80, 10**7), reference(2, 0.95, 3 * 10**7), network(3, 0.9, 5 * 10**7)]
    limited = Findings(records, limits=Limits(mult_adds=20_000_000))
    assert [r.trial for r in limited.within] == [1]
    assert answer(limited, Budget(mult_adds=10**9)).record.trial == 1
    assert limited.default_budgets == (Budget(mult_adds=20_000_000),)
    budgets = (Budget(mult_adds=10**7), Budget(mult_adds=4 * 10**7))
    asked = Findings(records, budgets=budgets)
    assert [r.trial for r in asked.within] == [1, 2]
    assert (asked.default_budgets, asked.main_budget) == (budgets, budgets[0])
    kept = {
        "stamp": {"limits": Limits(params=9 * 10**5).model_dump(mode="json")},
        "budgets": [b.model_dump(mode="json") for b in budgets],
    }
    assert findings_of(records, kept).budgets == budgets
    assert findings_of(records, kept).limits == Limits(params=9 * 10**5)


def test_default_budgets_are_round_amounts_between_the_references() -> None:
    records = [reference(i, 0.8, cost) for i, cost in enumerate((3 * 10**6, 6 * 10**7))]
    records.append(network(9, 0.9, 10**9))
    asked = [budget.bounds()["mult_adds"] for budget in Findings(records).default_budgets]
    assert asked == [5 * 10**6, 10**7, 2 * 10**7, 5 * 10**7]
    assert Findings([]).default_budgets == ()
    assert findings_of(records, {}).main_budget == Budget(mult_adds=10**7), (
        "nearest to 13.4 M, the middle of 3 M and 60 M on a logarithmic scale"
    )
    assert Findings([]).main_budget is None


def test_the_sentence_names_cost_accuracy_basis_and_margins() -> None:
    records = [
        network(43, 0.75, 12_200_000),
        reference(1, 0.70, 12_600_000, 0.35, 128),
        reference(2, 0.72, 15_700_000, 0.17, 160),
        reference(3, 0.60, 15_000_000, 0.3, 112, "mobilenet_v1"),
    ]
    found = answer(Findings(records), BUDGET)
    text = found.sentence()
    assert text.startswith(
        "At 20 M Mult-Adds: use trial 43, 12.2 M Mult-Adds, validation accuracy 0.750 "
        "(95 % interval 0.740 to 0.760, screening, trained at 24 px instead of its own 96); "
    )
    strongest = "+3.0 points over MobileNetV2 0.17/160 at 0.78 times the cost (15.7 M, 0.720; 95 % "
    assert f"; {strongest}interval +1.6 to" in text
    published = "+5.0 points over MobileNetV2 0.35/128 at 0.97 times the cost (12.6 M, 0.700; "
    assert published in text
    assert "MobileNetV1 0.3/112" in text
    flags = [(m.other.record.trial, m.published) for m in found.margins]
    assert flags == [(2, False), (1, True), (3, True)]
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["trial"], data["basis"], data["split"]) == (43, "screening", "validation")
    assert data["budget"] == {"mult_adds": 20_000_000}
    assert [m["name"] for m in data["margins"]][:2] == [
        "MobileNetV2 0.17/160",
        "MobileNetV2 0.35/128",
    ]
    assert data["sentence"] == text


@pytest.mark.parametrize("accuracy", [0.0, 0.003, 0.5, 0.999, 1.0])
def test_intervals_stay_inside_the_unit_range(accuracy: float) -> None:
    for noise in (0.3, None):
        best = answer(Findings([network(1, accuracy, 10**7, accuracy_noise=noise)]), BUDGET).best
        assert 0 <= best.accuracy.low <= accuracy <= best.accuracy.high <= 1


def test_a_reference_may_be_the_answer() -> None:
    records = [network(1, 0.75, 10**7), reference(2, 0.80, 15_700_000, 0.17, 160)]
    found = answer(Findings(records), BUDGET)
    assert found.name == "MobileNetV2 0.17/160"
    assert "no searched network is better: +5.0 points over trial 1 at 1.57 times the cost (" in (
        found.sentence()
    )


def test_the_most_accurate_larger_reference_that_the_answer_equals_is_named() -> None:
    """It may lie outside the budget; another one that a smaller reference exceeds is not named."""
    ours, large = network(1, 0.80, 10**7), reference(2, 0.803, 3 * 10**7, 0.35, 192)
    weak, stronger = reference(3, 0.79, 4 * 10**7, 0.5, 160), reference(4, 0.85, 6 * 10**7, 0.5)
    records = [replace(r, accuracy_noise=0.001) for r in (ours, large, weak, stronger)]
    found = answer(Findings(records), BUDGET)
    assert found.equalled is not None
    assert found.equalled.other.record.trial == 2
    assert found.sentence().endswith(
        "as accurate as MobileNetV2 0.35/192 (30 M, 0.803) within 1 point at 0.33 times the cost"
    )
    assert found.to_dict()["equalled"]["cost_ratio"] == pytest.approx(1 / 3)
    noisy = [replace(r, accuracy_noise=0.01) for r in records]
    assert answer(Findings(noisy), BUDGET).equalled is None
    limited = Findings(records, budgets=(BUDGET,))
    assert answer(limited, BUDGET).equalled is None, "it is not within the study's budget"
    near = reference(5, 0.786, 11 * 10**6, 0.2, 128)
    found = answer(Findings([replace(r, accuracy_noise=0.007) for r in (ours, near)]), BUDGET)
    assert found.margins[0].difference.low < 0
    assert found.equalled is None, "its margin is in the answer already"
    finals = [finalist(records[0], 0.90), finalist(records[1], 0.85), records[2]]
    better = answer(Findings(finals), BUDGET)
    assert better.basis == "finals"
    assert "; significantly more accurate than MobileNetV2 0.35/192 (30 M, 0.8" in better.sentence()


def test_only_networks_of_one_fidelity_are_compared() -> None:
    """A short training that flatters a network does not count beside finals."""
    flattered, strong = network(1, 0.95, 10**7), network(2, 0.70, 15 * 10**6)
    v2 = reference(3, 0.60, 12 * 10**6)
    records = [flattered, finalist(strong, 0.90), finalist(v2, 0.85)]
    found = answer(Findings(records), BUDGET)
    assert (found.record.trial, found.basis, found.split) == (2, "finals", "validation")
    (margin,) = found.margins
    assert margin.other.record.trial == 3
    assert margin.difference.mean == pytest.approx(0.05, abs=0.01)
    assert margin.difference.significant
    assert found.pixels == Size.square(96)
    assert "px instead of" not in found.sentence()
    only_reference = [flattered, strong, finalist(v2, 0.85)]
    assert answer(Findings(only_reference), BUDGET).basis == "screening"
    far = Budget(mult_adds=10**8)
    beyond = [*records, network(9, 0.97, 9 * 10**7)]
    assert answer(Findings(beyond), far).basis == "screening", "its finals did not reach that far"


def test_a_prediction_is_not_compared_with_a_measurement_of_another_fidelity() -> None:
    """With finals, predictions are for these; a budget without finals compares measurements."""
    records = [
        finalist(network(1, 0.7, 10**7, predicted=0.9), 0.9),
        network(2, 0.75, 9 * 10**7, predicted=0.95),
        network(3, 0.80, 9 * 10**7, predicted=0.93),
        reference(4, 0.78, 8 * 10**7),
    ]
    found = answer(Findings(records), Budget(mult_adds=10**8))
    assert (found.record.trial, found.predicted) == (3, False)
    assert found.margins[0].difference.mean == pytest.approx(0.02)
    known = [*records[:3], replace(records[3], predicted=0.94)]
    found = answer(Findings(known), Budget(mult_adds=10**8))
    assert (found.record.trial, found.predicted) == (2, True)
    assert found.margins[0].difference.mean == pytest.approx(0.01)


def test_the_margin_of_finals_is_paired_by_images() -> None:
    records = [network(1, 0.7, 10**7), reference(2, 0.7, 10**7)]
    widths = []
    for kept in (True, False):
        finals = [finalist(records[0], 0.90, kept=kept), finalist(records[1], 0.88, kept=kept)]
        difference = answer(Findings(finals), BUDGET).margins[0].difference
        widths.append(difference.high - difference.low)
    assert widths[0] < widths[1]


def test_margins_of_finals_are_shrunk_and_predictions_are_no_prior() -> None:
    """Predictions have seen the finals; counted again, they would make the interval too narrow."""
    ours, v2 = network(1, 0.80, 10**7), reference(2, 0.75, 12 * 10**6, 0.35, 128)
    plain = answer(Findings([finalist(ours, 0.90), finalist(v2, 0.88)]), BUDGET)
    (margin,) = plain.margins
    assert 0 < margin.difference.mean < 0.02
    sure = [
        finalist(replace(r, predicted=e), a) for r, e, a in ((ours, 0.95, 0.9), (v2, 0.7, 0.88))
    ]
    assert answer(Findings(sure), BUDGET).margins[0].difference == margin.difference


def test_retraining_overrides_the_answer_that_it_retrained() -> None:
    ours, v2 = network(1, 0.80, 10**7), reference(2, 0.75, 12 * 10**6, 0.35, 128)
    records = [finalist(ours, 0.90), finalist(v2, 0.89)]
    assert answer(Findings(records), BUDGET).record.trial == 1
    tests = (retrained(ours, [0.88, 0.88]), retrained(v2, [0.93, 0.93]))
    found = answer(Findings(records, tests), BUDGET)
    assert (found.name, found.basis, found.split) == ("MobileNetV2 0.35/128", RETRAINING, "test")
    assert "test accuracy 0.930" in found.sentence()
    other = network(3, 0.6, 15 * 10**6)
    untested = answer(Findings([*records, finalist(other, 0.95)], tests), BUDGET)
    assert (untested.record.trial, untested.basis) == (3, "finals")
    small = answer(Findings(records, tests), Budget(mult_adds=10**7))
    assert (small.record.trial, small.basis) == (1, RETRAINING), "the reference costs more"


def test_a_reference_that_only_retraining_trained_may_be_the_answer() -> None:
    ours, rival = network(1, 0.80, 10**7), reference(UNTRIED, 0.0, 11 * 10**6, 0.14, 160)
    rows = retrained(ours, [0.93]), retrained(rival, [0.966])
    for kept in (rows[1], replace(rows[1], architecture=None)):  # as older versions wrote it
        kept = replace(kept, costs={**kept.costs, "mult_adds": 11 * 10**6})
        found = answer(Findings([ours], (rows[0], kept)), BUDGET)
        assert found.name == "MobileNetV2 0.14/160"
        assert found.record.architecture.fingerprint == rival.fingerprint
        assert found.to_dict()["trial"] is None
    given = replace(rows[1], family="given")
    assert answer(Findings([ours], (rows[0], given)), BUDGET).record.trial == 1


def test_networks_are_tied_if_the_whole_interval_is_within_the_margin() -> None:
    ours, close = network(1, 0.902, 10**7), reference(2, 0.900, 9 * 10**6)
    for noise, word in ((0.001, "statistically tied within 1 point"), (0.02, "not significant")):
        records = [replace(r, accuracy_noise=noise) for r in (ours, close)]
        found = answer(Findings(records), BUDGET)
        assert word in found.sentence()
        assert (found.cheaper is not None) == (noise == 0.001)
    tied = answer(Findings([replace(r, accuracy_noise=0.001) for r in (ours, close)]), BUDGET)
    assert "MobileNetV2 0.35/96 (9 M, 0.900) is as accurate within 1 point" in tied.sentence()


def test_the_smallest_tied_network_is_smaller_and_at_most_a_point_less_accurate() -> None:
    rng = np.random.default_rng(0)
    costs, accuracies = rng.integers(10**6, 2 * 10**7, 40), rng.uniform(0.8, 0.9, 40)
    records = [
        network(i, float(a), int(c), accuracy_noise=0.001)
        for i, (a, c) in enumerate(zip(accuracies, costs, strict=True))
    ]
    for record in records:
        cheapest = cheapest_tied(Findings(records), record)
        assert cheapest.cost <= record.cost
        assert cheapest.accuracy >= record.accuracy - TIED_WITHIN
    unfinished = replace(records[0], state=State.PRUNED, costs={"mult_adds": 3 * 10**7})
    with pytest.raises(StorageError, match="trial 0: expected a completed training"):
        cheapest_tied(Findings([*records[1:], unfinished]), unfinished)


def test_references_are_ranked_by_the_longest_training_of_all_their_families() -> None:
    v1, wide, narrow, large = (
        reference(1, 0.70, 15 * 10**6, 0.2, family="mobilenet_v1"),
        reference(2, 0.75, 15 * 10**6, 0.35),
        reference(3, 0.80, 15 * 10**6, 0.3),
        reference(4, 0.95, 3 * 10**7, 0.5),
    )

    def ranked(*records: TrialRecord, published: bool = False) -> list[int]:
        found = best_references(Findings(records), BUDGET, published=published)
        return [record.trial for record in found]

    searched = finalist(network(0, 0.9, 15 * 10**6), 0.8)
    screened = (searched, v1, wide, narrow, large)
    assert ranked(*screened) == [3, 1]
    assert ranked(*screened, published=True) == [2]
    finals = (searched, finalist(v1, 0.85), finalist(wide, 0.80), narrow, large)
    assert ranked(*finals) == [1, 2]
    assert ranked(searched, finalist(v1, 0.85), wide, narrow) == [3, 1], "V2 had no final"
    assert ranked(searched) == []


def test_the_best_reference_of_each_family_is_retrained_beside_an_answer() -> None:
    """Of families without a final it is the best one by screening."""
    searched = finalist(network(0, 0.9, 15 * 10**6), 0.9)
    records = [
        searched,
        finalist(reference(1, 0.75, 15 * 10**6), 0.8),
        reference(2, 0.70, 15 * 10**6, 0.2, family="mobilenet_v1"),
        reference(3, 0.65, 15 * 10**6, 0.3, family="mobilenet_v1"),
        reference(4, 0.95, 3 * 10**7, 0.5, family="mobilenet_v3_small"),
    ]
    selected = select(Findings(records), Selection(budgets=[BUDGET]))
    assert [r.trial for r in selected.records] == [0]
    beside = selected.references[searched.fingerprint]
    assert [r.trial for r in beside] == [1, 2]


def test_budgets_with_equal_networks_have_equal_answers() -> None:
    records = [network(1, 0.8, 10**7), reference(2, 0.7, 15 * 10**6)]
    budgets = [Budget(mult_adds=m * 10**6) for m in (5, 10, 12, 16, 18)]
    for budget, found in answers(Findings(records), budgets).items():
        if isinstance(found, Answer):
            assert found == answer(Findings(records), budget)
        else:
            assert budget.bounds()["mult_adds"] == 5 * 10**6
            assert answer_text(found) == found


def test_budgets_on_two_costs_have_the_answers_of_each_alone() -> None:
    def with_params(record: TrialRecord, params: int) -> TrialRecord:
        return replace(record, costs={**record.costs, "params": params})

    records = [
        with_params(network(1, 0.8, 10**7), 300_000),
        with_params(network(2, 0.7, 12 * 10**6), 100_000),
        with_params(reference(3, 0.6, 15 * 10**6), 200_000),
    ]
    asked = [(20, 300_000), (20, 250_000), (11, 300_000), (20, 150_000), (13, 250_000)]
    budgets = [Budget(mult_adds=m * 10**6, params=p) for m, p in asked]
    found = answers(Findings(records), budgets)
    assert [each.record.trial for each in found.values() if isinstance(each, Answer)] == [
        1, 2, 1, 2, 2,
    ]  # fmt: skip
    assert found == {budget: answer(Findings(records), budget) for budget in budgets}


def studies(tmp_path: Path) -> dict[str, Findings]:
    """A study of every kind: searched, with limits, budgets, finals and retraining."""
    plain = search(tmp_path / "tiny", trials=8)[0].records()
    middle = sorted(r.cost for r in plain)[len(plain) // 2]
    budgets = (Budget(mult_adds=middle), Budget(mult_adds=4 * middle))
    finals = [
        finalist(r, 0.7 + 0.01 * i) if r.cost > middle / 4 else r for i, r in enumerate(plain)
    ]
    best = answer(Findings(finals, budgets=budgets), budgets[0]).record
    rival = next(r for r in plain if r.is_baseline and r.trial != best.trial and r.cost <= middle)
    rows = (retrained(best, [0.80]), retrained(rival, [0.9]))
    return {
        "plain": Findings(plain),
        "limited": Findings(plain, limits=Limits(mult_adds=middle)),
        "budgets": Findings(plain, budgets=budgets),
        "finals": Findings(finals, budgets=budgets),
        "retrained": Findings(finals, rows, budgets=budgets),
    }


@pytest.mark.parametrize("kind", ["plain", "limited", "budgets", "finals", "retrained"])
def test_status_export_report_and_dashboard_name_the_same_network(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = studies(tmp_path)[kind]
    assert findings.main_budget is not None
    found = answer(findings, findings.main_budget)
    monkeypatch.setattr("mbsearch.analysis.findings.findings_of", lambda *_: findings)
    monkeypatch.setattr("mbsearch.export.study_export.findings_of", lambda *_: findings)
    folder = tmp_path / "tiny"

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        assert ended.value.code == 0
        return capsys.readouterr().out

    assert found.sentence() in call("status", str(folder))
    printed = call(
        "status", str(folder), f"--budget={findings.main_budget.bounds()['mult_adds']}", "--json"
    )
    assert json.loads(printed)["name"] == found.name
    assert call("export", str(folder)) == found.record.architecture.to_yaml()
    measured = Artifacts(retrained=tuple(findings.retrained))
    assert found.sentence() in html_text(document(findings, "title", measured))
    write_results(tmp_path, findings, "title")
    best = load(tmp_path / "best.yaml")
    assert isinstance(best, Architecture)
    assert best.fingerprint == found.record.fingerprint

    settings = {
        "stamp": {"limits": findings.limits.model_dump(mode="json")},
        "budgets": [b.model_dump(mode="json") for b in findings.budgets],
    }
    snapshot = Snapshot(
        "tiny",
        "tiny",
        folder,
        records=tuple(findings.records),
        settings=settings,
        measured=measured,
    )
    shown_card = card(snapshot, View())
    assert answer_text(shown_card.found) == found.sentence()
    page = front.layout(snapshot, {}, Library(ResultsFolder(folder)))
    assert found.sentence() in page_text(page)
    assert [budget for budget, _ in shown_card.rows] == list(findings.default_budgets)
    shown = chosen(snapshot, {})
    assert shown is not None
    assert shown.fingerprint == found.record.fingerprint


def test_status_answers_every_budget_in_its_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(tmp_path, trials=4)
    with pytest.raises(SystemExit):
        main(
            [
                "status",
                str(tmp_path),
                "--budget=50M",
                "--budget",
                "mult_adds=20M,params=500k",
                "--json",
            ]
        )
    rows = json.loads(capsys.readouterr().out)
    assert [row["budget"] for row in rows] == [
        {"mult_adds": 50_000_000},
        {"mult_adds": 20_000_000, "params": 500_000},
    ]
