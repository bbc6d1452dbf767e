"""Reference networks for a budget: MobileNets scaled to use most of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from mbsearch.config.budgets import Bounds, Budget
from mbsearch.config.families import COMPARED, DONORS, FAMILIES, scaled_reference
from mbsearch.config.specification import SearchSpecification, baseline_architectures
from mbsearch.cost import Measure, measure
from mbsearch.cost.coverage import Gap, gaps
from mbsearch.cost.metrics import round_amounts
from mbsearch.space.architecture import Architecture, Input
from mbsearch.space.size import Size

LARGEST_ALPHA = 1.4
"""The largest width that the V2 paper publishes (arXiv 1801.04381, table 4)."""

_LARGE = 1.0, 224  # alpha and resolution that all papers have
_RESOLUTIONS = (40, *range(48, 289, 16))
_SQUARE = Size.square(1)
_SMALLEST_ALPHA = 0.05
_FILLED = 0.85  # share of a budget
_AT_LEAST = 6  # references of a family, if there are as many within the budget


def fitting_references(
    family: str,
    budget: Bounds,
    *,
    num_classes: int,
    published: bool,
    limits: Bounds | None = None,
    measure: Measure = measure,
    aspect: Size = _SQUARE,
    inputs: Input | None = None,
) -> list[Architecture]:
    """Return a family's scaled networks that use most of a budget, sorted by resolution.

    At each resolution (40 px, and the multiples of 16 from 48 to 288), take the largest alpha, in
    hundredths, whose network is within the budget and the `limits` (at most 1.4; at most 1 for a
    donor). Return those that use at least 85 % of the budget, or the six that use the most if fewer
    than six do. The list is empty if no network is within the budget. Latency is assumed to rise
    with alpha, as the other costs do.

    Args:
        family: name of a packaged reference: mobilenet_v1, mobilenet_v2, mobilenet_v3_small.
        budget: bounds on the costs.
        num_classes: outputs of the classifier.
        published: only alphas and resolutions as published: alpha from 0.25 (V1) or 0.35 (V2, V3),
            96 px and up. Else the family is scaled freely: alpha from 0.05, 40 px and up.
        limits: further bounds that every reference must keep.
        measure: the costs of a network, of which the budget and the limits bound some.
        aspect: a size with the aspect ratio of the images, whose shorter side is scaled.
        inputs: channels of the images; colour by default.

    Raises:
        SpecError: there is no reference of that name.
    """
    lowest = (published and FAMILIES[family].smallest_alpha) or _SMALLEST_ALPHA
    largest = 1.0 if family in DONORS else LARGEST_ALPHA
    smallest = FAMILIES[family].smallest_resolution if published else 0
    bounded = {*budget.bounds(), *(() if limits is None else limits.bounds())}

    def costs_within(network: Architecture) -> dict[str, int] | None:
        """Return the bounded costs of a network, or None if it exceeds a bound."""
        costs = measure(network, bounded)
        broken = budget.excess(costs) or (limits and limits.excess(costs))
        return None if broken else costs

    found: dict[str, tuple[float, Architecture]] = {}
    for resolution in _RESOLUTIONS:
        if resolution < smallest:
            continue
        network, used = None, 0.0
        low, high = round(100 * lowest), round(100 * largest)
        while low <= high:  # the costs rise with alpha
            middle = (low + high) // 2
            size = aspect.with_shorter(resolution)
            other = scaled_reference(family, middle / 100, size, num_classes, inputs)
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


def chosen_references(
    space: SearchSpecification, measure: Measure = measure
) -> list[tuple[str, Architecture]]:
    """Return the references to train in addition to a space's candidates, with their families.

    For each budget and family there are up to six networks scaled freely, spread evenly over the
    resolutions of `fitting_references`, and as many with published scales. There are no duplicates.
    A packaged donor is a family too: at alpha 1 on few pixels, and narrower on more. References
    take the input of the space, at the aspect ratio of its largest resolution.
    """
    settings = space.settings
    scalings = [(family, published) for family in COMPARED for published in (False, True)]
    if settings.weights in DONORS:
        scalings.insert(0, (settings.weights, False))
    classes = space.template.get("num_classes", Architecture.model_fields["num_classes"].default)
    found: dict[str, tuple[str, Architecture]] = {}
    for budget, (family, published) in product(settings.budgets, scalings):
        fitting = fitting_references(
            family,
            budget,
            num_classes=classes if isinstance(classes, int) else 1000,
            published=published,
            limits=settings.limits,
            measure=measure,
            aspect=space.resolutions[-1],
            inputs=space.input,
        )
        for network in _spread(fitting, _AT_LEAST):
            found.setdefault(network.fingerprint, (family, network))
    return list(found.values())


def with_questions(space: SearchSpecification, measure: Measure = measure) -> SearchSpecification:
    """Return the specification with its budgets, or with default ones if it has none.

    These are the budgets given, else all limits as one budget, else round budgets if references are
    chosen automatically, else none.
    """
    settings = space.settings
    budgets = settings.questions
    if not budgets and settings.references == "auto":
        budgets = round_budgets(space, measure)
    return space.with_settings({"budgets": budgets})


def references_within(
    space: SearchSpecification, measure: Measure = measure
) -> list[tuple[str, Architecture]]:
    """Return all references of a space within its limits, with their families.

    These are the `baselines` of its file, and with `references: auto` those of
    `chosen_references`. There are no duplicates.
    """
    classes = space.template.get("num_classes")
    pairs = [
        (family, network.replace(num_classes=classes) if isinstance(classes, int) else network)
        for family, network in baseline_architectures(space)
    ]
    if space.settings.references == "auto":
        pairs += chosen_references(space, measure)
    found = {network.fingerprint: (family, network) for family, network in pairs}
    return [pair for pair in found.values() if space.settings.excess(measure(pair[1])) is None]


def references_to_measure(space: SearchSpecification) -> list[Architecture]:
    """Return the references whose latency a model is fitted to, beside networks of the space.

    These are the `baselines` of its file. With `references: auto` a small and a large network of
    each family are added: a model predicts only layers of kinds that were measured.
    """
    found = [network for _, network in baseline_architectures(space)]
    if space.settings.references == "auto":
        for family, row in COMPARED.items():
            smallest = row.smallest_alpha or 1, row.smallest_resolution
            for alpha, resolution in (smallest, _LARGE):
                found.append(scaled_reference(family, alpha, resolution, inputs=space.input))
    return found


def typical_reference(
    space: SearchSpecification,
    references: Sequence[tuple[str, Architecture]],
    measure: Measure = measure,
) -> Architecture:
    """Return the reference of median cost among those within the tightest budget.

    `references` are those of `chosen_references`, at least one.
    """
    costs = [(network, measure(network)) for _, network in references]
    within = ([pair for pair in costs if b.excess(pair[1]) is None] for b in space.settings.budgets)
    tightest = min(filter(None, within), key=len, default=costs)
    ranked = sorted(tightest, key=lambda pair: pair[1][space.settings.metric])
    return ranked[(len(ranked) - 1) // 2][0]


def round_budgets(space: SearchSpecification, measure: Measure = measure) -> tuple[Budget, ...]:
    """Return the round budgets between the costs of the smallest and largest published reference.

    Budgets bound the study's cost. Only references within the limits of the space count.
    """
    settings, aspect = space.settings, space.resolutions[-1]
    costs = [
        costs[settings.metric]
        for family, alpha, side in product(COMPARED, (0.35, 1.0), (96, 224))
        if settings.limits.excess(
            costs := measure(
                scaled_reference(family, alpha, aspect.with_shorter(side), 1000, space.input)
            )
        )
        is None
    ]
    if not costs:
        return ()
    return tuple(
        Budget.of({settings.metric: round(amount)})
        for amount in round_amounts(settings.metric)
        if min(costs) <= amount <= max(costs)
    )


def _spread(networks: Sequence[Architecture], count: int) -> list[Architecture]:
    """Return `count` of the networks, evenly spaced, including the first and the last."""
    if len(networks) <= count:
        return list(networks)
    return [networks[round(i * (len(networks) - 1) / (count - 1))] for i in range(count)]


def missing_references(space: SearchSpecification, measure: Measure = measure) -> list[Gap]:
    """Return, for each budget, the references that a space does not contain.

    They are scaled freely. Without budgets and limits of the space, round budgets are used. A
    budget on a cost that `measure` does not compute, such as latency, is left out.
    """
    some = space.decode(space.complete({}))
    known = measure(some).keys()
    if space.settings.questions:
        budgets = space.settings.questions
    else:
        budgets = round_budgets(space, measure) if space.settings.metric in known else ()
    return [
        gap
        for budget in budgets
        if budget.bounds().keys() <= known
        for family, row in COMPARED.items()
        for gap in gaps(
            space,
            budget.label,
            row.name,
            fitting_references(
                family,
                budget,
                num_classes=some.num_classes,
                published=False,
                measure=measure,
                aspect=space.resolutions[-1],
                inputs=space.input,
            ),
        )
    ]
