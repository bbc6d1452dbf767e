"""Which networks are worth scoring: evenly spread over cost at first, around the front later.

Nothing here depends on accuracy models, and everything random comes from generators passed in or
derived from the seed, so that the same history leads to the same candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbsearch.errors import SpecError
from mbsearch.search.catalog import Catalog, KnownNetworks, Network, Params
from mbsearch.search.choices import Rows

# A finite space of at most this many parameter sets is listed instead of sampled.
LISTED_SIZE = 2_000
# Random networks come in blocks drawn from the seed alone. A suggestion looks at a window of them,
# which moves on by one block every second time, so that few costs are new.
BLOCK_SIZE = 100
WINDOW = 10
SEARCHED_BLOCKS = 50  # for a first feasible network
BLENDS = 300
MUTATIONS = 150
CROSSINGS = 100
FRONT_NEIGHBOURS = 1500
# Start-up takes, of this many networks nearest to the wanted cost, the least like those known.
NEAREST = 12


class Proposals:
    """Candidates of one search space under one seed."""

    def __init__(self, catalog: Catalog, seed: int, start: Params | None = None) -> None:
        self._catalog, self._seed = catalog, seed
        space = catalog.space
        listed = space.size is not None and space.size <= LISTED_SIZE
        self._listed = catalog.networks(space.all_rows()) if listed else None
        sample = self._listed if self._listed is not None else self._block(0)
        cheapest = catalog.cheapest(sample or self._any_feasible())
        given = None if start is None else catalog.network_of(start)
        if cheapest is None and given is not None:  # the limits trade against the cost
            cheapest = catalog.cheapest([given])
        if cheapest is None:
            raise SpecError("feasible: no parameter set of the search space was found feasible")
        self.cheapest = cheapest
        self.dearest = catalog.dearest([cheapest, *sample]) or cheapest
        self._blends = self._listed if self._listed is not None else self._blend(sample)

    @property
    def sample(self) -> list[Network]:
        """Feasible networks over the whole range of cost; the same ones every time."""
        return [self.cheapest, self.dearest, *self._blends]

    def startup(self, seen: Sequence[Network], known: KnownNetworks) -> Network | None:
        """The network that best fills the largest gap in cost between those seen.

        The cheapest comes first and the dearest second; None when the sample holds nothing new.
        """
        for extreme in (self.cheapest, self.dearest):
            if extreme not in known:
                return extreme
        fresh = known.without(self.sample)
        if not fresh:
            return None
        costs = np.array([n.cost for n in fresh])
        limits = self.cheapest.cost, self.dearest.cost
        edges = np.unique(np.clip([*limits, *(n.cost for n in seen)], *limits))
        widest = int(np.argmax(np.diff(edges))) if len(edges) > 1 else 0
        target = float(np.mean(edges[widest : widest + 2]))
        near = np.argsort(np.abs(costs - target), kind="stable")[:NEAREST]
        novelty = [min((_differences(fresh[i], n) for n in seen), default=0) for i in near]
        return fresh[int(near[np.argmax(novelty)])]

    def around(
        self, front: Sequence[Network], known: KnownNetworks, trial_number: int
    ) -> list[Network]:
        """New networks worth scoring: random ones, and relatives of the front."""
        if self._listed is not None:
            return known.without(self._listed)
        rng = np.random.default_rng([self._seed, 1, trial_number])
        space = self._catalog.space
        first = trial_number // 2
        found = [n for block in range(first, first + WINDOW) for n in self._block(block)]
        rows: list[Rows] = []
        # The front's neighbours are mostly those of the last suggestion and so cost nothing.
        for network in front:
            rows += space.neighbours(network.row, network.active, reach=4)
        if len(rows) > FRONT_NEIGHBOURS:
            rows = [rows[i] for i in rng.choice(len(rows), FRONT_NEIGHBOURS, replace=False)]
        for _ in range(MUTATIONS):
            parent = front[int(rng.integers(len(front)))]
            rows.append(space.mutate(rng, parent.row, parent.active))
        for _ in range(CROSSINGS if len(front) > 1 else 0):
            i = int(rng.integers(len(front) - 1))
            j = min(len(front) - 1, i + int(rng.geometric(0.5)))
            rows.append(np.where(rng.random(len(space.axes)) < 0.5, front[i].row, front[j].row))
        return known.without(self._blends + found + self._catalog.networks(rows))

    def near(
        self, parents: Sequence[Network], known: KnownNetworks, size: int, rng_key: Sequence[int]
    ) -> list[Network]:
        """New networks that differ little from the parents: at most `size` of them."""
        rng = np.random.default_rng([self._seed, 2, *rng_key])
        rows = [
            row for p in parents for row in self._catalog.space.neighbours(p.row, p.active, reach=4)
        ]
        if len(rows) > size:
            rows = [rows[i] for i in rng.choice(len(rows), size, replace=False)]
        return known.without(self._catalog.networks(rows))

    def _any_feasible(self) -> list[Network]:
        """Networks to start from where the first block has no feasible one: a later one, or all."""
        drawn: list[Network] = []
        for block in range(SEARCHED_BLOCKS):
            drawn += [self._catalog.network(row) for row in self._rows(block)]
            if any(network.feasible for network in drawn[-BLOCK_SIZE:]):
                break
        return drawn

    def _rows(self, block: int) -> Rows:
        rng = np.random.default_rng([self._seed, 0, block])
        return self._catalog.space.draw(rng, BLOCK_SIZE)

    def _block(self, block: int) -> list[Network]:
        return self._catalog.networks(self._rows(block))

    def _blend(self, sample: Sequence[Network]) -> list[Network]:
        """Random networks and their mixtures with the extremes: thin tails of cost are filled."""
        rng = np.random.default_rng([self._seed, 3])
        rows = []
        for i, row in enumerate(self._catalog.space.draw(rng, BLENDS)):
            extreme = (self.cheapest, self.dearest)[i % 2].row
            rows.append(np.where(rng.random(len(row)) < rng.random(), extreme, row))
        return [*sample, *self._catalog.networks(rows)]


def _differences(a: Network, b: Network) -> int:
    both_active = a.active & b.active
    differ = (a.row != b.row) & both_active
    return int(np.count_nonzero(differ) + np.count_nonzero(a.active != b.active))
