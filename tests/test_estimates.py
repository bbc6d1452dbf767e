from __future__ import annotations

import math
import random
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_evaluator import FakeEvaluator
from former_spaces import FORMER_V2

from mbsearch.analysis.answer_selection import answer
from mbsearch.analysis.calibration import add_gain, long_training_gain
from mbsearch.analysis.findings import Findings, budget_of
from mbsearch.analysis.tables import front_rows, to_frame
from mbsearch.config.budgets import Budget
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.racing_settings import Racing
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.cost import measure
from mbsearch.dashboard.studies import Library, ResultsFolder
from mbsearch.evaluation import Scoring
from mbsearch.execution.local import LocalProcesses
from mbsearch.search.driver import Driver
from mbsearch.search.estimates import LEAST_TRIALS, MOST_TRIALS, Estimates
from mbsearch.search.factory import make_sampler
from mbsearch.search.sampler.observations import ANCHORS, FINALS, PROMOTED
from mbsearch.space.library import load_reference
from mbsearch.study.journal import open_journal
from mbsearch.study.log_odds import logit
from mbsearch.study.opening import JOURNAL, read_study
from mbsearch.study.records import Estimate, Evaluation, TrialRecord, of_highest_fidelity
from mbsearch.study.store import StudyStore, create_study
from mbsearch.study_run import run

NOISE = 0.03
V2 = load_specification(FORMER_V2)
SPACE = V2.with_settings({"racing": Racing(rungs=()), "promotion": Promotion(share=0.6)})
EVALUATOR = FakeEvaluator(noise=NOISE, epochs=SPACE.settings.proxy.epochs)
SHARE = 1 - 0.5**EVALUATOR.epochs  # of its final accuracy that a fake training reaches


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyStore, StudyStore]:
    """A search of 60 networks, without longer trainings and with them."""
    sampler = make_sampler("cost-aware", SPACE, seed=0)

    def search(folder: Path, share: float) -> StudyStore:
        store = create_study(open_journal(folder / JOURNAL, create=True), SPACE.name)
        store.search.sampler = sampler
        with LocalProcesses(EVALUATOR, 1) as executor:
            Driver(
                store, SPACE.with_settings({"promotion": Promotion(share=share)}), executor, 60, 0
            ).run()
        return store

    folder = tmp_path_factory.mktemp("expectation")
    (folder / "short").mkdir()
    short = search(folder / "short", 0.0)
    shutil.copytree(folder / "short", folder / "long")
    return short, search(folder / "long", 0.85)


def true(record: TrialRecord, promoted: bool = False) -> float:
    """What the fake training would reach without noise."""
    missing: float = 3 / math.log10(record.mult_adds) ** 1.2
    return SHARE * (1 - missing / 2 if promoted else 1 - missing)


def candidates(store: StudyStore) -> list[TrialRecord]:
    return [r for r in store.records() if not r.is_baseline]


def accuracies(estimates: Mapping[int, Estimate]) -> dict[int, float]:
    return {trial: estimate.accuracy for trial, estimate in estimates.items()}


