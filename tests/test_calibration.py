from __future__ import annotations

import numpy as np
import pytest

from mbsearch.analysis.calibration import GainModel


def networks(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits after the short training, and two features."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.4, count), rng.normal(0, 3.0, (count, 2))


def fit(short: np.ndarray, longer: np.ndarray, features: np.ndarray) -> GainModel:
    gain = GainModel.fit(short, longer, features, features)
    assert gain is not None
    return gain


def test_many_clear_pairs_show_slope_effects_and_residual() -> None:
    short, features = networks(200)
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    gain = fit(short, 1.0 + 0.5 * short + 0.06 * features[:, 0] + noise, features)
    assert gain.slope == pytest.approx(0.5, abs=0.05)
    assert gain.effects / gain.scale == pytest.approx([0.06, 0.0], abs=0.01)
    assert gain.deviation == pytest.approx(0.1, rel=0.2)


def test_eight_clear_pairs_reverse_the_ranking_and_three_do_not() -> None:
    short, features = networks(8, seed=1)
    longer = 1.0 - 0.8 * short
    assert fit(short, longer, features).slope < -0.3
    assert fit(short[:3], longer[:3], features[:3]).slope > 0.5
    assert GainModel.fit(short[:2], longer[:2], features[:2], features) is None


def test_equal_networks_keep_the_slope_of_one() -> None:
    features = np.ones((4, 2))
    gain = fit(np.zeros(4), np.array([0.4, 0.6, 0.5, 0.5]), features)
    assert gain.slope == 1
    assert gain.predict(np.array([1.0]), features[:1]) == pytest.approx([1.5])
