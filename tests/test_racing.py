from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_evaluator import FakeEvaluator
from scipy.stats import norm
from test_search import TINY, outcomes, search

from mbsearch.records import Epoch, State
from mbsearch.search.racing import Race, rung_noise, savings
from mbsearch.space.settings import Racing


def curve(*accuracies: float) -> Sequence[Epoch]:
    return [Epoch(1.0, 1.0, accuracy, 1.0) for accuracy in accuracies]


def race(noise: float = 0.01, **settings: float) -> Race:
    start = Race(Racing.model_validate(settings), {1: noise, 2: noise})
    for mult_adds, first, last in [(10, 0.50, 0.60), (20, 0.60, 0.72), (30, 0.70, 0.80)]:
        start.add(mult_adds, curve(first, last), whole=True)
    return start


def test_a_trial_behind_cheaper_ones_is_stopped_and_a_cheaper_one_is_not() -> None:
    assert race().verdict(30, curve(0.40)) is not None
    assert race().verdict(29, curve(0.40)) is None  # only two trials cost no more


def test_the_bar_is_that_of_several_peers_not_of_the_best() -> None:
    assert race().verdict(30, curve(0.49)) is None
    assert race(min_peers=1).verdict(30, curve(0.49)) is not None


def test_the_margin_is_slack_and_the_one_sided_quantile_of_a_difference() -> None:
    margin = norm.ppf(0.9) * math.sqrt(2) * 0.02 + 0.03
    rule = race(noise=0.02, confidence=0.9, slack=0.03)
    assert rule.verdict(30, curve(0.50 - margin + 1e-6)) is None
    assert rule.verdict(30, curve(0.50 - margin - 1e-6)) is not None


def test_without_a_measured_noise_nothing_is_stopped() -> None:
    rule = race()
    rule.noise = {}
    assert rule.verdict(30, curve(0.0)) is None


def test_the_reason_says_what_was_compared() -> None:
    assert race().verdict(30, curve(0.40)) == (
        "stopped after epoch 1: accuracy 0.400 is, with 95% confidence, below the 0.500 that "
        "3 trials of at most its Mult-Adds had there"
    )


def test_rungs_are_taken_in_order_and_never_at_the_end() -> None:
    rule = race()
    assert [rule.next_rung(4, done) for done in (0, 1, 2)] == [1, 2, None]
    assert rule.next_rung(1, 0) is None


def test_the_forecast_adds_the_median_gain_of_whole_trials() -> None:
    rule = race()
    assert rule.forecast(curve(0.40)) == pytest.approx(0.40 + 0.10)
    rule.add(5, curve(0.1), whole=False)
    assert rule.forecast(curve(0.40)) == pytest.approx(0.40 + 0.10)
    assert Race(Racing(), {}).forecast(curve(0.3)) == 0.3


def test_noise_is_pooled_rung_by_rung() -> None:
    noise = rung_noise([[curve(0.1, 0.5), curve(0.3, 0.5)], [curve(0.2, 0.8), curve(0.2, 0.6)]])
    assert noise == pytest.approx({1: 0.1, 2: 0.1})


RACING = TINY.with_settings(
    TINY.settings.model_copy(update={"racing": Racing(rungs=(1, 2), confidence=0.9)})
)
HALF_BAD = FakeEvaluator(epochs=3, noise=0.002, bad_resolutions=(128,), seconds=0.001)


def test_bad_networks_are_stopped_good_ones_and_baselines_are_not(tmp_path: Path) -> None:
    store, _ = search(tmp_path, trials=30, space=RACING, evaluator=HALF_BAD)
    records = store.records()
    stopped = [r for r in records if r.state is State.PRUNED]
    assert len(stopped) > 5
    assert all(r.architecture.resolution == 128 and not r.is_baseline for r in stopped)
    for record in stopped:
        assert record.evaluation is not None
        assert len(record.evaluation.curve) in (1, 2)
        assert "with 90% confidence" in (record.error or "")
    saved = savings(records)
    assert saved.stopped == len(stopped)
    assert saved.trials == 30
    whole = 30 * 3 * 0.001
    assert saved.seconds_saved + saved.seconds_spent == pytest.approx(whole)


def test_no_rungs_no_race(tmp_path: Path) -> None:
    settings = TINY.settings.model_copy(update={"racing": Racing(rungs=())})
    space = TINY.with_settings(settings)
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