def test_predicted_accuracies_are_closer_to_the_truth_than_measured_ones(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    store, _ = studies
    records = candidates(store)
    expected = accuracies(Estimates(store, SPACE).highest())
    assert set(expected) == {r.trial for r in records}
    measured = np.array([r.accuracy - true(r) for r in records])
    believed = np.array([expected[r.trial] - true(r) for r in records])
    assert np.sqrt(np.mean(believed**2)) < 0.5 * np.sqrt(np.mean(measured**2))


def test_answers_by_prediction_are_better_than_the_luckiest_networks(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    """At every budget selection by prediction is at least as good on average."""
    store, _ = studies
    expected = accuracies(Estimates(store, SPACE).highest())
    plain = store.records()
    told = [replace(r, predicted=expected.get(r.trial)) for r in plain]
    budgets = sorted(r.cost for r in candidates(store))[5::5]

    def chosen(records: list[TrialRecord], budget: int) -> TrialRecord:
        searched = [r for r in records if not r.is_baseline]
        return answer(Findings(searched), Budget(mult_adds=budget)).record

    luckiest = [true(chosen(plain, budget)) for budget in budgets]
    likeliest = [true(chosen(told, budget)) for budget in budgets]
    assert np.mean(likeliest) > np.mean(luckiest)
    choice = chosen(told, budgets[-1])
    # A prediction is compared with a prediction.
    told = [replace(r, predicted=0.432) if r.origin == "mobilenet_v2" else r for r in told]
    found = answer(Findings(told), Budget(mult_adds=budgets[-1]))
    if found.record.trial == choice.trial:
        assert f"predicted validation accuracy {expected[choice.trial]:.3f}" in found.sentence()
    assert found.predicted
    (margin,) = (m for m in found.margins if m.other.record.origin == "mobilenet_v2")
    assert margin.difference.mean == pytest.approx(found.best.accuracy.mean - 0.432)


def test_after_promotion_predictions_are_on_the_scale_of_the_longer_training(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    _, store = studies
    expected = accuracies(Estimates(store, SPACE).highest())
    records = candidates(store)
    promoted = [r for r in records if r.promotion is not None]
    assert 3 <= len(promoted) < len(records)
    errors = [expected[r.trial] - true(r, promoted=True) for r in records]
    assert np.sqrt(np.mean(np.square(errors))) < 0.5 * NOISE


def test_a_longer_training_moves_the_estimate_of_its_network(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    _, store = studies
    plain = store.search.user_attrs[PROMOTED]
    records = {r.trial: r for r in candidates(store)}
    before = Estimates(store, SPACE).highest()
    trials = {
        str(t.number): t.user_attrs["record"]["trial"]
        for t in store.search.get_trials()
        if "record" in t.user_attrs
    }
    number = max(plain, key=lambda key: records[trials[key]].mult_adds)
    try:
        raised = add_gain(plain[number], 0.5)
        store.search.set_user_attr(PROMOTED, {**plain, number: raised})
        after = Estimates(store, SPACE).highest()
    finally:
        store.search.set_user_attr(PROMOTED, plain)
    moved = {trial: after[trial].accuracy - before[trial].accuracy for trial in records}
    assert moved[trials[number]] > 3 * abs(np.median(list(moved.values())))


def test_finals_put_all_estimates_on_their_scale_anchors_included(
    studies: tuple[StudyStore, StudyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks without a final have larger deviations than those with one."""
    store, _ = studies
    records = candidates(store)
    trials = {t.user_attrs["record"]["trial"]: t.number for t in store.search.get_trials()}
    params = SPACE.sample_params(random.Random(0))
    reference = replace(
        records[0],
        trial=999,
        origin="mobilenet_v2",
        architecture=SPACE.decode(params),
        params={},
    )
    original = StudyStore.records
    monkeypatch.setattr(StudyStore, "records", lambda self: [*original(self), reference])
    ends = {r.trial: add_gain(true(r), 0.8) for r in records}
    with_final = [r.trial for r in sorted(records, key=lambda r: r.cost)[::6]]
    anchor = {"params": params, "accuracy": 0.6, "validation_loss": None, "final": 0.8}
    try:
        store.search.set_user_attr(FINALS, {str(trials[t]): ends[t] for t in with_final})
        store.search.set_user_attr(ANCHORS, [anchor])
        estimates = Estimates(store, SPACE).highest()
        store.keep_predictions(estimates)
        kept = {r.trial: r for r in original(store) if r.predicted is not None}
    finally:
        store.search.set_user_attr(FINALS, {})
        store.search.set_user_attr(ANCHORS, [])
        store.keep_predictions({})
    errors = {trial: estimates[trial].accuracy - end for trial, end in ends.items()}
    assert np.sqrt(np.mean(np.square(list(errors.values())))) < 0.5 * NOISE
    assert set(estimates) == {reference.trial, *ends}
    measured = [estimates[t].deviation for t in with_final]
    others = [estimates[t].deviation for t in ends if t not in with_final]
    assert np.mean(measured) < np.mean(others)
    assert {t: (r.predicted, r.predicted_deviation) for t, r in kept.items()} == {
        t: (e.accuracy, e.deviation) for t, e in estimates.items() if t in ends
    }
    assert not any(r.predicted for r in original(store))


def test_a_network_that_was_not_promoted_may_be_the_one_to_use(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    """A reference that was not promoted is not compared with those that were."""
    _, store = studies
    records = store.records()
    short = next(r for r in candidates(store) if r.promotion is None)
    told = [replace(r, predicted=0.95) if r.trial == short.trial else r for r in records]
    found = answer(Findings(told), budget_of(short))
    assert found.record == replace(short, predicted=0.95)
    assert "predicted validation accuracy 0.950" in found.sentence()
    assert found.basis == "screening"
    for margin in found.margins:
        assert margin.other.record.promotion is not None
    plain = [r for r in records if r.promotion is not None and r.cost <= short.cost]
    if plain:
        assert answer(Findings(records), budget_of(short)).basis == "promotion"


def test_growth_is_reckoned_from_mobilenet_v2() -> None:
    costs = measure(load_reference("mobilenet_v2"))
    assert long_training_gain(costs, 1.0) == pytest.approx(0, abs=0.05)
    twice = {**costs, "mult_adds": 2 * costs["mult_adds"]}
    assert long_training_gain(twice, 0.1) - long_training_gain(costs, 0.1) == pytest.approx(
        0.1 * math.log(2)
    )
    assert add_gain(add_gain(0.7, 0.3), -0.3) == pytest.approx(0.7)
    assert add_gain(0.5, 0.1) > 0.5


def test_growth_by_cost_is_added_to_baselines_too(
    studies: tuple[StudyStore, StudyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a lead over them would be theirs who are believed to grow."""
    _, store = studies
    proxy = SPACE.settings.proxy.model_copy(update={"growth": 0.5})
    space = SPACE.with_settings({"proxy": proxy})
    monkeypatch.setattr(store.search, "sampler", make_sampler("cost-aware", space, seed=0))
    model, records = Estimates(store, space), store.records()
    short, highest = model.short(records), accuracies(model.highest())
    errors = [short[r.trial] - true(r) for r in candidates(store)]
    assert np.sqrt(np.mean(np.square(errors))) < 0.5 * NOISE, "on the scale that was measured"
    baselines = [r for r in of_highest_fidelity(records) if r.is_baseline]
    assert set(highest) == {r.trial for r in baselines} | set(short)
    for record in baselines:
        assert highest[record.trial] == add_gain(
            record.accuracy, long_training_gain(record.costs, 0.5)
        )
    gains = [logit(highest[r.trial]) - logit(true(r, promoted=True)) for r in candidates(store)]
    growths = [long_training_gain(r.costs, 0.5) for r in candidates(store)]
    assert np.mean(np.abs(np.subtract(gains, growths))) < 0.1 * np.ptp(growths)


def test_with_too_few_or_too_many_trials_nothing_is_predicted(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    store, _ = studies
    records = candidates(store)
    assert not Estimates(store, SPACE).short(records[: LEAST_TRIALS - 1])
    assert len(Estimates(store, SPACE).short(records[:LEAST_TRIALS])) == LEAST_TRIALS
    assert not Estimates(store, SPACE).short(records * (MOST_TRIALS // len(records) + 1))


def test_two_promoted_networks_are_no_bridge_between_two_scales(
    studies: tuple[StudyStore, StudyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, store = studies
    two = dict([(t, e) for t, e in store.promotions().items() if t in _trials(store)][:2])
    monkeypatch.setattr(StudyStore, "promotions", lambda _: two)
    assert not Estimates(store, SPACE).highest()


def _trials(store: StudyStore) -> set[int]:
    return {r.trial for r in candidates(store)}


def test_a_run_stores_predictions_and_the_next_run_replaces_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(space: SearchSpecification, *_: object, **__: object) -> Scoring:
        return Scoring(EVALUATOR, space, "fake", "key")

    monkeypatch.setattr("mbsearch.study_run.by_training", fake)
    folder = tmp_path / "v2"

    def go_on(trials: int) -> list[TrialRecord]:
        seen: list[dict[str, float]] = []
        records = run(
            SPACE,
            trials=trials,
            folder=folder,
            jobs=1,
            sampler="random",
            on_progress=lambda _: seen.append(read_study(folder).predictions()),
        ).records
        assert not any(seen)
        return records

    assert {r.predicted for r in go_on(3)} == {None}
    library = Library(ResultsFolder(tmp_path))
    library.snapshot("v2")
    records = go_on(20)
    assert all((r.predicted is None) is r.is_baseline for r in records)
    for record in of_highest_fidelity(records):
        assert record.selection_accuracy == (
            record.accuracy if record.is_baseline else record.predicted
        )
    rows = {row["trial"]: row["expected"] for row in front_rows(records)}
    assert rows == {r.trial: r.predicted for r in records if r.trial in rows}
    assert library.snapshot("v2").records == tuple(records)
    frame = to_frame(records).set_index("trial")
    assert frame["expected"].dropna().to_dict() == {
        r.trial: r.predicted for r in records if r.predicted is not None
    }


def test_a_trial_without_evaluation_has_no_accuracy_for_selection(
    studies: tuple[StudyStore, StudyStore],
) -> None:
    record = replace(candidates(studies[0])[0], evaluation=None)
    with pytest.raises(ValueError, match="has no accuracy"):
        _ = record.selection_accuracy
    assert isinstance(candidates(studies[0])[0].evaluation, Evaluation)
