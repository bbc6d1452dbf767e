"""Survey of a search space before a search: size, range of costs and duplicates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise
from random import Random
from statistics import median

from mbsearch.config.specification import SearchSpecification
from mbsearch.cost import Measure, measure
from mbsearch.errors import SpecError
from mbsearch.space.architecture import Architecture
from mbsearch.space.layers import Pool, trace
from mbsearch.space.size import Size
from mbsearch.space.template import Params, Scalar

ENUMERATE_UP_TO = 10_000
_DRAWS = 50  # random candidates for each network of a sample
_STARTS = 100  # random candidates, of which the best are improved
_DESCENTS = 2
_DESCENT_OPTIONS = 9  # of a range, at most: costs are monotone along it, so that its ends matter

CostFunction = Callable[[Mapping[str, int]], float]
"""A function of a network's costs that is minimised."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Statistics of a space over all its encodings, or over a uniform sample.

    `exact` is whether all encodings were surveyed; else the smallest and the largest Mult-Adds are
    found by coordinate descent. `feasible_share` is the share of networks within the exact limits.
    `duplicate_share` is the share of encodings that repeat another's network, None for a sample.
    `unbuildable_share` is the share of encodings whose strides leave no pixels.
    """

    encodings: int
    exact: bool
    surveyed: int
    min_mult_adds: int
    median_mult_adds: int
    max_mult_adds: int
    feasible_share: float
    duplicate_share: float | None
    unbuildable_share: float
    warnings: tuple[str, ...]


def survey(space: SearchSpecification, *, sample_size: int = 1000) -> Survey:
    """Return statistics of a space: of all networks if it is small, otherwise of a sample.

    Raises:
        SpecError: no network of the space can be built.
    """
    exact = space.size <= ENUMERATE_UP_TO
    if exact:
        encodings: Sequence[Params] = list(islice(space.enumerate_params(), ENUMERATE_UP_TO))
    else:
        rng = Random(0)
        encodings = [space.sample_params(rng) for _ in range(sample_size)]
    settings = space.settings.exact
    needed = partial(measure, metrics=settings.bounded | {"mult_adds"})
    networks: dict[str, dict[str, int]] = {}
    seen: set[tuple[tuple[str, object], ...]] = set()
    smallest_map: tuple[Size, Architecture] | None = None
    refusal: SpecError | None = None
    unbuildable = 0
    for params in encodings:
        architecture = space.decode(params)
        try:
            networks.setdefault(architecture.fingerprint, needed(architecture))
        except SpecError as error:
            refusal = error
            unbuildable += 1
            continue
        seen.add(tuple(params.items()))
        last = final_map(architecture, space.settings.proxy.pixels(architecture.resolution))
        if smallest_map is None or last.shorter < smallest_map[0].shorter:
            smallest_map = last, architecture
    if not networks:
        raise space.error(
            ("resolution", "stages"), f"expected a network with pixels left, got none: {refusal}"
        )
    costs = list(networks.values())
    mult_adds = [c["mult_adds"] for c in costs]
    ends = [min(mult_adds), max(mult_adds)]
    if not exact:
        _, smallest = _minimise(space, lambda costs: costs["mult_adds"], needed)
        _, largest = _minimise(space, lambda costs: -costs["mult_adds"], needed)
        ends = [min(ends[0], smallest["mult_adds"]), max(ends[1], largest["mult_adds"])]
    return Survey(
        encodings=space.size,
        exact=exact,
        surveyed=len(encodings),
        min_mult_adds=ends[0],
        median_mult_adds=int(median(mult_adds)),
        max_mult_adds=ends[1],
        feasible_share=sum(settings.excess(c) is None for c in costs) / len(costs),
        duplicate_share=1 - len(networks) / len(seen) if exact else None,
        unbuildable_share=unbuildable / len(encodings),
        warnings=_warnings(space, smallest_map),
    )


def sample_by_cost(space: SearchSpecification, count: int, seed: int) -> list[Architecture]:
    """Return distinct random networks within the exact limits, spread evenly over cost ranks.

    If the objective is latency, the ranks are of Mult-Adds. If random networks are rarely within
    the limits, variants of those found are added. Fewer than `count` are returned if no more are
    found.
    """
    metric, settings = space.settings.metric, space.settings.exact
    rng = Random(f"{seed}/audit")
    found: dict[str, tuple[int, Architecture]] = {}

    def add(params: Params) -> bool:
        """Add a network to `found`; return whether it is new and within the limits."""
        network = space.decode(params)
        try:
            costs = measure(network)
        except SpecError:  # its strides leave no pixels
            return False
        if network.fingerprint in found or settings.excess(costs) is not None:
            return False
        found[network.fingerprint] = costs.get(metric, costs["mult_adds"]), network
        return True

    waiting = [p for _ in range(count * _DRAWS) if add(p := space.sample_params(rng))]
    if not waiting:
        smallest, _ = _minimise(space, settings.used_share, enough=1.0)
        waiting = [smallest] if add(smallest) else []
    while waiting and len(found) < count:
        params = space.complete(waiting.pop(0))
        others = ({**params, c.name: option} for c in space.choices for option in c.values)
        waiting += [other for other in others if add(other)]
    ranked = [network for _, network in sorted(found.values(), key=lambda pair: pair[0])]
    count = min(count, len(ranked))
    edges = [round(i * len(ranked) / max(count, 1)) for i in range(count + 1)]
    return [ranked[rng.randrange(low, high)] for low, high in pairwise(edges)]


def final_map(architecture: Architecture, pixels: Size) -> Size:
    """Return the size of the feature map before pooling, for images of a size."""
    layers = trace(architecture.lower(), pixels)
    return next(
        Size(placed.in_shape.height, placed.in_shape.width)
        for placed in layers
        if isinstance(placed.layer, Pool)
    )


def _warnings(
    space: SearchSpecification, smallest: tuple[Size, Architecture] | None
) -> tuple[str, ...]:
    if smallest is None or smallest[0].shorter >= 2:
        return ()
    proxy, (last, architecture) = space.settings.proxy, smallest
    return (
        f"the final map falls to {last.height}x{last.width} at the proxy resolution of "
        f"{proxy.pixels(architecture.resolution)} pixels (resolution {architecture.resolution} x "
        f"scale {proxy.resolution_scale:g}): the last kernels see a single pixel there; "
        "raise proxy.resolution_scale or use fewer strides",
    )


def require_feasible(space: SearchSpecification, measure: Measure = measure) -> Params:
    """Return the choices of a network within limits and budgets, or raise an error.

    Raises:
        SpecError: none was found; the message has the limit that the smallest one exceeds.
    """
    params, costs = _minimise(space, space.settings.used_share, measure, enough=1.0)
    broken = space.settings.excess(costs)
    if broken:
        key = "limits" if space.settings.limits.excess(costs) else "budgets"
        raise space.error(
            (key,),
            f"expected a space with a network within them, got none: of the smallest, {broken}",
        )
    return params


def _minimise(
    space: SearchSpecification,
    score: CostFunction,
    measure: Measure = measure,
    enough: float = -math.inf,
) -> tuple[Params, dict[str, int]]:
    """Return the choices and costs of the lowest-scoring network that descent finds.

    The search ends early at the first start with a score of at most `enough`. Two starts are all
    first and all last options, so that a choice between stages is made with the smallest or largest
    options inside of them; others are the best of some random networks. Coordinate descent improves
    each. That is exact if the score is monotone in each choice, as costs are.
    """
    rng = Random(f"{space.name}/descent")
    first, last = ({c.name: c.values[i] for c in space.choices} for i in (0, -1))
    drawn = (space.complete(space.sample_params(rng)) for _ in range(_STARTS))
    found: list[tuple[Params, dict[str, int]]] = []
    for params in chain([first], drawn, [last]):
        try:
            costs = measure(space.decode(params))
        except SpecError:
            continue
        found.append((params, costs))
        if score(costs) <= enough:
            return params, costs
    if not found:
        raise space.error(("resolution", "stages"), "expected a network with pixels left, got none")
    best = sorted(found, key=lambda each: score(each[1]))[:_DESCENTS]
    ends = [each for each in found if each[0] in (first, last)]
    improved = [_descend(space, score, measure, params) for params, _ in (*ends, *best)]
    return min(improved, key=lambda end: score(end[1]))


def _descend(
    space: SearchSpecification, score: CostFunction, measure: Measure, params: Params
) -> tuple[Params, dict[str, int]]:
    """Return the choices and costs at the end of a coordinate descent."""
    best = measure(space.decode(params))
    improved = True
    while improved:
        improved = False
        for choice in space.choices:
            for option in choice.values if choice.range is None else _spread(choice.values):
                other = params | {choice.name: option}
                try:
                    costs = measure(space.decode(other))
                except SpecError:
                    continue
                if score(costs) < score(best):
                    params, best, improved = other, costs, True
    return params, best


def _spread(values: Sequence[Scalar]) -> Sequence[Scalar]:
    """Return the values; of more than nine, nine evenly spaced ones including both ends."""
    if len(values) <= _DESCENT_OPTIONS:
        return values
    last = len(values) - 1
    return [values[i * last // (_DESCENT_OPTIONS - 1)] for i in range(_DESCENT_OPTIONS)]
