"""An Optuna sampler that knows one of the two objectives before any trial is run."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mbsearch.errors import SpecError
from mbsearch.pareto import pareto_front
from mbsearch.search.acquisition import expected_hypervolume_gain
from mbsearch.search.catalog import Catalog, KnownNetworks, Network, Params
from mbsearch.search.choices import ChoiceSpace
from mbsearch.search.encoding import Encoder
from mbsearch.search.proposals import Proposals
from mbsearch.search.surrogate import Hyperparameters, Posterior, Warp, fit

PARTIAL_ACCURACY = "partial_accuracy"
"""User attribute of a PRUNED trial: the accuracy it would have reached, as far as can be told."""

STARTUP_TRIALS = 8
# Hyperparameters are fitted to at most this many trials, at every trial up to REFIT_ALWAYS and then
# each time the number of trials has grown by REFIT_GROWTH.
FIT_SIZE = 200
REFIT_ALWAYS = 50
REFIT_GROWTH = 1.06
# The best candidates are improved by small changes, this many rounds.
IMPROVED = 8
IMPROVEMENTS = 150
ROUNDS = 2


class CostAwareSampler(BaseSampler):
    """Suggests the network expected to add most to the front of accuracy against a known cost.

    For studies with `directions=["maximize", "minimize"]` whose second objective can be computed
    from the parameters. It starts with networks spread evenly over (log) cost, from the cheapest to
    the dearest. From then on a Gaussian process models the first objective only, and the suggestion
    is the network with the largest expected gain of hypervolume, which has a closed form because
    cost is certain. Trials still running are counted at their predicted value. No network is
    suggested twice while new ones remain; after that the front is measured again, the least
    measured network first. The same seed and history give the same suggestion, in a new process
    too.

    Trials with values outside `search_space` are ignored. A PRUNED trial with a number in its user
    attribute `partial_accuracy` is learned from like a finished one, but is never on the front.

    Args:
        search_space: Name and distribution of every parameter. Suggesting all of them in every
            trial works best; parameters that a trial did not ask for count as inactive in it.
        cost: Exact second objective of a parameter dict. Called often: aim at under a millisecond.
        features: More numbers known of a parameter dict, as many for each; log costs and
            depths are good ones. They are rescaled, so units do not matter.
        canonical: The same network described without its inactive parameters, which are left out of
            the returned dict, and with interchangeable values in one fixed order.
        key: Identity of the network; equal keys are one network. Default: the canonical parameters.
        feasible: Hard limits. A parameter dict for which it is false is never suggested.
        log_cost: Whether hypervolume and start-up count cost on a logarithmic scale.
        startup_trials: Networks known before the model takes over, those of other origin included.
        seed: Makes suggestions reproducible; None draws one.

    Raises:
        SpecError: On use in a study of other directions, an unknown kind of distribution, a cost
            that is not a number (above 0 with `log_cost`), or a space without a feasible network.
    """

    def __init__(
        self,
        search_space: Mapping[str, BaseDistribution],
        cost: Callable[[dict[str, Any]], float],
        *,
        features: Callable[[dict[str, Any]], Sequence[float]] | None = None,
        canonical: Callable[[dict[str, Any]], Params] | None = None,
        key: Callable[[dict[str, Any]], Hashable] | None = None,
        feasible: Callable[[dict[str, Any]], bool] | None = None,
        log_cost: bool = True,
        startup_trials: int = STARTUP_TRIALS,
        seed: int | None = None,
    ) -> None:
        if not search_space:
            raise SpecError("search_space: expected at least one parameter, got none")
        self._search_space = dict(search_space)
        self._catalog = Catalog(
            ChoiceSpace(search_space), cost, features, canonical, key, feasible, log_cost
        )
        self._startup_trials = startup_trials
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
        self._proposals_: Proposals | None = None
        self._encoder_: Encoder | None = None
        self._fitted: tuple[Hashable, Hyperparameters, Warp] | None = None
        self._lock = threading.RLock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole search space: all parameters are suggested together."""
        return dict(self._search_space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters of the next network."""
        _check_directions(study)
        with self._lock:
            history = self._history(study, before=trial)
            network = self._suggest(history, trial.number)
            return self._catalog.space.decode(network.row)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value for a parameter outside the search space."""
        rng = np.random.default_rng([self._seed, trial.number, *param_name.encode()])
        axis = ChoiceSpace({param_name: param_distribution}).axes[0]
        return axis.decode(float(axis.draw(rng, 1)[0]))

    def predict(
        self, study: Study, params: Sequence[Params]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Accuracy the model expects of networks, and the standard deviation of its belief.

        Both are without the noise of a training, in the units of the first objective; the former is
        the median. Raises `SpecError` before two trials have finished and for parameters outside
        the search space.
        """
        _check_directions(study)
        with self._lock:
            history = self._history(study)
            if len(history.measured) < 2:
                raise SpecError("predict: expected at least two finished trials")
            networks = [self._network_of(p) for p in params]
            if any(n is None for n in networks):
                raise SpecError("predict: expected parameters inside the search space")
            posterior, warp = self._posterior(history)
            mean, deviation = posterior.predict(self._encoder([n for n in networks if n]))
            upper, lower = warp.backward(mean + deviation), warp.backward(mean - deviation)
            return warp.backward(mean), (upper - lower) / 2

    def front(self, study: Study) -> list[FrozenTrial]:
        """Finished trials that form the front by the model's means, cheapest first.

        Single accuracies are noisy, and a front of the luckiest ones flatters itself. The model has
        seen each network's relatives too. Before two trials have finished, these are the front.
        """
        _check_directions(study)
        with self._lock:
            history = self._history(study)
            finished = [i for i, t in enumerate(history.trials) if t.state == TrialState.COMPLETE]
            if len(history.measured) < 2:
                return [history.trials[i] for i in finished]
            posterior, _ = self._posterior(history)
            networks = [history.measured[i] for i in finished]
            mean, _ = posterior.predict(self._encoder(networks))
            front = pareto_front(np.round(mean, 9), [n.cost for n in networks])
            return [history.trials[finished[i]] for i in front]

    def exhausted(self, study: Study) -> bool:
        """Whether every feasible network has been tried; only a finite space ever is."""
        with self._lock:
            return self._fresh(self._history(study)) is None

    @property
    def _proposals(self) -> Proposals:
        if self._proposals_ is None:
            self._proposals_ = Proposals(self._catalog, self._seed)
        return self._proposals_

    @property
    def _encoder(self) -> Encoder:
        if self._encoder_ is None:
            self._encoder_ = Encoder(self._catalog.space, self._proposals.sample)
        return self._encoder_

    def _history(self, study: Study, before: FrozenTrial | None = None) -> History:
        measured, accuracies, trials, pending, others, partial = [], [], [], [], [], []
        for trial in sorted(study.get_trials(deepcopy=False), key=lambda t: t.number):
            if trial.state == TrialState.WAITING or (before and trial.number == before.number):
                continue
            row = self._catalog.space.encode(trial.params)
            network = self._network_of(trial.params)
            if row is None or network is None or np.isnan(row).all():
                continue
            if np.isnan(row).any():
                partial.append(row)
            accuracy = _accuracy(trial)
            if accuracy is not None:
                measured.append(network)
                accuracies.append(accuracy)
                trials.append(trial)
            elif trial.state == TrialState.RUNNING:
                pending.append(network)
            else:
                others.append(network)
        known = KnownNetworks([*measured, *pending, *others], partial)
        return History(measured, np.array(accuracies), trials, pending, known)

    def _network_of(self, params: Params) -> Network | None:
        """Network of a trial's parameters; those it did not ask for are inactive."""
        row = self._catalog.space.encode(params)
        if row is None:
            return None
        missing = np.isnan(row)
        if not missing.any():
            return self._catalog.network(row)
        network = self._catalog.network(np.where(missing, 0.0, row))
        return Network(
            network.row,
            network.active & ~missing,
            ("partial", row.tobytes()),
            network.cost,
            network.feasible,
            network.features,
        )

    def _suggest(self, history: History, number: int) -> Network:
        seen = [*history.measured, *history.pending]
        if len(seen) < self._startup_trials or len(history.measured) < 2:
            network = self._proposals.startup(seen, history.known)
        else:
            network = self._most_promising(history, number)
        return network or self._fresh(history) or self._repeat(history)

    def _most_promising(self, history: History, number: int) -> Network | None:
        posterior, warp = self._posterior(history)
        posterior = posterior.believing(self._encoder(history.pending))
        seen = [*history.measured, *history.pending]
        mean, _ = posterior.predict(self._encoder(seen))
        costs = np.array([n.cost for n in seen])
        accuracies = warp.backward(mean)
        margin = 0.05 * (self._proposals.dearest.cost - self._proposals.cheapest.cost)
        reference_point = float(np.min(accuracies)), self._proposals.dearest.cost + margin

        def gains(networks: Sequence[Network]) -> NDArray[np.float64]:
            expected, deviation = posterior.predict(self._encoder(networks))
            return expected_hypervolume_gain(
                expected,
                deviation,
                np.array([n.cost for n in networks]),
                (accuracies, costs),
                reference_point,
                warp,
            )

        front = [seen[i] for i in pareto_front(accuracies, costs)]
        candidates = self._proposals.around(front, history.known, number)
        if not candidates:
            return None
        scores = gains(candidates)
        for step in range(ROUNDS):
            best = [candidates[i] for i in np.argsort(-scores, kind="stable")[:IMPROVED]]
            tried = KnownNetworks(candidates, [])
            relatives = tried.without(
                self._proposals.near(best, history.known, IMPROVEMENTS, (number, step))
            )
            if relatives:
                candidates, scores = (
                    candidates + relatives,
                    np.concatenate([scores, gains(relatives)]),
                )
        return candidates[int(np.argmax(scores))]

    def _posterior(self, history: History) -> tuple[Posterior, Warp]:
        inputs = self._encoder(history.measured)
        count = len(history.measured)
        if count > REFIT_ALWAYS:
            steps = math.floor(math.log(count / REFIT_ALWAYS) / math.log(REFIT_GROWTH) + 1e-9)
            count = math.floor(REFIT_ALWAYS * REFIT_GROWTH**steps)
        chosen = np.unique(np.linspace(0, count - 1, min(count, FIT_SIZE)).astype(int))
        identity = tuple((history.trials[i].number, history.accuracies[i]) for i in chosen)
        if self._fitted is None or self._fitted[0] != identity:
            found = fit(inputs[chosen], self._encoder.columns, history.accuracies[chosen])
            self._fitted = (identity, *found)
        _, parameters, warp = self._fitted
        warped = warp.forward(history.accuracies)
        return Posterior(inputs, self._encoder.columns, warped, parameters), warp

    def _fresh(self, history: History) -> Network | None:
        """Any network not tried yet, when drawing has found none."""
        fresh = history.known.without(self._proposals.sample)
        if fresh:
            return fresh[0]
        return self._catalog.first_unknown(history.known)

    def _repeat(self, history: History) -> Network:
        """The network of the front measured least often: all that is left to learn is noise."""
        if not history.measured:
            return self._proposals.cheapest
        times = Counter(n.key for n in [*history.measured, *history.pending])
        front = pareto_front(history.accuracies, [n.cost for n in history.measured])
        return history.measured[min(front.tolist(), key=lambda i: times[history.measured[i].key])]


@dataclass(frozen=True, slots=True)
class History:
    """What a study holds, by what a sampler may do with it: trials are those of `measured`."""

    measured: list[Network]
    accuracies: NDArray[np.float64]
    trials: list[FrozenTrial]
    pending: list[Network]
    known: KnownNetworks


def _accuracy(trial: FrozenTrial) -> float | None:
    if trial.state == TrialState.COMPLETE:
        value = trial.values[0]
    elif trial.state == TrialState.PRUNED:
        value = trial.user_attrs.get(PARTIAL_ACCURACY, math.nan)
    else:
        return None
    is_number = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if is_number else None


def _check_directions(study: Study) -> None:
    wanted = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    if study.directions != wanted:
        got = ", ".join(d.name.lower() for d in study.directions)
        raise SpecError(
            "CostAwareSampler: expected a study with directions ['maximize', 'minimize'] "
            f"(accuracy, cost), got [{got}]"
        )
