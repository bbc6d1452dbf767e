from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_evaluator import FakeEvaluator
from fake_search import TINY, outcomes, search
from scipy.special import expit, logit
from scipy.stats import kstest
from scipy.stats import t as student

from mbsearch.analysis.pareto import hypervolume
from mbsearch.analysis.racing_savings import savings
from mbsearch.config.racing_settings import Racing
from mbsearch.figures.search import hypervolume_figure
from mbsearch.search.racing import Race
from mbsearch.space.size import Size
from mbsearch.study.records import Epoch, State


def curve(*accuracies: float, loss: float = 1.0) -> Sequence[Epoch]:
    return [Epoch(loss, 1.0, accuracy, 1.0) for accuracy in accuracies]


def race(peers: int = 40, noise: float = 0.05, seed: int = 0, **settings: float) -> Race:
    """Trials that end 1 above their first epochs on the logit scale, and by cost, with noise."""
    start, rng = Race(Racing.model_validate(settings)), np.random.default_rng(seed)
    for _ in range(peers):
        size, first = rng.uniform(7, 8), rng.normal(-0.5, 0.5)
        end = first + 1 + (size - 7) + rng.normal(0, noise)
        start.add(round(10**size), curve(*(float(expit(x)) for x in (first, first, end))))
    return start


def test_the_forecast_is_that_of_a_least_squares_fit() -> None:
    rule = race()
    forecast = rule.forecast(10**7, curve(0.3))
    assert forecast is not None
    assert forecast.centre == pytest.approx(logit(0.3) + 1, abs=0.05)
    design = [
        [1, math.log10(c), math.log10(c) ** 2, logit(k[0].validation_accuracy)]
        for c, k in rule.completed
    ]
    ends = [logit(k[-1].validation_accuracy) for _, k in rule.completed]
    found, *_ = np.linalg.lstsq(np.array(design), np.array(ends))
    assert forecast.centre == pytest.approx(found @ [1, 7, 49, logit(0.3)], abs=0.02)


def test_the_forecast_is_calibrated() -> None:
    rng, chances = np.random.default_rng(1), []
    for seed in range(300):
        size, first = rng.uniform(7, 8), rng.normal(-0.5, 0.5)
        forecast = race(12, noise=0.3, seed=seed).forecast(
            round(10**size), curve(float(expit(first)))
        )
        assert forecast is not None
        end = first + 1 + (size - 7) + rng.normal(0, 0.3)
        chances.append(forecast.probability_above(float(expit(end))))
    assert kstest(chances, "uniform").pvalue > 0.01


def test_the_training_loss_counts_too() -> None:
    rule = Race(Racing())
    for i in range(20):
        rule.add(10**7 + i, curve(0.3, 0.5 + i / 100, loss=2 - i / 20))
    good, bad = (rule.forecast(10**7, curve(0.3, loss=loss)) for loss in (1.1, 1.9))
    assert good is not None
    assert bad is not None
    assert good.accuracy > bad.accuracy + 0.05


def test_a_trial_predicted_below_smaller_networks_is_pruned() -> None:
    rule = race()
    rule.add(2 * 10**7, curve(0.5, 0.75))
    assert rule.prune_reason(3 * 10**7, curve(0.3)) is not None
    assert rule.prune_reason(3 * 10**7, curve(0.8)) is None


def test_trials_that_cost_more_do_not_count() -> None:
    rule = race()
    assert rule.prune_reason(min(cost for cost, _ in rule.completed) - 1, curve(0.01)) is None


@pytest.mark.parametrize("gain", [0.0, 0.03])
def test_the_margin_is_the_gain_and_the_quantile_of_the_forecast(gain: float) -> None:
    cheap, own = 10**7 - 1, curve(0.5, 0.5)
    forecast = race().forecast(cheap, own)
    assert forecast is not None
    quantile = student.ppf(0.9, forecast.freedom)
    edge = float(expit(forecast.centre + forecast.spread * quantile)) - gain
    for end, stopped in ((edge - 1e-6, False), (edge + 1e-6, True)):
        rule = race(confidence=0.9, gain=gain)
        rule.add(cheap, curve(end))  # its curve ends before: one to beat, no evidence
        assert (rule.prune_reason(cheap, own) is not None) == stopped


