"""Propose networks to score: evenly spread over cost at first, later near the front.

Nothing here depends on the accuracy model. All random numbers come from generators that are passed
in or derived from the seed, so that the same trials lead to the same proposals.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mbsearch.errors import SpecError
from mbsearch.search.sampler.candidates import Candidates, KnownNetworks, Network
from mbsearch.search.sampler.facts import Params
from mbsearch.search.sampler.parameters import Rows

# A finite space of at most this many parameter sets is enumerated instead of sampled.
LISTED_SIZE = 2_000
# Random networks come in blocks drawn from the seed alone. A suggestion uses a window of blocks,
# which moves by one block every second trial, so that most costs are cached.
BLOCK_SIZE = 100
WINDOW = 10
SEARCHED_BLOCKS = 50  # for a first feasible network
BLENDS = 300
MUTATIONS = 150
CROSSINGS = 100
FRONT_NEIGHBOURS = 1500
# Start-up chooses the most novel of this many networks nearest to the wanted cost.
NEAREST = 12
# Number of networks fitted to a budget: at the start, and for each suggestion.
FITTED_AT_START = 100
FITTED = 60
RANDOM_SHARE = 0.25  # share of these that start from a random network, not from the best
ENLARGED = 2  # ordered parameters that are raised as far as the budget allows
GRID = 33  # values of a continuous parameter that are tried for that


class Proposals:
    """Proposes networks of a search space to score; draws are determined by a seed."""

    def __init__(self, candidates: Candidates, seed: int, start: Params | None = None) -> None:
        self._candidates, self._seed = candidates, seed
        space = candidates.space
        listed = space.size is not None and space.size <= LISTED_SIZE
        self._listed = candidates.networks(space.all_rows()) if listed else None
        sample = self._listed if self._listed is not None else self._block(0)
        smallest = candidates.smallest(sample or self._any_feasible())
        given = None if start is None else candidates.network_of(start)
        if smallest is None and given is not None:  # the limits trade against the cost
            smallest = candidates.smallest([given])
        if smallest is None:
            raise SpecError("feasible: no parameter set of the search space was found feasible")
        self.smallest = smallest
        self.largest = candidates.largest([smallest, *sample]) or smallest
        self._blends = self._listed if self._listed is not None else self._blend(sample)
        self._budgets: dict[int, Budget] = {}
        self._pools: dict[int, list[Network]] = {}

    def budget(self, number: int) -> Budget:
        """Return the budget with this index, and its smallest and largest network.

        Raises:
            SpecError: no network within it was found.
        """
        if number not in self._budgets:
            start = [self.smallest, *self._blends]
            smallest = self._candidates.smallest(start, number)
            if smallest is None:
                raise SpecError(f"budgets: no network was found within budget {number + 1}")
            largest = self._candidates.largest([smallest, *start], number) or smallest
            self._budgets[number] = Budget(number, smallest, largest)
        return self._budgets[number]

    @property
    def sample(self) -> list[Network]:
        """Feasible networks over the whole range of cost; the same list each time."""
        return [self.smallest, self.largest, *self._blends]

    def startup(self, seen: Sequence[Network], known: KnownNetworks) -> Network | None:
        """Return a new network in the largest gap in cost between the networks seen, or None.

        The smallest comes first and the largest second. None if the sample has no new network.
        """
        for extreme in (self.smallest, self.largest):
            if extreme not in known:
                return extreme
        fresh = known.without(self.sample)
        if not fresh:
            return None
        return _fill_gap(fresh, seen, (self.smallest.cost, self.largest.cost))

    def startup_within(
        self, budget: Budget, seen: Sequence[Network], known: KnownNetworks
    ) -> Network | None:
        """Return a new network in the widest cost gap of a budget's upper half, or None.

        The gap is between networks seen. None if no new network of the budget was found.
        """
        if budget.number not in self._pools:
            rng = np.random.default_rng([self._seed, 4, budget.number])
            rows = self._candidates.space.draw(rng, FITTED_AT_START)
            found = [*self.sample, *(self._fitted(row, budget, rng) for row in rows)]
            self._pools[budget.number] = _within(found, budget)
        fresh = known.without(self._pools[budget.number])
        limits = self._candidates.half(budget.largest.cost), budget.largest.cost
        upper = [n for n in fresh if n.cost >= limits[0]]
        if not fresh:
            return None
        return _fill_gap(upper or fresh, _within(seen, budget), limits)

    def around_best(
        self, best: Sequence[Network], budget: Budget, known: KnownNetworks, trial_number: int
    ) -> list[Network]:
        """Return new networks within a budget: random ones, and variations of its best networks.

        Many are enlarged until they use the budget. Networks below a quarter of the budget's
        largest cost are left out, unless there are no others: the model is uncertain about such
        small networks, and would select them for that.
        """
        if self._listed is not None:
            return known.without(_within(self._listed, budget))
        rng = np.random.default_rng([self._seed, 5, trial_number])
        space = self._candidates.space
        found, rows = self._window(trial_number), self._neighbours(best, rng)
        children = [self._child(best, rng) for _ in range(MUTATIONS + CROSSINGS)]
        fitted = []
        for _ in range(FITTED):
            start = space.draw(rng, 1)[0] if rng.random() < RANDOM_SHARE else self._child(best, rng)
            fitted.append(self._fitted(start, budget, rng))
        relatives = [*self._candidates.networks([*rows, *children]), *fitted]
        fresh = known.without(_within([*self._blends, *found, *relatives], budget))
        least = self._candidates.half(self._candidates.half(budget.largest.cost))
        return [network for network in fresh if network.cost >= least] or fresh

    def _window(self, trial_number: int) -> list[Network]:
        """Return the random networks of the blocks that a suggestion uses."""
        first = trial_number // 2
        return [n for block in range(first, first + WINDOW) for n in self._block(block)]

    def _neighbours(self, networks: Sequence[Network], rng: np.random.Generator) -> list[Rows]:
        """Return rows that differ from a network in one parameter; a random subset if too many."""
        rows: list[Rows] = []
        for network in networks:
            rows += self._candidates.space.neighbours(network.row, network.active, reach=4)
        if len(rows) > FRONT_NEIGHBOURS:
            rows = [rows[i] for i in rng.choice(len(rows), FRONT_NEIGHBOURS, replace=False)]
        return rows

    def _child(self, parents: Sequence[Network], rng: np.random.Generator) -> Rows:
        """Return the row of a mutated network, or of a crossing of two networks."""
        space = self._candidates.space
        first = parents[int(rng.integers(len(parents)))]
        if len(parents) == 1 or rng.random() < MUTATIONS / (MUTATIONS + CROSSINGS):
            return space.mutate(rng, first.row, first.active)
        second = parents[int(rng.integers(len(parents)))]
        return np.where(rng.random(len(space.axes)) < 0.5, first.row, second.row)

    def _fitted(self, row: Rows, budget: Budget, rng: np.random.Generator) -> Network:
        """Change a row into a network that is within a budget and uses most of it.

        A network outside the budget gets as few parameters of the smallest one, in random order, as
        are needed. Then some ordered parameters are raised as far as the budget allows.
        """
        order = rng.permutation(len(row))

        def shrunk(count: int) -> Rows:
            other = row.copy()
            other[order[:count]] = budget.smallest.row[order[:count]]
            return other

        if not budget.holds(self._candidates.network(row)):
            row = self._last_within([shrunk(k) for k in range(len(row), 0, -1)], budget)
        weights = self._influence
        if not weights.any():
            return self._candidates.network(row)
        count = min(ENLARGED, int(np.count_nonzero(weights)))
        chosen = rng.choice(
            len(row), count, replace=False, p=np.abs(weights) / np.abs(weights).sum()
        )
        for i in chosen:
            row = self._last_within(self._larger(row, int(i), weights[i] > 0), budget)
        return self._candidates.network(row)

    def _larger(self, row: Rows, i: int, rising: bool) -> list[Rows]:
        """Return the row, followed by rows with costlier values of ordered parameter `i`."""
        axis = self._candidates.space.axes[i]
        if axis.count is None:
            entries = np.linspace(row[i], 1.0 if rising else 0.0, GRID)
        else:
            assert axis.units is not None
            by_size = np.argsort(axis.units if rising else -axis.units, kind="stable")
            entries = by_size[int(np.flatnonzero(by_size == row[i])[0]) :].astype(float)
        found = []
        for entry in entries:
            other = row.copy()
            other[i] = entry
            found.append(other)
        return found

    def _last_within(self, rows: Sequence[Rows], budget: Budget) -> Rows:
        """Return the last row within a budget, by bisection; the first row must be within it."""
        low, high = 0, len(rows)
        while high - low > 1:
            middle = (low + high) // 2
            if budget.holds(self._candidates.network(rows[middle])):
                low = middle
            else:
                high = middle
        return rows[low]

    @cached_property
    def _influence(self) -> Rows:
        """Correlation of cost with each ordered parameter over random networks; 0 for others."""
        rows = self._rows(0)
        costs = np.array([self._candidates.network(row).cost for row in rows])
        found = np.zeros(rows.shape[1])
        for i, axis in enumerate(self._candidates.space.axes):
            if not axis.ordered:
                continue
            positions = rows[:, i] if axis.units is None else axis.units[rows[:, i].astype(int)]
            if np.ptp(positions) > 0 and np.ptp(costs) > 0:
                found[i] = np.corrcoef(positions, costs)[0, 1]
        return found

    def around(
        self, front: Sequence[Network], known: KnownNetworks, trial_number: int
    ) -> list[Network]:
        """Return new networks to score: random ones, and variations of the front."""
        if self._listed is not None:
            return known.without(self._listed)
        rng = np.random.default_rng([self._seed, 1, trial_number])
        space = self._candidates.space
        # Most of the front's neighbours are cached from the last suggestion.
        found, rows = self._window(trial_number), self._neighbours(front, rng)
        for _ in range(MUTATIONS):
            parent = front[int(rng.integers(len(front)))]
            rows.append(space.mutate(rng, parent.row, parent.active))
        for _ in range(CROSSINGS if len(front) > 1 else 0):
            i = int(rng.integers(len(front) - 1))
            j = min(len(front) - 1, i + int(rng.geometric(0.5)))
            rows.append(np.where(rng.random(len(space.axes)) < 0.5, front[i].row, front[j].row))
        return known.without(self._blends + found + self._candidates.networks(rows))

    def near(
        self, parents: Sequence[Network], known: KnownNetworks, size: int, rng_key: Sequence[int]
    ) -> list[Network]:
        """Return at most `size` new networks that differ from a parent in one parameter."""
        rng = np.random.default_rng([self._seed, 2, *rng_key])
        rows = [
            row
            for p in parents
            for row in self._candidates.space.neighbours(p.row, p.active, reach=4)
        ]
        if len(rows) > size:
            rows = [rows[i] for i in rng.choice(len(rows), size, replace=False)]
        return known.without(self._candidates.networks(rows))

    def _any_feasible(self) -> list[Network]:
        """Return random networks, drawn in blocks until one is feasible."""
        drawn: list[Network] = []
        for block in range(SEARCHED_BLOCKS):
            drawn += [self._candidates.network(row) for row in self._rows(block)]
            if any(network.feasible for network in drawn[-BLOCK_SIZE:]):
                break
        return drawn

    def _rows(self, block: int) -> Rows:
        rng = np.random.default_rng([self._seed, 0, block])
        return self._candidates.space.draw(rng, BLOCK_SIZE)

    def _block(self, block: int) -> list[Network]:
        return self._candidates.networks(self._rows(block))

    def _blend(self, sample: Sequence[Network]) -> list[Network]:
        """Return the sample, and feasible crossings of random networks with the extremes.

        The crossings fill the tails of the costs.
        """
        rng = np.random.default_rng([self._seed, 3])
        rows = []
        for i, row in enumerate(self._candidates.space.draw(rng, BLENDS)):
            extreme = (self.smallest, self.largest)[i % 2].row
            rows.append(np.where(rng.random(len(row)) < rng.random(), extreme, row))
        return [*sample, *self._candidates.networks(rows)]


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of a study, with its networks of lowest and highest cost."""

    number: int
    smallest: Network
    largest: Network

    def holds(self, network: Network) -> bool:
        """Whether a network is feasible and within the budget."""
        return network.feasible and network.within[self.number]


def _within(networks: Iterable[Network], budget: Budget) -> list[Network]:
    return [n for n in networks if budget.holds(n)]


def _fill_gap(
    fresh: Sequence[Network], seen: Sequence[Network], limits: tuple[float, float]
) -> Network:
    """Return the most novel network near the middle of the largest gap in cost."""
    costs = np.array([n.cost for n in fresh])
    edges = np.unique(np.clip([*limits, *(n.cost for n in seen)], *limits))
    widest = int(np.argmax(np.diff(edges))) if len(edges) > 1 else 0
    target = float(np.mean(edges[widest : widest + 2]))
    near = np.argsort(np.abs(costs - target), kind="stable")[:NEAREST]
    novelty = [min((_differences(fresh[i], n) for n in seen), default=0) for i in near]
    return fresh[int(near[np.argmax(novelty)])]


def _differences(a: Network, b: Network) -> int:
    both_active = a.active & b.active
    differ = (a.row != b.row) & both_active
    return int(np.count_nonzero(differ) + np.count_nonzero(a.active != b.active))
