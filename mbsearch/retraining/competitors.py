"""The networks of a retraining: selected ones, and references of equal cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product

from mbsearch.config.budgets import Limits
from mbsearch.config.families import COMPETITORS, scaled_reference
from mbsearch.cost import Measure, measure
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import DEFAULT_METRIC, SEARCH, TrialRecord

GIVEN = "given"
"""Family of a network that is not a trial of the study."""
NO_LIMITS = Limits()
_ALPHAS = [hundredths / 100 for hundredths in range(10, 201)]
_NEAR = 0.02
_LEAST = 32  # pixels: the strides of a MobileNet reduce them to one
_STEP, _AROUND = 16, 32  # pixels: resolutions around the candidate's


@dataclass(frozen=True, slots=True)
class Competitor:
    """A network to retrain: a candidate, or a reference to compare a candidate with.

    Args:
        name: unique among the candidates.
        family: ``search``, ``given``, or the family of a reference.
        architecture: architecture of the network.
        proxy_accuracy: validation accuracy in the search; None if it was not trained there.
        reference_of: name of the candidate that a reference is compared with; None for candidates.
    """

    name: str
    family: str
    architecture: Architecture
    proxy_accuracy: float | None = None
    reference_of: str | None = None


def competitor_of(record: TrialRecord, reference_of: str | None = None) -> Competitor:
    """Return the competitor for a trial, named by the trial's label."""
    network = record.architecture.replace(name=record.label)
    accuracy = None if record.evaluation is None else record.accuracy
    return Competitor(record.label, record.origin, network, accuracy, reference_of)


def competitors(
    chosen: Sequence[TrialRecord],
    given: Sequence[Architecture] = (),
    references: Mapping[str, Sequence[TrialRecord]] | None = None,
    *,
    metric: str = DEFAULT_METRIC,
    measure: Measure = measure,
    limits: Limits = NO_LIMITS,
) -> list[Competitor]:
    """Return distinct candidates, each followed by its references.

    A reference that two candidates share is listed for each of them.

    Args:
        chosen: trials of the study.
        given: other networks.
        references: the study's references for a candidate, by its fingerprint. A MobileNet V1 or
            V2 of equal cost takes the place of a family that is missing.
        metric: the cost that is compared.
        measure: the costs of a network.
        limits: that a reference of equal cost keeps if its candidate does.
    """
    references = references or {}
    candidates: dict[str, Competitor] = {}
    for record in chosen:
        candidates.setdefault(record.fingerprint, competitor_of(record))
    for network in given:
        if network.fingerprint not in candidates:
            apart = _named_apart(network, {each.name for each in candidates.values()})
            candidates[network.fingerprint] = Competitor(apart.name, GIVEN, apart)
    found = []
    for candidate in candidates.values():
        found.append(candidate)
        if candidate.family not in (SEARCH, GIVEN):
            continue
        own = references.get(candidate.architecture.fingerprint, ())
        beside = [competitor_of(r, reference_of=candidate.name) for r in own]
        missing = [f for f in COMPETITORS if f not in {each.family for each in beside}]
        beside += equal_cost_references(candidate.architecture, metric, measure, missing, limits)
        distinct = {each.architecture.fingerprint: each for each in reversed(beside)}
        distinct.pop(candidate.architecture.fingerprint, None)
        found += reversed(distinct.values())
    return found


def _named_apart(network: Architecture, taken: Set[str]) -> Architecture:
    """Return a network under a name that is not in `taken`."""
    names = (network.name, *(f"{network.name}-{i}" for i in range(2, len(taken) + 3)))
    return network.replace(name=next(name for name in names if name not in taken))


def equal_cost_references(
    network: Architecture,
    metric: str = DEFAULT_METRIC,
    measure: Measure = measure,
    families: Sequence[str] = COMPETITORS,
    limits: Limits = NO_LIMITS,
) -> list[Competitor]:
    """Return one reference of equal cost from each MobileNet family.

    Alpha varies in hundredths, the resolution around the network's, at its aspect ratio; if no cost
    there is within 2 %, all lower resolutions are searched too. The cost is compared in steps of
    2 %; of equal steps, the nearest resolution is chosen. References keep the limits if the network
    does.
    """
    needed = {metric, *limits.bounds()}
    own = measure(network, needed)
    kept = NO_LIMITS if limits.excess(own) else limits
    side = network.resolution.shorter
    around = {max(_LEAST, side + step) for step in range(-_AROUND, _AROUND + 1, _STEP)}
    lower = set(range(_LEAST + side % _STEP, side, _STEP))

    def distance(reference: Architecture) -> tuple[bool, int, int, float]:
        costs = measure(reference, needed)
        off = abs(math.log(costs[metric] / own[metric]))
        further = abs(reference.resolution.shorter - side)
        return kept.excess(costs) is not None, int(off / _NEAR), further, off

    def scaled(family: str, sides: Set[int]) -> Iterator[Architecture]:
        for alpha, other in product(_ALPHAS, sorted(sides)):
            size = network.resolution.with_shorter(other)
            yield scaled_reference(family, alpha, size, network.num_classes, network.input)

    found = []
    for family in families:
        nearest = min(scaled(family, around), key=distance)
        if distance(nearest)[:2] > (False, 0):
            nearest = min((nearest, *scaled(family, lower - around)), key=distance)
        found.append(Competitor(nearest.name, family, nearest, reference_of=network.name))
    return found
