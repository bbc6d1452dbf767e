"""What is known of a network before training: cost, limits, identity and features."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mbsearch.search.sampler.parameters import ChoiceSpace

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sampler knows of a parameter set before training; only the cost is required.

    Args:
        cost: the second objective, exactly.
        canonical: the parameters without the inactive ones, and with interchangeable values in one
            fixed order. None: every parameter is active.
        key: identity of the network: equal keys are one network. None: the canonical parameters.
        feasible: whether the network is within the hard limits; others are never suggested.
        features: further numbers, the same number of them for each network, such as the logarithm
            of another cost. Their scale does not matter.
        work: effort of the trial, in any unit; the gain of a suggestion is divided by it.
        growth: log odds that the accuracy gains by longer training after the trial.
        within: for each budget, whether the network is within it. Empty: there are no budgets.
        gain_features: numbers on which the gain from a short to a long training may depend. Their
            scale does not matter.
    """

    cost: float
    canonical: Params | None = None
    key: Hashable | None = None
    feasible: bool = True
    features: tuple[float, ...] = ()
    work: float = 1.0
    growth: float = 0.0
    within: tuple[bool, ...] = ()
    gain_features: tuple[float, ...] = ()


Describe = Callable[[dict[str, Any]], Facts]
"""A function from the parameters of a network to its facts."""


@dataclass(frozen=True, slots=True)
class SeparateFunctions:
    """Build `Facts` from one function per field; a field without a function has its default."""

    space: ChoiceSpace
    cost: Callable[[dict[str, Any]], float]
    canonical: Callable[[dict[str, Any]], Params] | None = None
    key: Callable[[dict[str, Any]], Hashable] | None = None
    feasible: Callable[[dict[str, Any]], bool] | None = None
    features: Callable[[dict[str, Any]], Sequence[float]] | None = None
    work: Callable[[dict[str, Any]], float] | None = None
    growth: Callable[[dict[str, Any]], float] | None = None
    budgets: Callable[[dict[str, Any]], Sequence[bool]] | None = None
    gain_features: Callable[[dict[str, Any]], Sequence[float]] | None = None

    def __call__(self, params: dict[str, Any]) -> Facts:
        """Return the facts of one network; functions get its canonical parameters."""
        kept = None if self.canonical is None else self.canonical(dict(params))
        if kept is not None:
            params = self.space.with_values(params, kept)
        within = () if self.budgets is None else tuple(map(bool, self.budgets(dict(params))))
        feasible = self.feasible is None or bool(self.feasible(dict(params)))
        return Facts(
            cost=self.cost(dict(params)),
            canonical=kept,
            key=None if self.key is None else self.key(dict(params)),
            feasible=feasible,
            features=_numbers(self.features, params),
            work=1.0 if self.work is None else self.work(dict(params)),
            growth=0.0 if self.growth is None else self.growth(dict(params)),
            within=within,
            gain_features=_numbers(self.gain_features, params),
        )


def _numbers(
    function: Callable[[dict[str, Any]], Sequence[float]] | None, params: dict[str, Any]
) -> tuple[float, ...]:
    return () if function is None else tuple(map(float, function(dict(params))))