def test_with_too_few_peers_nothing_is_pruned() -> None:
    assert race(peers=9).prune_reason(10**8, curve(0.01)) is None
    assert race(peers=10).prune_reason(10**8, curve(0.01)) is not None
    assert race(peers=10, min_peers=11).prune_reason(10**8, curve(0.01)) is None


def test_the_reason_names_prediction_and_requirement() -> None:
    rule = race(noise=0.0)
    rule.add(10**7, curve(0.5, 0.9))
    assert re.fullmatch(
        r"pruned after epoch 1: predicted 0\.\d{3}, needs 0\.905",
        rule.prune_reason(10**7, curve(0.3)) or "",
    )


def test_with_finals_only_trials_far_below_the_best_are_pruned() -> None:
    strict, lenient = race(noise=0.0), replace(race(noise=0.0), with_finals=True)
    for rule in (strict, lenient):
        rule.add(10**7, curve(0.5, 0.9))
    near = next(
        start / 1000
        for start in range(300, 900)
        if (forecast := strict.forecast(10**7, curve(start / 1000))) and forecast.accuracy > 0.89
    )
    assert strict.prune_reason(10**7, curve(near)) is not None
    assert lenient.prune_reason(10**7, curve(near)) is None
    assert lenient.prune_reason(10**7, curve(0.3)) is not None


def test_rungs_are_taken_in_order_and_never_at_the_end() -> None:
    rule = race()
    assert [rule.next_rung(4, done) for done in (0, 1, 2, 3)] == [1, 2, 3, None]
    assert rule.next_rung(1, 0) is None
    assert Race(Racing(rungs=(3, 1))).next_rung(4, 0) == 1, "however they are written"


RACING = TINY.with_settings({"racing": Racing(rungs=(1, 2), confidence=0.9, gain=0.0)})
HALF_BAD = FakeEvaluator(epochs=3, noise=0.002, bad_resolutions=(128,), seconds=0.001)


def test_bad_networks_are_pruned_good_ones_and_baselines_are_not(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=30, space=RACING, evaluator=HALF_BAD)
    records = store.records()
    stopped = [r for r in records if r.state is State.PRUNED]
    assert len(stopped) > 5
    assert all(r.architecture.resolution == Size.square(128) and not r.is_baseline for r in stopped)
    for record in stopped:
        assert record.evaluation is not None
        assert len(record.evaluation.curve) in (1, 2)
        assert (record.error or "").startswith("pruned after epoch")
    saved = savings(records)
    assert saved.pruned == len(stopped)
    assert saved.trials == 30
    whole = 30 * 3 * 0.001
    assert saved.seconds_saved + saved.seconds_spent == pytest.approx(whole)


def test_time_of_pruned_trainings_is_counted(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=40, space=RACING, evaluator=HALF_BAD)
    records = [r for r in store.records() if r.evaluation is not None]
    assert any(r.state is State.PRUNED for r in records)
    done = [r for r in records if r.state is State.COMPLETE]
    worst = 0.0, max(math.log10(r.cost) for r in done)
    own = [r for r in done if not r.is_baseline]
    volume = hypervolume([r.accuracy for r in own], [math.log10(r.cost) for r in own], worst)
    for against, total in (
        ("time", sum(r.evaluation.seconds for r in records if r.evaluation) / 60),
        ("trials", len(records)),
    ):
        whole, searched = hypervolume_figure(records, against).data
        assert whole.x[-1] == pytest.approx(total)
        assert searched.y[-1] == pytest.approx(volume)


def test_no_rungs_no_race(tmp_path: Path) -> None:
    space = TINY.with_settings({"racing": Racing(rungs=())})
    store, _ = search(tmp_path, trials=12, space=space, evaluator=HALF_BAD)
    assert all(r.state is State.COMPLETE for r in store.records())


def test_one_seed_and_one_worker_give_one_race(tmp_path: Path) -> None:
    first, second = (
        search(tmp_path / name, trials=20, space=RACING, evaluator=HALF_BAD, sampler="cost-aware")[
            0
        ].records()
        for name in "ab"
    )
    assert outcomes(first) == outcomes(second)
    assert [r.state for r in first] == [r.state for r in second]
