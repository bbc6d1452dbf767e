"""The networks to retrain: chosen ones, and beside each the references it is compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from mbsearch.config.families import COMPETITORS, scaled_reference
from mbsearch.cost import Measure, measure
from mbsearch.space.architecture import Architecture
from mbsearch.study.records import DEFAULT_METRIC, SEARCH, TrialRecord

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


def entrant_of(record: TrialRecord, rival_of: str | None = None) -> Entrant:
    """A network of the study, by its name in text."""
    network = record.architecture.replace(name=record.label)
    accuracy = None if record.evaluation is None else record.accuracy
    return Entrant(record.label, record.origin, network, accuracy, rival_of)


def entrants(
    chosen: Sequence[TrialRecord],
    given: Sequence[Architecture] = (),
    references: Mapping[str, Sequence[TrialRecord]] | None = None,
    *,
    metric: str = DEFAULT_METRIC,
    measure: Measure = measure,
) -> list[Entrant]:
    """Chosen and given networks, equal ones once, and after each the references beside it.

    These are the study's own `references` of a network, by its fingerprint, and a MobileNet of
    equal cost of V1 and V2 where the study has none of that family. The cost is the `metric` of
    what `measure` gives. A reference that two networks share is there for each of them.
    """
    references = references or {}
    candidates: dict[str, Entrant] = {}
    for record in chosen:
        candidates.setdefault(record.fingerprint, entrant_of(record))
    for network in given:
        if network.fingerprint not in candidates:
            apart = _named_apart(network, {each.name for each in candidates.values()})
            candidates[network.fingerprint] = Entrant(apart.name, GIVEN, apart)
    found = []
    for candidate in candidates.values():
        found.append(candidate)
        if candidate.family not in (SEARCH, GIVEN):
            continue
        own = references.get(candidate.architecture.fingerprint, ())
        beside = [entrant_of(r, rival_of=candidate.name) for r in own]
        missing = [f for f in COMPETITORS if f not in {each.family for each in beside}]
        beside += rivals(candidate.architecture, metric, measure, missing)
        distinct = {each.architecture.fingerprint: each for each in reversed(beside)}
        distinct.pop(candidate.architecture.fingerprint, None)
        found += reversed(distinct.values())
    return found


def _named_apart(network: Architecture, taken: Set[str]) -> Architecture:
    """A network under a name that no other one bears, for rivals know theirs by its name."""
    names = (network.name, *(f"{network.name}-{i}" for i in range(2, len(taken) + 3)))
    return network.replace(name=next(name for name in names if name not in taken))


def rivals(
    network: Architecture,
    metric: str = DEFAULT_METRIC,
    measure: Measure = measure,
    families: Sequence[str] = COMPETITORS,
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
    for family in families:
        nearest = min(
            (
                scaled_reference(
                    family, alpha, max(_LEAST, network.resolution + step), network.num_classes
                )
                for alpha in _ALPHAS
                for step in _STEPS
            ),
            key=distance,
        )
        found.append(Entrant(nearest.name, family, nearest, rival_of=network.name))
    return found
