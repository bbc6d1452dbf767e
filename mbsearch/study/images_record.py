"""What a study records about its images, so that it does not depend on where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mbsearch.study.identity import IDENTITY

IMAGES = "images"
"""User attribute of a study: its `ImagesRecord` as plain data."""


@dataclass(frozen=True, slots=True)
class ImagesRecord:
    """The images of a study.

    Args:
        content: hash of their names, sizes and contents.
        class_names: in the order of a network's outputs.
        mean: of the training images on the scale [0, 1], per channel; one value if they are grey.
        std: as `mean`.
        min_images: the least number of training images of a class.
        left_out: number of training images of each class that was left out, by its name.
        largest_class: share of the largest class in each split, the accuracy of always predicting
            it.
        deep: whether some had more than 8 bits, which were scaled to 8.
    """

    content: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    min_images: int
    left_out: Mapping[str, int]
    largest_class: Mapping[str, float]
    deep: bool

    def balance(self, split: str) -> str:
        """Format the share of the largest class in a split: ``largest class 0.950``."""
        return f"largest class {self.largest_class[split]:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """Encode as plain data."""
        return asdict(self) | {
            "class_names": list(self.class_names),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @staticmethod
    def of(settings: Mapping[str, Any]) -> ImagesRecord | None:
        """Return the record in a study's user attributes; None in a study of an earlier version."""
        data = settings.get(IMAGES)
        if data is None:
            return None
        return ImagesRecord(
            data["content"],
            tuple(data["class_names"]),
            tuple(data["mean"]),
            tuple(data["std"]),
            data["min_images"],
            data["left_out"],
            data["largest_class"],
            data["deep"],
        )


def balance_note(images: ImagesRecord | None, split: str) -> str:
    """Format `ImagesRecord.balance` in parentheses, after a space; empty if it is unknown."""
    return "" if images is None else f" ({images.balance(split)})"


@dataclass(frozen=True, slots=True)
class KnownImages:
    """The images that an existing study is bound to.

    Args:
        place: absolute path or name; studies of earlier versions may have a relative path.
        key: in the study's identity. In studies of earlier versions it depends on the files' times.
        content: hash of the contents; None until such a study is resumed.
    """

    place: str
    key: str
    content: str | None

    @staticmethod
    def of(settings: Mapping[str, Any]) -> KnownImages | None:
        """Return the images in a study's user attributes; None before the study has any."""
        identity, record = settings.get(IDENTITY), ImagesRecord.of(settings)
        if identity is None:
            return None
        return KnownImages(
            identity["data"], identity["data_key"], None if record is None else record.content
        )
