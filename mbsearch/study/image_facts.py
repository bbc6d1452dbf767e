"""Facts of a study's images that readers need without the images: classes and their balance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

IMAGES = "images"
"""User attribute of a study: `ImageFacts` as plain data."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Classes of a study's images.

    `class_names` are in the order of the outputs. `largest_class` has the share of the largest
    class in each split, the accuracy of always predicting it.
    """

    class_names: tuple[str, ...]
    largest_class: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Encode as plain data."""
        return asdict(self) | {"class_names": list(self.class_names)}

    def balance(self, split: str) -> str:
        """Format the share of the largest class in a split: ``largest class 0.950``."""
        return f"largest class {self.largest_class[split]:.3f}"

    @staticmethod
    def of(settings: Mapping[str, Any]) -> ImageFacts | None:
        """Read from a study's stored settings; None for a study of an earlier version."""
        kept = settings.get(IMAGES)
        return (
            None if kept is None else ImageFacts(tuple(kept["class_names"]), kept["largest_class"])
        )


def balance_note(images: ImageFacts | None, split: str) -> str:
    """Format `ImageFacts.balance` in parentheses, after a space; empty if it is unknown."""
    return "" if images is None else f" ({images.balance(split)})"
