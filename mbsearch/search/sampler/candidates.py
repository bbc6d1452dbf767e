"""What is known of every network for nothing: cost, feasibility, identity, features."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbsearch.errors import SpecError
from mbsearch.search.sampler.parameters import ChoiceSpace, Rows

Params = Mapping[str, Any]

CACHE_SIZE = 20_000
# How many parameter sets are walked through, at most, when drawing finds nothing new.
WALK_LIMIT = 50_000


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A parameter set and its free facts; `cost` is on the scale of the search (log cost).

    `work` is what its training takes, beside that of others, and `growth` the log odds of accuracy
    that it will gain after it, beside them.

    `within` tells for each budget whether the network keeps within it, and `gain_features` are the
    numbers on which the gain from a short to a long training may depend.

    `key` is None when the network is that of a trial that did not ask for every parameter: any
    network that agrees in the active ones is the same.
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
    """Networks that must not be suggested again.

    A trial of a define-by-run study names only the parameters it asked for. Any network that agrees
    with it in those would take the same path, and so is the same network.
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
        """Those that are new, each once."""
        fresh: dict[Hashable | None, Network] = {}
        for network in networks:
            if network.key not in fresh and network not in self:
                fresh[network.key] = network
        return list(fresh.values())


class Catalog:
    """Looks networks up by their row, and remembers a bounded number of them."""

    def __init__(
        self,
        space: ChoiceSpace,
        cost: Callable[[dict[str, Any]], float],
        features: Callable[[dict[str, Any]], Sequence[float]] | None,
        canonical: Callable[[dict[str, Any]], Params] | None,
        key: Callable[[dict[str, Any]], Hashable] | None,
        feasible: Callable[[dict[str, Any]], bool] | None,
        log_cost: bool,
        work: Callable[[dict[str, Any]], float] | None,
        growth: Callable[[dict[str, Any]], float] | None,
        budgets: Callable[[dict[str, Any]], Sequence[bool]] | None,
        gain_features: Callable[[dict[str, Any]], Sequence[float]] | None,
    ) -> None:
        self.space, self.has_budgets = space, budgets is not None
        self._cost, self._features, self._canonical = cost, features, canonical
        self._key, self._feasible, self._log_cost = key, feasible, log_cost
        self._work, self._growth = work, growth
        self._budgets, self._gain_features = budgets, gain_features
        self._cache: OrderedDict[bytes, Network] = OrderedDict()
        self._rows: dict[tuple[tuple[str, Any], ...], Rows | None] = {}
        self._walked = 0  # parameter sets
        self._met: dict[Hashable | None, Network] = {}  # feasible networks among them

    def network(self, row: Rows) -> Network:
        """Free facts of a complete row."""
        if (found := self._remembered(row)) is None:
            found = self._describe(row)
            self._remember(row, found)
        return found

    def network_of(self, params: Params) -> Network | None:
        """Network of a trial's parameters; None if there are none or one is outside the space.

        Parameters that a define-by-run trial did not ask for are inactive. Its cost and features
        are those of the network with their first values.
        """
        # Every suggestion reads all trials: what a parameter set encodes to is remembered.
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
        """Free facts of several rows, the infeasible ones left out."""
        return [found for row in rows if (found := self.network(row)).feasible]

    def half(self, cost: float) -> float:
        """Half of a cost, both on the scale of the search."""
        return cost - math.log(2) if self._log_cost else cost / 2

    def first_unknown(self, known: KnownNetworks) -> Network | None:
        """A feasible network that is not known, found by walking through the space.

        The last resort when drawing finds nothing new. None says that a finite space of at most
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

    def cheapest(self, start: Iterable[Network], budget: int | None = None) -> Network | None:
        """Least expensive feasible network (of a budget) that a descent from `start` reaches."""
        return self._extreme(start, 1.0, budget)

    def dearest(self, start: Iterable[Network], budget: int | None = None) -> Network | None:
        """Most expensive feasible network (of a budget) that an ascent from `start` reaches."""
        return self._extreme(start, -1.0, budget)

    def _extreme(self, start: Iterable[Network], sign: float, budget: int | None) -> Network | None:
        def rank(network: Network) -> tuple[bool, float]:
            return not _keeps(network, budget), sign * network.cost

        best = min(start, key=rank, default=None)
        improved = best is not None
        while best is not None and improved:
            improved = False
            # One parameter at a time, keeping each gain: for a cost that rises or falls along
            # every parameter whatever the others are, one pass ends at the exact extreme.
            for i in np.flatnonzero(best.active):
                only = np.zeros(len(best.row), dtype=bool)
                only[i] = True
                for row in self.space.neighbours(best.row, only, reach=64):
                    other = self.network(row)
                    if rank(other) < rank(best):
                        best, improved = other, True
        return best if best is not None and _keeps(best, budget) else None

    def _remembered(self, row: Rows) -> Network | None:
        address = row.tobytes()
        if (found := self._cache.get(address)) is not None:
            self._cache.move_to_end(address)
        return found

    def _remember(self, row: Rows, network: Network) -> None:
        self._cache[row.tobytes()] = network
        if len(self._cache) > CACHE_SIZE:
            self._cache.popitem(last=False)

    def _describe(self, row: Rows) -> Network:
        """Facts of a row; rows that differ in inactive parameters only are measured once."""
        params = self.space.decode(row)
        if self._canonical is None:
            return self._measure(params, row, np.ones(len(row), dtype=bool))
        kept = self._canonical(dict(params))
        active = np.array([axis.name in kept for axis in self.space.axes])
        whole: Rows | None = row
        if any(params.get(name) != value for name, value in kept.items()):  # put in a fixed order
            params.update(kept)
            whole = self.space.encode(params)
        if whole is None:
            raise SpecError(f"canonical: a value outside the search space in {dict(kept)!r}")
        shared = np.where(active, whole, math.nan)
        if (found := self._remembered(shared)) is None:
            found = self._measure(params, whole, active)
            self._remember(shared, found)
        # Its own row: whose is in the cache depends on what a process has seen before.
        return replace(found, row=whole)

    def _measure(self, params: dict[str, Any], row: Rows, active: NDArray[np.bool_]) -> Network:
        if self._key is not None:
            identity = self._key(dict(params))
        else:
            identity = np.where(active, row, math.nan).tobytes()
        cost = float(self._cost(dict(params)))
        if not math.isfinite(cost) or (self._log_cost and cost <= 0):
            wanted = "a number above 0 (or log_cost=False)" if self._log_cost else "a finite number"
            raise SpecError(f"cost: expected {wanted}, got {cost!r} for {params!r}")
        work = 1.0 if self._work is None else float(self._work(dict(params)))
        if not 0 < work < math.inf:
            raise SpecError(f"work: expected a number above 0, got {work!r} for {params!r}")
        growth = 0.0 if self._growth is None else float(self._growth(dict(params)))
        if not math.isfinite(growth):
            raise SpecError(f"growth: expected a finite number, got {growth!r} for {params!r}")
        within = tuple(map(bool, self._budgets(dict(params)))) if self._budgets else ()
        feasible = self._feasible is None or bool(self._feasible(dict(params)))
        return Network(
            row=row,
            active=active,
            key=identity,
            cost=math.log(cost) if self._log_cost else cost,
            feasible=feasible and (self._budgets is None or any(within)),
            features=_numbers(self._features, params),
            work=work,
            growth=growth,
            within=within,
            gain_features=_numbers(self._gain_features, params),
        )


def _keeps(network: Network, budget: int | None) -> bool:
    """Whether a network is feasible, and within a budget where one is given."""
    return network.feasible and (budget is None or network.within[budget])


def _numbers(
    function: Callable[[dict[str, Any]], Sequence[float]] | None, params: dict[str, Any]
) -> tuple[float, ...]:
    return () if function is None else tuple(map(float, function(dict(params))))
