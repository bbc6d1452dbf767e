"""Networks on the same images: differences, finalists, pooled margins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from mbsearch.analysis.intervals import Interval
from mbsearch.analysis.paired_comparison import (
    Cell,
    Correct,
    compare,
    pooled_margin,
    posterior,
    seed_deviation_of,
)
from mbsearch.study.noise import standard_error

SEED_DEVIATION = 0.006  # of accuracies
LOGIT_DEVIATION = SEED_DEVIATION / (0.87 * 0.13)


def finals(
    rng: np.random.Generator,
    accuracies: NDArray[np.float64],
    images: int = 500,
    seeds: int = 1,
    seed_deviation: float = SEED_DEVIATION,
) -> list[Correct]:
    """Trainings of networks of known true accuracies on images that are hard for all of them.

    A probit model: an image has a difficulty, a network an ability, a training an effect of its
    seed; what is left is noise of the image.
    """
    difficulty, shared = rng.standard_normal(images), 0.85
    found: list[Correct] = []
    for ability in norm.ppf(accuracies):
        deviation = seed_deviation / norm.pdf(ability)
        trainings = []
        for _ in range(seeds):
            level = ability * math.sqrt(1 + deviation**2) + deviation * rng.standard_normal()
            noise = math.sqrt(1 - shared**2) * rng.standard_normal(images)
            trainings.append(level + shared * difficulty + noise > 0)
        found.append(trainings)
    return found


def correct(rng: np.random.Generator, seeds: int, images: int, p: float = 0.8) -> Correct:
    return list(rng.random((seeds, images)) < p)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_interval_of_a_difference_covers_the_true_one(seeds: int) -> None:
    rng, inside, widths = np.random.default_rng(0), [], []
    for _ in range(300):
        truth = 0.87 + 0.01 * rng.standard_normal(2)
        a, b = finals(rng, truth, seeds=seeds)
        found = compare(a, b, LOGIT_DEVIATION)
        inside.append(found.low <= truth[0] - truth[1] <= found.high)
        widths.append(found.high - found.low)
    assert 0.91 <= np.mean(inside) <= 0.985
    unpaired = 2 * 1.96 * math.sqrt(2) * standard_error(0.87, 500, LOGIT_DEVIATION)
    assert np.mean(widths) < 0.85 * unpaired, "shared images cancel"


def test_a_network_against_itself_differs_by_no_more_than_its_seeds() -> None:
    a = correct(np.random.default_rng(0), 1, 1000)
    none, seeds = compare(a, a, 0.0), compare(a, a, 0.1)
    assert (none.mean, none.low, none.high) == pytest.approx((0, 0, 0), abs=3e-3)
    assert seeds.mean == 0
    assert seeds.high == pytest.approx(1.96 * math.sqrt(2) * 0.1 * 0.8 * 0.2, rel=0.1)
    assert not seeds.significant
    assert -0.05 <= seeds.low < -0.01
    assert 0.01 < seeds.high <= 0.05


def test_exchanging_the_networks_exchanges_the_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = correct(rng, 2, 3000, 0.8), correct(rng, 3, 3000, 0.75)
    one, other = compare(a, b), compare(b, a)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high, abs=0.003)
    assert one.significant
    assert one.images == 3000


def test_extreme_networks_stay_within_one() -> None:
    right, wrong = [np.ones(3, bool)], [np.zeros(3, bool)]
    found = compare(right, wrong, 3.0)
    assert -1 <= found.low <= found.mean <= found.high <= 1
    after = posterior([right, wrong], [0.5, 0.5], 0.5)
    mean, low, high = after.margin(0, 1)
    assert -1 <= low <= mean <= high <= 1


def test_networks_of_other_images_are_refused() -> None:
    rng = np.random.default_rng(0)
    a, b = correct(rng, 1, 10), correct(rng, 1, 11)
    with pytest.raises(ValueError, match="the same images"):
        compare(a, b)
    with pytest.raises(ValueError, match="the same images"):
        posterior([a, b], [0.5, 0.5], 0.01)
    with pytest.raises(ValueError, match="2 prior means"):
        posterior([a, a], [0.5], 0.01)
    with pytest.raises(ValueError, match="at least one cell"):
        pooled_margin([], {})


@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.15])
def test_the_deviation_over_seeds_is_estimated_without_the_noise_of_images(
    deviation: float,
) -> None:
    rng = np.random.default_rng(0)
    networks = finals(
        rng,
        rng.uniform(0.8, 0.9, 60),
        images=2000,
        seeds=3,
        seed_deviation=deviation * 0.85 * 0.15,
    )
    assert seed_deviation_of(networks) == pytest.approx(deviation, abs=0.03)


# Finalists: 8 networks, of which the first is the reference and the best of the others is chosen.


@pytest.mark.parametrize("spread", [0.01, 0.015, 0.02])
def test_the_margin_of_the_chosen_finalist_is_not_overestimated(spread: float) -> None:
    rng = np.random.default_rng(1)
    inside, inside_naive, half, half_naive, error, error_naive = [], [], [], [], [], []
    for _ in range(300):
        truth = 0.87 + spread * rng.standard_normal(8)
        networks = finals(rng, truth)
        after = posterior(networks, [0.8] * 8, SEED_DEVIATION)
        chosen = max(range(1, 8), key=after.mean.__getitem__)
        mean, low, high = after.margin(chosen, 0)
        inside.append(low <= truth[chosen] - truth[0] <= high)
        half.append((high - low) / 2)
        error.append(mean - (truth[chosen] - truth[0]))
        observed = [float(np.mean(network)) for network in networks]
        chosen = 1 + int(np.argmax(observed[1:]))
        naive = compare(networks[chosen], networks[0], LOGIT_DEVIATION)
        inside_naive.append(naive.low <= truth[chosen] - truth[0] <= naive.high)
        half_naive.append((naive.high - naive.low) / 2)
        error_naive.append(naive.mean - (truth[chosen] - truth[0]))
    assert np.mean(inside) >= 0.9
    assert abs(np.mean(error)) < 0.003
    if spread == 0.01:  # the best of networks that are further apart is easier to see
        assert np.mean(inside) > np.mean(inside_naive) + 0.02
        assert np.mean(error_naive) > 0.004, "the winner's curse"


def test_prior_means_decide_if_the_images_do_not() -> None:
    rng = np.random.default_rng(0)
    networks = finals(rng, np.full(4, 0.87), images=100)
    prior = np.array([0.80, 0.80, 0.80, 0.90])
    assert posterior(networks, prior, 0.01, prior_deviation=0.001).mean.argmax() == 3
    loose = posterior(networks, prior, 0.01, prior_deviation=10.0)
    observed = [float(np.mean(network)) for network in networks]
    assert loose.mean == pytest.approx(observed, abs=0.002)


def test_an_error_that_all_prior_means_share_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    networks = finals(rng, np.array([0.85, 0.86, 0.88]))
    low, high = (posterior(networks, [level] * 3, 0.006) for level in (0.5, 0.9))
    for i, j in ((0, 1), (2, 0)):
        assert low.margin(i, j) == pytest.approx(high.margin(i, j), abs=1e-3)


def test_finalists_with_equal_predictions_have_no_margin() -> None:
    network = correct(np.random.default_rng(0), 1, 500)
    after = posterior([network] * 3, [0.8] * 3, 0.0)
    mean, low, high = after.margin(0, 2)
    assert (mean, low, high) == pytest.approx((0, 0, 0), abs=5e-3)
    assert after.mean[1] == pytest.approx(after.mean[2])


# Scoreboards


def test_a_pooled_margin_is_the_mean_of_its_cells() -> None:
    rng = np.random.default_rng(0)
    networks = {
        (data, name): correct(rng, 3, images, p)
        for data, images in (("photos", 700), ("clothes", 2000))
        for name, p in (("answer", 0.83), ("v2", 0.80))
    }
    cells = [Cell(data, "answer", "v2") for data in ("photos", "clothes")]
    pooled = pooled_margin(cells, networks)
    singles = [
        compare(networks[cell.data, "answer"], networks[cell.data, "v2"], 0.05) for cell in cells
    ]
    assert pooled.mean == pytest.approx(np.mean([each.mean for each in singles]))
    assert pooled.images == 2700

    def half(each: Interval) -> float:
        return (each.high - each.low) / 2

    expected = math.hypot(*map(half, singles)) / 2
    pooled = pooled_margin(cells, networks, 0.05)
    assert half(pooled) == pytest.approx(expected, rel=0.08)
    once_more = pooled_margin(cells * 5, networks, 0.05)
    assert half(once_more) == pytest.approx(half(pooled), rel=0.05), "no new images, no new seeds"


def test_cells_that_share_images_and_a_reference_are_covered() -> None:
    rng, inside, alone = np.random.default_rng(0), [], []
    for _ in range(300):
        truth = 0.87 + 0.01 * rng.standard_normal(4)
        found = finals(rng, truth, images=700, seeds=3)
        networks = {("photos", str(i)): each for i, each in enumerate(found)}
        cells = [Cell("photos", str(i), "0") for i in (1, 2, 3)]
        margin, expected = pooled_margin(cells, networks), truth[1:].mean() - truth[0]
        inside.append(margin.low <= expected <= margin.high)
        single = compare(found[1], found[0])
        half = (single.high - single.low) / 2 / math.sqrt(3)
        alone.append(abs(margin.mean - expected) <= half)
    assert 0.91 <= np.mean(inside) <= 0.985
    assert np.mean(alone) < np.mean(inside) - 0.03, "as if the cells were independent"
