"""What the choices do, against studies whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from former_spaces import FORMER_V2
from scipy import stats

from mbsearch.analysis.choice_effects import MIN_NETWORKS, cost_bands, effects, rules, searched
from mbsearch.analysis.published_results import published
from mbsearch.config.specification import load_specification
from mbsearch.cost import measure
from mbsearch.figures.choices import importance_figure, options_figure, parallel_figure
from mbsearch.figures.published import AXES, PUBLISHED_FAMILIES, published_figure
from mbsearch.space.library import load_reference
from mbsearch.space.size import Size
from mbsearch.study.records import Epoch, Evaluation, State, TrialRecord

SPACE = load_specification(FORMER_V2)


def study(
    networks: int, bonus: dict[tuple[str, object], float], noise: float, seed: int = 0
) -> list[TrialRecord]:
    """Accuracy by cost, plus a bonus for some options, plus noise."""
    rng, normal = Random(seed), np.random.default_rng(seed)
    records = []
    for trial in range(networks):
        params = SPACE.sample_params(rng)
        architecture = SPACE.decode(params)
        costs = measure(architecture)
        accuracy = 0.1 * math.log10(costs["mult_adds"]) - 0.1 + normal.normal(0, noise)
        accuracy += sum(
            value for (name, option), value in bonus.items() if params.get(name) == option
        )
        evaluation = Evaluation(
            accuracy,
            1.0,
            1.0,
            trial,
            Size.square(32),
            (Epoch(1.0, 1.0, accuracy, 1.0),),
            "made up",
            {},
            "none",
        )
        records.append(
            TrialRecord(trial, "search", State.COMPLETE, architecture, costs, params, evaluation)
        )
    return records


def test_the_effect_of_a_choice_is_estimated() -> None:
    found = effects(study(300, {("stages.2.kernel", 5): 0.03}, 0.01))
    assert found[0].choice == "stages.2.kernel"
    assert found[0].importance > 5 * found[1].importance
    gain = {option.option: option.mean for option in found[0].options}
    assert gain[5] - gain[3] == pytest.approx(0.03, abs=0.003)
    assert found[0].rule("overall") == (
        f"overall: stages.2.kernel 5 beats 3 by {gain[5] - gain[3]:.3f} ± "
        f"{found[0].deviation * math.sqrt(sum(1 / o.networks for o in found[0].options)):.3f}"
    )


def test_width_has_no_effect_beyond_its_cost() -> None:
    importance = {e.choice: e.importance for e in effects(study(300, {}, 0.01))}
    assert importance["alpha"] < 0.03
    assert importance["resolution"] < 0.03


def test_pure_noise_has_no_better_option() -> None:
    told = [e.rule("overall") for e in effects(study(200, {}, 0.02))]
    assert sum("beats" in rule for rule in told) <= len(told) / 8


def test_rules_from_noise_are_rare() -> None:
    """Dozens of comparisons in a study: at 95 % each, every study would have its false ones."""
    told = [rules(study(60, {}, 0.02, seed)) for seed in range(20)]
    assert sum("clearly" not in lines[0] for lines in told) <= 3


def test_none_is_an_option() -> None:
    records = [
        replace(r, params={**r.params, "head.channels": None if i % 2 else 1280})
        for i, r in enumerate(study(60, {}, 0.01))
    ]
    (effect,) = (e for e in effects(records) if e.choice == "head.channels")
    assert {o.option for o in effect.options} == {None, 1280}
    assert set(options_figure(records, effect).layout.xaxis.ticktext) == {"none", "1280"}


def test_importance_is_omega_squared_of_the_analysis_of_variance() -> None:
    records = study(120, {("stages.3.expansion", 6): 0.01}, 0.01)
    effect = next(e for e in effects(records) if e.choice == "alpha")
    cost = np.log10([r.mult_adds for r in records])
    accuracy = np.array([r.accuracy for r in records])
    left = accuracy - np.polyval(np.polyfit(cost, accuracy, 2), cost)
    alpha = np.array([r.architecture.alpha for r in records])
    groups = [left[alpha == a] for a in sorted(set(alpha.tolist()))]
    f = stats.f_oneway(*groups).statistic
    k, n = len(groups), len(records)
    omega = max(0.0, (k - 1) * (f - 1) / ((k - 1) * (f - 1) + n))
    assert effect.importance == pytest.approx(omega, abs=1e-6)


def test_the_interval_of_an_importance_inverts_the_noncentral_f_distribution() -> None:
    (effect,) = (e for e in effects(study(120, {}, 0.01)) if e.choice == "alpha")
    strong = effects(study(120, {("stages.2.kernel", 5): 0.03}, 0.01))[0]
    assert 0.0 == effect.low <= effect.importance <= effect.high < 0.3
    assert 0.2 < strong.low < strong.importance < strong.high < 1.0
    n, k = sum(o.networks for o in strong.options), len(strong.options)
    share = strong.importance
    f = 1 + share * n / ((1 - share) * (k - 1))
    tails = [
        stats.ncf.cdf(f, k - 1, n - k, n * bound / (1 - bound))
        for bound in (strong.low, strong.high)
    ]
    assert tails == pytest.approx([0.975, 0.025], abs=2e-3)


def test_the_interval_of_an_option_covers_its_mean_as_often_as_it_says() -> None:
    covered = []
    for seed in range(40):
        effect = next(e for e in effects(study(60, {}, 0.02, seed)) if e.choice == "alpha")
        covered += [option.low <= 0 <= option.high for option in effect.options]
    assert 0.9 <= sum(covered) / len(covered) <= 1.0


def test_nothing_is_claimed_from_fewer_networks_than_stated() -> None:
    records = study(MIN_NETWORKS, {("stages.2.kernel", 5): 0.05}, 0.01)
    assert effects(records)
    assert effects(records[1:]) == []
    for networks in (MIN_NETWORKS, 50, 100, 300):
        found = study(networks, {}, 0.01)
        assert all(sum(band.holds(r) for r in found) >= MIN_NETWORKS for band in cost_bands(found))


def test_bands_share_the_networks_evenly_and_leave_none_out() -> None:
    records = study(91, {}, 0.01)
    bands = cost_bands(records)
    counts = [sum(band.holds(r) for r in records) for band in bands]
    assert sum(counts) == len(records)
    assert max(counts) - min(counts) <= 2


def test_baselines_are_left_out_of_effects() -> None:
    records = study(20, {}, 0.01)
    network = load_reference("mobilenet_v2")
    baseline = TrialRecord(99, "mobilenet_v2", State.COMPLETE, network, measure(network), {})
    assert searched([*records, baseline]) == records
    assert effects(records[:5]) == []
    assert cost_bands([]) == []


def test_figures_show_every_network_once() -> None:
    records = study(60, {}, 0.01)
    strips, means = options_figure(records, effects(records)[0]).data
    assert len(strips.x) == 60
    assert len(means.x) == len(effects(records)[0].options)
    assert len(importance_figure(effects(records)).data[0].x) == len(effects(records))
    labels = [
        len(d["tickvals"])
        for d in parallel_figure(records, effects(records)).data[0].dimensions[:-1]
    ]
    assert max(labels) <= 9
    parallel = parallel_figure(records, effects(records)[:2])
    assert [len(d["values"]) for d in parallel.data[0].dimensions] == [60] * 4


@pytest.mark.parametrize("axis", AXES)
def test_published_rows_are_drawn_if_the_source_has_the_number(axis: str) -> None:
    figure = published_figure(published(), axis)
    expected = sum(getattr(r, axis) is not None for r in published())
    assert sum(len(trace.x) for trace in figure.data) == expected
    assert {r.family for r in published()} == set(PUBLISHED_FAMILIES)


def test_published_numbers_agree_with_ours() -> None:
    rows = [r for r in published() if r.family == "mobilenet_v2"]
    assert len(rows) == 22
    for row in rows:
        network = load_reference("mobilenet_v2").replace(alpha=row.alpha, resolution=row.resolution)
        assert row.mult_adds == pytest.approx(measure(network)["mult_adds"], rel=0.1)
