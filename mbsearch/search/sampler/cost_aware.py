"""Optuna sampler for two objectives, of which the second (cost) is known before training."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mbsearch.analysis.pareto import pareto_front
from mbsearch.errors import SpecError
from mbsearch.search.sampler.accuracy_model import AccuracyModel, AccuracyPosterior
from mbsearch.search.sampler.candidates import Candidates, KnownNetworks, Network
from mbsearch.search.sampler.encoding import Encoder
from mbsearch.search.sampler.facts import Describe, Params, SeparateFunctions
from mbsearch.search.sampler.observations import History, read_history
from mbsearch.search.sampler.parameters import ChoiceSpace
from mbsearch.search.sampler.proposals import Budget, Proposals

STARTUP_TRIALS = 8
# Local search: the best candidates are improved by small changes for this many rounds.
IMPROVED = 8
IMPROVEMENTS = 150
ROUNDS = 2
# Variations are made of this many of the best networks within a budget.
PARENTS = 8
# Weight of the novelty of a finalist, in standard deviations of the candidates' bounds. It falls
# with the number of finals: the first ones mostly calibrate short trainings.
DIVERSITY = 4.0
DIVERSITY_HALVED = 8
# Suggestions remembered until the storage shows their parameters (threads of one process).
SUGGESTED_SIZE = 256


class CostAwareSampler(BaseSampler):
    """Optuna sampler that suggests the network expected to improve the accuracy-cost front most.

    For studies with `directions=["maximize", "minimize"]` whose second objective can be computed
    from the parameters. The first suggestions are spread evenly over (log) cost, from the smallest
    to the largest network. Then a Gaussian process models the first objective, and the suggestion
    has the largest expected hypervolume improvement, in closed form because the cost is certain.
    Running trials count at their predicted value. No network is suggested twice while new ones
    remain; after that the networks of the front are measured again, the least measured first. The
    same seed and trials give the same suggestion, in a new process too.

    Trials with values outside `search_space` are ignored. The model also learns from a PRUNED trial
    with a number in its user attribute `partial_accuracy`, but it is never on the front.

    Args:
        search_space: Name and distribution of every parameter. Suggesting all of them in every
            trial works best; parameters that a trial did not ask for are inactive in it.
        cost: Exact second objective of a parameter dict. Called often: aim at under a millisecond.
        describe: All facts of a parameter dict in one call, in the place of `cost` and the other
            functions.
        features: Further numbers known of a parameter dict, such as the logarithm of a second
            cost; the same number of them for each. They are rescaled, so units do not matter.
            Do not repeat parameters or counts of equal choices: the model has them.
        canonical: Parameters of the same network without the inactive ones, and with
            interchangeable values in one fixed order.
        key: Identity of the network; equal keys are one network. Default: the canonical parameters.
        feasible: Whether the network is within the hard limits; others are never suggested.
        log_cost: Whether hypervolume and start-up use the logarithm of the cost.
        work: Effort of a trial, in any unit. The expected gain is then divided by it, which favours
            many cheap trials when the time is limited.
        budgets: For each budget, whether the network is within it; a network within none is not
            feasible. For one budget after the other, the suggestion then has the largest expected
            improvement of the final accuracy over the best network within that budget; it is not
            divided by `work`.
        gain_features: Numbers on which the gain from a short to a long training may depend, the
            same number of them for each network. Their scale does not matter.
        growth: Log odds that the accuracy gains by longer training after a trial. Accuracies must
            then be in [0, 1], and the front is that of the accuracies with this gain.
        start: Parameters of a feasible network, used if random draws find none.
        startup_trials: Number of networks before the model is used, anchors included.
        seed: Seed of the suggestions; None draws one.

    Raises:
        SpecError: The study has other directions, a distribution is of an unknown kind, a cost or
            growth is not a number (above 0 with `log_cost`), a work is not above 0, or no network
            is feasible.
    """

    def __init__(
        self,
        search_space: Mapping[str, BaseDistribution],
        cost: Callable[[dict[str, Any]], float] | None = None,
        *,
        describe: Describe | None = None,
        features: Callable[[dict[str, Any]], Sequence[float]] | None = None,
        canonical: Callable[[dict[str, Any]], Params] | None = None,
        key: Callable[[dict[str, Any]], Hashable] | None = None,
        feasible: Callable[[dict[str, Any]], bool] | None = None,
        log_cost: bool = True,
        work: Callable[[dict[str, Any]], float] | None = None,
        growth: Callable[[dict[str, Any]], float] | None = None,
        budgets: Callable[[dict[str, Any]], Sequence[bool]] | None = None,
        gain_features: Callable[[dict[str, Any]], Sequence[float]] | None = None,
        start: Params | None = None,
        startup_trials: int = STARTUP_TRIALS,
        seed: int | None = None,
    ) -> None:
        if not search_space:
            raise SpecError("search_space: expected at least one parameter, got none")
        self._search_space = dict(search_space)
        space = ChoiceSpace(search_space)
        functions = (features, canonical, key, feasible, work, growth, budgets, gain_features)
        if (cost is None) == (describe is None):
            raise SpecError("CostAwareSampler: expected one of cost and describe, got both or none")
        if cost is not None:
            describe = SeparateFunctions(
                space,
                cost,
                canonical=canonical,
                key=key,
                feasible=feasible,
                features=features,
                work=work,
                growth=growth,
                budgets=budgets,
                gain_features=gain_features,
            )
        elif any(function is not None for function in functions):
            raise SpecError("CostAwareSampler: expected describe alone, got other functions too")
        assert describe is not None
        self._candidates = Candidates(space, describe, log_cost)
        self._startup_trials, self._start = startup_trials, start
        self._seed = int(np.random.SeedSequence(seed).generate_state(1, np.uint32)[0])
        self._suggested: dict[int, Network] = {}
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole search space: all parameters are suggested together."""
        return dict(self._search_space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the next network."""
        _check_directions(study)
        with self._lock:
            history = self._history(study, skip=trial.number)
            network = self._suggest(history, trial.number)
            self._suggested[trial.number] = network
            if len(self._suggested) > SUGGESTED_SIZE:
                del self._suggested[next(iter(self._suggested))]
            return self._candidates.space.decode(network.row)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value for a parameter outside the search space."""
        rng = np.random.default_rng([self._seed, trial.number, *param_name.encode()])
        axis = ChoiceSpace({param_name: param_distribution}).axes[0]
        return axis.decode(float(axis.draw(rng, 1)[0]))

    def predict(
        self, study: Study, params: Sequence[Params]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the posterior median and standard deviation of networks' accuracies.

        Both are without the noise of a training, in the units of the first objective, with the
        `growth`. Raises `SpecError` before two trials have an accuracy, and for parameters outside
        the search space.
        """
        _check_directions(study)
        with self._lock:
            history = self._history(study)
            if len(history.measured) < 2:
                raise SpecError("predict: expected at least two completed trials")
            networks = []
            for one in params:
                network = self._candidates.network_of(one)
                if network is None:
                    raise SpecError(f"predict: {dict(one)!r} is not in the search space")
                networks.append(network)
            return self._model.given(history).accuracy(networks)

    def front(self, study: Study) -> list[FrozenTrial]:
        """Return the completed trials on the front of predicted accuracy, sorted by cost.

        A front of measured accuracies is too optimistic: they are noisy, and it selects the
        luckiest. Before two trials have an accuracy, all completed trials are returned.
        """
        _check_directions(study)
        with self._lock:
            history = self._history(study)
            completed = _completed(history)
            if len(history.measured) < 2:
                return list(completed.values())
            networks = [history.measured[i] for i in completed]
            accuracies, _ = self._model.given(history).accuracy(networks)
            front = pareto_front(np.round(accuracies, 9), [n.cost for n in networks])
            trials = list(completed.values())
            return [trials[i] for i in front]

    def finalists(
        self, study: Study, count: int, *, budget: int | None = None, begun: Collection[int] = ()
    ) -> list[int]:
        """Return the numbers of up to `count` completed trials to train as finals next.

        For one budget after the other, choose the trial with the highest upper confidence bound of
        its final accuracy plus a bonus for novelty: a low correlation, by the model's kernel, with
        networks that have a final or are chosen already. With `budget` all are within that budget.
        Trials whose final has `begun` are left out.
        """
        _check_directions(study)
        with self._lock:
            history = self._history(study)
            if len(history.measured) < 2:
                return []
            posterior = self._model.given(history)
            running = {
                i for i, t in enumerate(history.trials) if t is not None and t.number in begun
            }
            had = history.has_final | running
            waiting = [i for i in _completed(history) if i not in had]
            taken, chosen = sorted(had), list[int]()
            budgets = len(self._proposals.smallest.within)
            for turn in range(count):
                inside = [
                    i
                    for i in waiting
                    if i not in chosen
                    and (
                        not budgets
                        or history.measured[i].within[turn % budgets if budget is None else budget]
                    )
                ]
                if inside:
                    known = [history.measured[i] for i in [*taken, *chosen]]
                    scores = _finalist_scores(
                        posterior, [history.measured[i] for i in inside], known
                    )
                    chosen.append(inside[int(np.argmax(scores))])
            return [trial.number for i in chosen if (trial := history.trials[i]) is not None]

    def exhausted(self, study: Study) -> bool:
        """Return whether every feasible network has been tried; false for infinite spaces."""
        with self._lock:
            return self._fresh(self._history(study)) is None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @cached_property
    def _proposals(self) -> Proposals:
        return Proposals(self._candidates, self._seed, self._start)

    @cached_property
    def _model(self) -> AccuracyModel:
        return AccuracyModel(Encoder(self._candidates.space, self._proposals.sample))

    def _history(self, study: Study, skip: int | None = None) -> History:
        return read_history(study, self._candidates, self._suggested, skip)

    def _suggest(self, history: History, number: int) -> Network:
        starting = len(history.seen) < self._startup_trials or len(history.measured) < 2
        proposals = self._proposals
        network: Network | None
        if proposals.smallest.within:
            budget = proposals.budget(len(history.seen) % len(proposals.smallest.within))
            if starting:
                network = proposals.startup_within(budget, history.seen, history.known)
            else:
                network = self._best_within(budget, history, number)
        elif starting:
            network = proposals.startup(history.seen, history.known)
        else:
            network = self._most_promising(history, number)
        return network or self._fresh(history) or self._repeat(history)

    def _most_promising(self, history: History, number: int) -> Network | None:
        """Return the candidate with the largest expected hypervolume gain per unit of work."""
        proposals, known = self._proposals, history.known
        posterior = self._model.given(history).with_pending(history.pending)
        accuracies, _ = posterior.accuracy(history.seen)
        costs = np.array([n.cost for n in history.seen])
        # Without the margin the largest networks could not improve the hypervolume.
        margin = 0.05 * (proposals.largest.cost - proposals.smallest.cost) or 1.0
        reference_point = float(np.min(accuracies)), proposals.largest.cost + margin

        def gains(networks: Sequence[Network]) -> NDArray[np.float64]:
            gain = posterior.hypervolume_gain(networks, (accuracies, costs), reference_point)
            return np.asarray(gain / np.array([n.work for n in networks]))

        front = [history.seen[i] for i in pareto_front(accuracies, costs)]
        return self._improved(proposals.around(front, known, number), gains, known, number)

    def _best_within(self, budget: Budget, history: History, number: int) -> Network | None:
        """Return the candidate with the largest expected improvement within a budget.

        The improvement is that over the best known network within the budget.
        """
        posterior = self._model.given(history).with_pending(history.pending)
        accuracies, _ = posterior.accuracy(history.seen)
        inside = [i for i, n in enumerate(history.seen) if budget.holds(n)]
        inside.sort(key=lambda i: -accuracies[i])
        incumbent = float(accuracies[inside[0]] if inside else np.min(accuracies))
        parents = [history.seen[i] for i in inside[:PARENTS]] or [budget.largest]
        candidates = self._proposals.around_best(parents, budget, history.known, number)

        def gains(networks: Sequence[Network]) -> NDArray[np.float64]:
            gain = posterior.expected_improvement(networks, incumbent)
            return np.where([budget.holds(n) for n in networks], gain, -1.0)

        return self._improved(candidates, gains, history.known, number)

    def _improved(
        self,
        candidates: list[Network],
        gains: Callable[[Sequence[Network]], NDArray[np.float64]],
        known: KnownNetworks,
        number: int,
    ) -> Network | None:
        """Improve the candidates by local search, and return the one with the largest gain."""
        if not candidates:
            return None
        scores = gains(candidates)
        for step in range(ROUNDS):
            best = [candidates[i] for i in np.argsort(-scores, kind="stable")[:IMPROVED]]
            changed = self._proposals.near(best, known, IMPROVEMENTS, (number, step))
            relatives = KnownNetworks(candidates).without(changed)
            if relatives:
                candidates = candidates + relatives
                scores = np.concatenate([scores, gains(relatives)])
        return candidates[int(np.argmax(scores))]

    def _fresh(self, history: History) -> Network | None:
        """Return any network that has not been tried, or None."""
        fresh = history.known.without(self._proposals.sample)
        return fresh[0] if fresh else self._candidates.first_unknown(history.known)

    def _repeat(self, history: History) -> Network:
        """Return the front's network with the fewest trials; used when the space is exhausted."""
        if not history.measured:
            return self._proposals.smallest
        times = Counter(n.key for n in history.seen)
        front = pareto_front(history.accuracies, [n.cost for n in history.measured])
        return history.measured[min(front.tolist(), key=lambda i: times[history.measured[i].key])]


def _completed(history: History) -> dict[int, FrozenTrial]:
    """Return the completed trials by their index among the measured networks."""
    return {
        i: trial
        for i, trial in enumerate(history.trials)
        if trial is not None and trial.state == TrialState.COMPLETE
    }


def _finalist_scores(
    posterior: AccuracyPosterior, networks: Sequence[Network], known: Sequence[Network]
) -> NDArray[np.float64]:
    """Return upper confidence bounds of final accuracies, plus a bonus for novelty."""
    accuracies, deviations = posterior.accuracy(networks)
    bounds = accuracies + deviations
    if not known:
        return bounds
    novelty = 1 - posterior.correlation(networks, known).max(axis=1)
    weight = DIVERSITY / (1 + len(known) / DIVERSITY_HALVED)
    return np.asarray(bounds + weight * np.std(bounds) * novelty / max(novelty.max(), 1e-12))


def _check_directions(study: Study) -> None:
    wanted = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    if study.directions != wanted:
        got = ", ".join(repr(d.name.lower()) for d in study.directions)
        raise SpecError(
            "CostAwareSampler: expected a study with directions ['maximize', 'minimize'] "
            f"(accuracy, cost), got [{got}]"
        )
