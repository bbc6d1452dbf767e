"""Coverage of a space: references outside it, and resolutions above that of the photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.space.space import SearchSpace
from mbsearch.space.template import Mismatch, match


@dataclass(frozen=True, slots=True)
class Gap:
    """Reference networks of one family and budget that a space excludes because of one key.

    `budget` and `family` are names inside a sentence. `key` is the path in the YAML. `reason`
    describes the space's values at this key, compared with the first reference's.
    """

    budget: str
    family: str
    references: tuple[Architecture, ...]
    key: str
    reason: str

    def __str__(self) -> str:
        """Return the gap as text for the plan of a run.

        Example: ``at 20 M Mult-Adds MobileNetV2 is alpha 0.23 at 160: `alpha` starts at 0.35``.
        """
        first, *others = self.references
        more = f" (and {len(others)} more)" if others else ""
        return (
            f"at {self.budget} {self.family} is alpha {first.alpha:g} at {first.resolution}{more}: "
            f"`{self.key}` {self.reason}"
        )


def gaps(
    space: SearchSpace, budget: str, family: str, references: Sequence[Architecture]
) -> list[Gap]:
    """Return the references that a space does not contain, grouped by the key that excludes them.

    Args:
        space: the space in which each reference is looked up.
        budget: the budget that the references fill: ``20 M Mult-Adds``.
        family: the name of the references' family: ``MobileNetV2``.
        references: networks with the number of classes of the space.
    """
    outside: dict[str, tuple[str, list[Architecture]]] = {}
    for reference in references:
        try:
            match(space.template, reference)
        except Mismatch as difference:
            outside.setdefault(difference.path, (difference.reason, []))[1].append(reference)
    return [
        Gap(budget, family, tuple(networks), key, reason)
        for key, (reason, networks) in outside.items()
    ]


def oversized(space: SearchSpace, photo_side: int) -> list[Size]:
    """Return a space's resolutions whose shorter side is above `photo_side`, the smallest first.

    Args:
        space: the space with these resolutions.
        photo_side: the shorter side of most photos, in pixels.
    """
    return [size for size in space.resolutions if size.shorter > photo_side]
