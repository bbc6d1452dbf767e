"""Networks of a search space, with the facts known before training: cost, limits, identity."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbsearch.errors import SpecError
from mbsearch.search.sampler.facts import Describe, Facts, Params
from mbsearch.search.sampler.parameters import ChoiceSpace, Rows

CACHE_SIZE = 20_000
# Parameter sets that are enumerated at most when random draws find no new network.
WALK_LIMIT = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A row of the search space and its `Facts`, with the cost on the sampler's scale.

    This is the log cost, unless the sampler was made with ``log_cost=False``.

    `key` is None for the network of a trial that did not ask for every parameter. Every network
    with the same active parameters is then the same network.
    """

    row: Rows
    active: NDArray[np.bool_]
    key: Hashable | None
    cost: float
    feasible: bool
    features: tuple[float, ...]
    work: float = 1.0
    growth: float = 0.0
    within: tuple[bool, ...] = ()
    gain_features: tuple[float, ...] = ()


class KnownNetworks:
    """Set of the networks that must not be suggested again.

    A trial of a define-by-run study has only the parameters that it asked for. Any network with the
    same values of these would take the same path, and so is the same network.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self._keys = {n.key for n in networks if n.key is not None}
        self._partial = np.array(
            [np.where(n.active, n.row, math.nan) for n in networks if n.key is None]
        )

    def __contains__(self, network: Network) -> bool:
        if network.key in self._keys:
            return True
        if len(self._partial) == 0:
            return False
        same = (self._partial == network.row) | np.isnan(self._partial)
        return bool(same.all(axis=1).any())

    def without(self, networks: Sequence[Network]) -> list[Network]:
        """Return the networks that are not in this set, without duplicates."""
        fresh: dict[Hashable | None, Network] = {}
        for network in networks:
            if network.key not in fresh and network not in self:
                fresh[network.key] = network
        return list(fresh.values())


class Candidates:
    """Networks of a search space by their rows, with a bounded cache."""

    def __init__(self, space: ChoiceSpace, describe: Describe, log_cost: bool) -> None:
        self.space, self._facts, self._log_cost = space, describe, log_cost
        self._cache: OrderedDict[bytes, Network] = OrderedDict()
        self._rows: dict[tuple[tuple[str, Any], ...], Rows | None] = {}
        self._walked = 0  # parameter sets
        self._met: dict[Hashable | None, Network] = {}  # feasible networks among them

    def network(self, row: Rows) -> Network:
        """Return the network of a row that has no NaN."""
        address = row.tobytes()
        if (found := self._cache.get(address)) is not None:
            self._cache.move_to_end(address)
            return found
        found = self._cache[address] = self._describe(row)
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)
        return found

    def network_of(self, params: Params) -> Network | None:
        """Return the network of a trial's parameters, or None if the space has no such network.

        Parameters that a define-by-run trial did not ask for are inactive. The facts are those of
        the network with their first values.
        """
        # Every suggestion reads all trials, so the rows of their parameters are cached.
        address = tuple(params.items())
        if address not in self._rows:
            if len(self._rows) >= CACHE_SIZE:
                self._rows.clear()
            self._rows[address] = self.space.encode(params)
        row = self._rows[address]
        if row is None:
            return None
        missing = np.isnan(row)
        if missing.all():
            return None
        if not missing.any():
            return self.network(row)
        full = self.network(np.where(missing, 0.0, row))
        return replace(full, active=full.active & ~missing, key=None)

    def networks(self, rows: Iterable[Rows]) -> list[Network]:
        """Return the feasible networks among several rows."""
        return [found for row in rows if (found := self.network(row)).feasible]

    def half(self, cost: float) -> float:
        """Return half of a cost; argument and result are on the sampler's scale."""
        return cost - math.log(2) if self._log_cost else cost / 2

    def first_unknown(self, known: KnownNetworks) -> Network | None:
        """Enumerate the space, and return its first feasible network not in `known`, or None.

        Used when random draws find nothing new. Returns None if a finite space of at most
        `WALK_LIMIT` parameter sets is exhausted.
        """
        if (met := next((n for n in self._met.values() if n not in known), None)) is not None:
            return met
        end = min(self.space.size or 0, WALK_LIMIT)
        if self._walked == end:
            return None
        for row in islice(self.space.all_rows(), self._walked, end):
            self._walked += 1
            network = self.network(row)
            if network.feasible:
                self._met[network.key] = network
                if network not in known:
                    return network
        return None

    def smallest(self, start: Iterable[Network], budget: int | None = None) -> Network | None:
        """Descend from `start` to the feasible network of lowest cost, within a budget if given."""
        return self._extreme(start, 1.0, budget)

    def largest(self, start: Iterable[Network], budget: int | None = None) -> Network | None:
        """Ascend from `start` to the feasible network of highest cost, within a budget if given."""
        return self._extreme(start, -1.0, budget)

    def _extreme(self, start: Iterable[Network], sign: float, budget: int | None) -> Network | None:
        def rank(network: Network) -> tuple[bool, float]:
            return not _is_allowed(network, budget), sign * network.cost

        best = min(start, key=rank, default=None)
        improved = best is not None
        while best is not None and improved:
            improved = False
            # One parameter at a time, keeping each gain. If the cost is monotonic in every
            # parameter, whatever the others are, one pass finds the exact extreme.
            for i in np.flatnonzero(best.active):
                only = np.zeros(len(best.row), dtype=bool)
                only[i] = True
                for row in self.space.neighbours(best.row, only, reach=64):
                    other = self.network(row)
                    if rank(other) < rank(best):
                        best, improved = other, True
        return best if best is not None and _is_allowed(best, budget) else None

    def _describe(self, row: Rows) -> Network:
        params = self.space.decode(row)
        facts = self._facts(dict(params))
        active = np.ones(len(row), dtype=bool)
        if facts.canonical is not None:
            active = np.array([axis.name in facts.canonical for axis in self.space.axes])
            ordered = self.space.with_values(params, facts.canonical)
            if ordered != params and (whole := self.space.encode(ordered)) is not None:
                row = whole
        _check(facts, params, self._log_cost)
        within = tuple(facts.within)
        return Network(
            row=row,
            active=active,
            key=np.where(active, row, math.nan).tobytes() if facts.key is None else facts.key,
            cost=math.log(facts.cost) if self._log_cost else float(facts.cost),
            feasible=facts.feasible and (not within or any(within)),
            features=tuple(facts.features),
            work=float(facts.work),
            growth=float(facts.growth),
            within=within,
            gain_features=tuple(facts.gain_features),
        )


def _check(facts: Facts, params: Params, log_cost: bool) -> None:
    """Raise a `SpecError` if cost, work or growth is not a number in its range."""
    cost, work, growth = facts.cost, facts.work, facts.growth
    if not math.isfinite(cost) or (log_cost and cost <= 0):
        wanted = "a number above 0 (or log_cost=False)" if log_cost else "a finite number"
        raise SpecError(f"cost: expected {wanted}, got {cost!r} for {params!r}")
    if not 0 < work < math.inf:
        raise SpecError(f"work: expected a number above 0, got {work!r} for {params!r}")
    if not math.isfinite(growth):
        raise SpecError(f"growth: expected a finite number, got {growth!r} for {params!r}")


def _is_allowed(network: Network, budget: int | None) -> bool:
    """Return whether a network is feasible and within the budget, if one is given."""
    return network.feasible and (budget is None or network.within[budget])
