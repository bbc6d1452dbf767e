"""What a space leaves out: references of a budget, and resolutions that the photos have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.space.architecture import Architecture
from mbsearch.space.space import SearchSpace
from mbsearch.space.template import Mismatch, match


@dataclass(frozen=True, slots=True)
class Gap:
    """References of one family that fill a budget and lie outside a space by the same key.

    `budget` and `family` are named as in a sentence, `key` is the path in the YAML, and `reason`
    says what the space has there, for the first of the `references`.
    """

    budget: str
    family: str
    references: tuple[Architecture, ...]
    key: str
    reason: str

    def __str__(self) -> str:
        """``at 20 M Mult-Adds MobileNetV2 is alpha 0.23 at 160: `alpha` starts at 0.35``."""
        first, *others = self.references
        more = f" (and {len(others)} more)" if others else ""
        return (
            f"at {self.budget} {self.family} is alpha {first.alpha:g} at {first.resolution}{more}: "
            f"`{self.key}` {self.reason}"
        )


def gaps(
    space: SearchSpace, budget: str, family: str, references: Sequence[Architecture]
) -> list[Gap]:
    """Return what of a family's references lies outside a space, one gap a key.

    Args:
        space: of which every reference is looked up.
        budget: that the references fill, as a sentence names it: ``20 M Mult-Adds``.
        family: of the references, as a sentence names it: ``MobileNetV2``.
        references: with the number of classes of the space.
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


def resolutions(space: SearchSpace) -> list[int]:
    """Return the resolutions of a space, in ascending order."""
    found = next((c.values for c in space.choices if c.name == "resolution"), None)
    if found is None:
        found = (space.decode(space.complete({})).resolution,)
    return sorted(int(r) for r in found if isinstance(r, int))


def oversized(space: SearchSpace, photo_side: int) -> list[int]:
    """Return the resolutions of a space that exceed the photos' own pixels, in ascending order.

    Args:
        space: whose resolutions are looked through.
        photo_side: the shorter side of most photos, in pixels.
    """
    return [resolution for resolution in resolutions(space) if resolution > photo_side]
