"""Who is retrained: chosen networks, and beside each a MobileNet V1 and V2 of equal cost."""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

from mbsearch.cost import Measure, measure
from mbsearch.records import BASELINE_FAMILIES, DEFAULT_METRIC, SEARCH, TrialRecord
from mbsearch.space.architecture import Architecture
from mbsearch.space.catalog import load_reference

GIVEN = "given"
"""Family of a network that the search has not tried."""
_ALPHAS = [hundredths / 100 for hundredths in range(10, 201)]
_NEAR = 0.02
_LEAST = 32  # pixels: the strides of a MobileNet leave one of them
_STEPS = (-32, -16, 0, 16, 32)  # pixels around the candidate's resolution


@dataclass(frozen=True, slots=True)
class Entrant:
    """A network to retrain: a candidate, or the reference of a family that costs the same.

    `family` is ``search``, ``given``, or a reference's name; `rival_of` is the candidate that a
    reference stands beside. `proxy_accuracy` is the search's, None for what it never trained.
    """

    name: str
    family: str
    architecture: Architecture
    proxy_accuracy: float | None = None
    rival_of: str | None = None


def entrants(
    chosen: Sequence[TrialRecord],
    given: Sequence[Architecture] = (),
    *,
    metric: str = DEFAULT_METRIC,
    measure: Measure = measure,
) -> list[Entrant]:
    """Chosen and given networks, equal ones once, and after each a MobileNet V1 and V2 of its cost.

    The cost is the `metric` of what `measure` gives. A reference that two networks share is there
    for each of them.
    """
    candidates: dict[str, Entrant] = {}
    for record in chosen:
        name = record.architecture.name if record.is_baseline else f"trial {record.trial}"
        accuracy = None if record.evaluation is None else record.accuracy
        network = record.architecture.replace(name=name)
        candidates.setdefault(network.fingerprint, Entrant(name, record.origin, network, accuracy))
    for network in given:
        if network.fingerprint not in candidates:
            apart = _named_apart(network, {each.name for each in candidates.values()})
            candidates[network.fingerprint] = Entrant(apart.name, GIVEN, apart)
    found = []
    for candidate in candidates.values():
        found.append(candidate)
        if candidate.family in (SEARCH, GIVEN):
            found += [
                rival
                for rival in rivals(candidate.architecture, metric, measure)
                if rival.architecture.fingerprint != candidate.architecture.fingerprint
            ]
    return found


def _named_apart(network: Architecture, taken: Set[str]) -> Architecture:
    """A network under a name that no other one bears, for rivals know theirs by its name."""
    names = (network.name, *(f"{network.name}-{i}" for i in range(2, len(taken) + 3)))
    return network.replace(name=next(name for name in names if name not in taken))


def rivals(
    network: Architecture, metric: str = DEFAULT_METRIC, measure: Measure = measure
) -> list[Entrant]:
    """A reference of each MobileNet family that costs as much as a network.

    Of widths in hundredths and resolutions near the network's, one whose cost is nearest;
    of those that differ as little (by up to 2 %, up to 4 %, ...) the one of the nearest resolution.
    """
    target = measure(network)[metric]

    def distance(reference: Architecture) -> tuple[int, int, float]:
        off = abs(math.log(measure(reference)[metric] / target))
        return int(off / _NEAR), abs(reference.resolution - network.resolution), off

    found = []
    for family in BASELINE_FAMILIES:
        reference = load_reference(family).replace(num_classes=network.num_classes)
        nearest = min(
            (
                reference.replace(alpha=alpha, resolution=max(_LEAST, network.resolution + step))
                for alpha in _ALPHAS
                for step in _STEPS
            ),
            key=distance,
        )
        name = f"{family}-{nearest.alpha:g}-{nearest.resolution}"
        found.append(Entrant(name, family, nearest.replace(name=name), rival_of=network.name))
    return found
