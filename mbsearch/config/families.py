"""Families of reference networks that searches compare with, one row each.

Everything that trains, names or draws a family reads this table. To add a family, add its YAML file
to ``space/reference/`` and a row here. Other packaged references have no row: figures draw them
together as other references.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mbsearch.space.architecture import Architecture, Input
from mbsearch.space.library import load_reference
from mbsearch.space.size import Size


@dataclass(frozen=True, slots=True)
class Family:
    """A reference family: its role in a search, published sizes, and style in figures.

    Attributes:
        key: name of the packaged reference.
        name: inside a sentence: ``MobileNetV2``.
        smallest_alpha: smallest published width multiplier; None if none is published.
        smallest_resolution: smallest published resolution: its side in pixels.
        donor: candidates can inherit its weights; else answers are compared with it.
        competitor: retraining and figures compare each network with it at equal cost.
        label: in a legend.
        short: before the size at a point of a figure.
        colour: of its line in figures.
        symbol: plotly's marker.
        label_side: plotly's position of the text at its markers. Below, as the front lies above;
            another side for each family, as costs are often equal.
    """

    key: str
    name: str
    label: str
    short: str
    colour: str
    symbol: str
    label_side: str
    smallest_alpha: float | None = None
    smallest_resolution: int = 96
    donor: bool = False
    competitor: bool = False


_ROWS = (
    Family(
        key="mobilenet_v1",
        name="MobileNetV1",
        smallest_alpha=0.25,
        competitor=True,
        label="MobileNet V1",
        short="V1",
        colour="#E69F00",
        symbol="square",
        label_side="bottom left",
    ),
    Family(
        key="mobilenet_v2",
        name="MobileNetV2",
        smallest_alpha=0.35,
        competitor=True,
        label="MobileNet V2",
        short="V2",
        colour="#D55E00",
        symbol="diamond",
        label_side="bottom right",
    ),
    Family(
        key="mobilenet_v3_small",
        name="MobileNetV3-small",
        smallest_alpha=0.35,
        label="MobileNet V3-small",
        short="V3",
        colour="#009E73",
        symbol="triangle-up",
        label_side="middle right",
    ),
    Family(
        key="efficientnet_lite0",
        name="EfficientNet-Lite0",
        donor=True,
        label="EfficientNet-Lite0, fine-tuned",
        short="Lite0",
        colour="#882255",
        symbol="star",
        label_side="bottom center",
    ),
)
FAMILIES = {row.key: row for row in _ROWS}
"""The families by key."""
COMPARED = {key: row for key, row in FAMILIES.items() if not row.donor}
"""The families that answers are compared with."""
COMPETITORS = tuple(key for key, row in FAMILIES.items() if row.competitor)
"""Keys of the families that networks are compared with at equal cost."""
DONORS = {key: row for key, row in FAMILIES.items() if row.donor}
"""The families whose trained weights candidates can inherit."""


def family_name(key: str) -> str:
    """Return a family's display name, or the key itself if it has no row."""
    return FAMILIES[key].name if key in FAMILIES else key


def scaled_reference(
    family: str,
    alpha: float,
    resolution: Size | int,
    num_classes: int | None = None,
    inputs: Input | None = None,
) -> Architecture:
    """Return a packaged reference at a given width and resolution.

    Its name is like ``MobileNetV2 0.35/128``. By default it takes colour images.

    Raises:
        SpecError: there is no reference of that name, or a value is out of its range.
    """
    name = f"{family_name(family)} {alpha:g}/{resolution}"
    return _cached_reference(family).replace(
        alpha=alpha, resolution=resolution, inputs=inputs, num_classes=num_classes, name=name
    )


# Parsing a file takes longer than computing a cost.
_cached_reference = lru_cache(maxsize=None)(load_reference)


def is_published(family: str, network: Architecture) -> bool:
    """Return whether a network reaches its family's smallest published width and resolution.

    The family's smallest published alpha and resolution count. A reference below them is scaled
    freely.
    """
    row = FAMILIES.get(family)
    return (
        row is not None
        and row.smallest_alpha is not None
        and network.alpha >= row.smallest_alpha
        and network.resolution.shorter >= row.smallest_resolution
    )
