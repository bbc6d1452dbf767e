"""References of a budget: the widths and resolutions at which a MobileNet fills it."""

from __future__ import annotations

from mbsearch.cost import Measure, measure
from mbsearch.space.architecture import Architecture
from mbsearch.space.catalog import PUBLISHED_ALPHAS, PUBLISHED_RESOLUTION, scaled_reference
from mbsearch.space.settings import Bounds

LARGEST_ALPHA = 1.4
"""The largest width that the V2 paper publishes (arXiv 1801.04381, table 4)."""

_RESOLUTIONS = (40, *range(48, 289, 16))
_SMALLEST_ALPHA = 0.05
_FILLED = 0.85  # share of a budget
_AT_LEAST = 6  # references of a family, where there are as many within the budget


def fitting_references(
    family: str,
    budget: Bounds,
    *,
    num_classes: int,
    published: bool,
    limits: Bounds | None = None,
    measure: Measure = measure,
) -> list[Architecture]:
    """Return the references of a family that fill a budget, sorted by resolution.

    At each resolution (40 px, and the multiples of 16 from 48 to 288) it is the largest alpha in
    hundredths, up to 1.4, with which the network is within the budget and the `limits`. Of these,
    the ones are returned that use at least 85 % of the budget; where these are fewer than six, the
    six that use most of it. The list is empty if no network is within the budget. Latency is
    assumed to rise with alpha, as the other costs do.

    Args:
        family: name of a packaged reference: mobilenet_v1, mobilenet_v2, mobilenet_v3_small.
        budget: bounds on the costs.
        num_classes: outputs of the classifier.
        published: only alphas and resolutions as published: alpha from 0.25 (V1) or 0.35 (V2, V3),
            96 px and up. Else the family is scaled freely: alpha from 0.05, 40 px and up.
        limits: further bounds that every reference must keep.
        measure: the costs of a network, of which the budget and the limits bound some.

    Raises:
        SpecError: there is no reference of that name.
    """
    lowest = PUBLISHED_ALPHAS[family] if published else _SMALLEST_ALPHA
    smallest = PUBLISHED_RESOLUTION if published else 0

    def costs_within(network: Architecture) -> dict[str, int] | None:
        """The costs of a network that keeps every bound."""
        costs = measure(network)
        broken = budget.excess(costs) or (limits and limits.excess(costs))
        return None if broken else costs

    found: dict[str, tuple[float, Architecture]] = {}
    for resolution in _RESOLUTIONS:
        if resolution < smallest:
            continue
        network, used = None, 0.0
        low, high = round(100 * lowest), round(100 * LARGEST_ALPHA)
        while low <= high:  # the costs rise with alpha
            middle = (low + high) // 2
            other = scaled_reference(family, middle / 100, resolution, num_classes)
            costs = costs_within(other)
            if costs is None:
                high = middle - 1
            else:
                network, used, low = other, budget.used_share(costs), middle + 1
        if network is not None:
            found[network.fingerprint] = used, network
    ranked = sorted(found.values(), key=lambda pair: pair[0], reverse=True)
    filled = [network for used, network in ranked if used >= _FILLED]
    chosen = filled if len(filled) >= _AT_LEAST else [n for _, n in ranked[:_AT_LEAST]]
    return sorted(chosen, key=lambda network: network.resolution)
