"""Model of a network's accuracy: a posterior distribution given a study's trials."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mbsearch.search.sampler.acquisition import expected_hypervolume_gain
from mbsearch.search.sampler.candidates import Network
from mbsearch.search.sampler.encoding import Encoder
from mbsearch.search.sampler.gaussian_process import (
    Hyperparameters,
    Posterior,
    Warp,
    fit,
    own_noise,
)
from mbsearch.search.sampler.observations import History

Array = NDArray[np.float64]

# Hyperparameters are fitted to at most FIT_SIZE trials: after every trial up to REFIT_ALWAYS, then
# each time the number of trials has increased by the factor REFIT_GROWTH. Which trials they are
# fitted to depends on the number of trials alone, so that a restart changes nothing.
FIT_SIZE = 200
REFIT_ALWAYS = 50
REFIT_GROWTH = 1.06


@dataclass(frozen=True, slots=True)
class AccuracyPosterior:
    """Posterior distribution of accuracies, in the study's units."""

    encoder: Encoder
    posterior: Posterior
    warp: Warp

    def accuracy(self, networks: Sequence[Network]) -> tuple[Array, Array]:
        """Return the median and standard deviation of each network's noise-free accuracy."""
        mean, deviation = self.posterior.predict(self.encoder(networks))
        upper, lower = self.warp.backward(mean + deviation), self.warp.backward(mean - deviation)
        return self.warp.backward(mean), (upper - lower) / 2

    def hypervolume_gain(
        self,
        networks: Sequence[Network],
        front: tuple[Array, Array],
        reference_point: tuple[float, float],
    ) -> Array:
        """Return each network's expected hypervolume improvement over a front.

        The `front` is a pair of arrays: accuracies and costs.
        """
        mean, deviation = self.posterior.predict(self.encoder(networks))
        costs = np.array([n.cost for n in networks])
        return expected_hypervolume_gain(mean, deviation, costs, front, reference_point, self.warp)

    def expected_improvement(self, networks: Sequence[Network], incumbent: float) -> Array:
        """Expected improvement of networks' accuracy over `incumbent`, in the study's units."""
        mean, deviation = self.posterior.predict(self.encoder(networks))
        return self.warp.expected_excess(mean, deviation, np.array(incumbent))

    def correlation(self, networks: Sequence[Network], others: Sequence[Network]) -> Array:
        """Return the kernel's prior correlation (n, m) between networks and `others`."""
        return self.posterior.correlation(self.encoder(networks), self.encoder(others))

    def with_pending(self, pending: Sequence[Network]) -> AccuracyPosterior:
        """Return the posterior as if running networks had their predicted accuracies."""
        return replace(self, posterior=self.posterior.with_pending(self.encoder(pending)))


class AccuracyModel:
    """Fits an `AccuracyPosterior` to trials, and caches the fitted hyperparameters."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._fitted: tuple[Hashable, Hyperparameters, Warp] | None = None

    def given(self, history: History) -> AccuracyPosterior:
        """Return the posterior for a history with at least two accuracies."""
        columns, accuracies, deviations = (
            self._encoder.columns,
            history.accuracies,
            history.deviations,
        )
        inputs = self._encoder(history.measured)
        chosen = _trials_to_fit(len(history.measured))
        data = inputs[chosen], accuracies[chosen], deviations[chosen]
        identity = tuple(array.tobytes() for array in data)
        if self._fitted is None or self._fitted[0] != identity:
            self._fitted = (identity, *fit(data[0], columns, data[1], data[2]))
        _, parameters, warp = self._fitted
        own = own_noise(warp, accuracies, deviations)
        posterior = Posterior(inputs, columns, warp.forward(accuracies), parameters, own)
        return AccuracyPosterior(self._encoder, posterior, warp)


def _trials_to_fit(measured: int) -> NDArray[np.intp]:
    """Return evenly spaced indices of the trials that existed at the last refit."""
    count = measured
    if measured > REFIT_ALWAYS:
        refits = math.floor(math.log(measured / REFIT_ALWAYS) / math.log(REFIT_GROWTH) + 1e-9)
        count = math.floor(REFIT_ALWAYS * REFIT_GROWTH**refits)
    return np.unique(np.linspace(0, count - 1, min(count, FIT_SIZE)).astype(np.intp))
