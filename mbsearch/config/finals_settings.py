"""Settings of the finals: training by the full recipe for a few networks of a search."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel

MOST_MINUTES = 10_000
DEFAULT_MINUTES = 15.0
"""Time of the finals if none is given: the default with a donor's weights, else an upper bound."""
_DONOR_DEFAULTS = {"progressive": (), "minutes": DEFAULT_MINUTES}
_Share = Annotated[float, Field(gt=0, le=1)]
_Resizing = Annotated[tuple[_Share, _Share], Field(strict=False)]


class Finals(StrictModel):
    """Settings of the trainings by the full recipe during a search.

    `minutes` bounds their time. By default it is 15 with a donor's weights, and otherwise the time
    of the candidates' other trainings, at most 15 minutes; 0 turns the finals off. `networks`
    (candidates for each budget) and `epochs` are by default planned from that time. `progressive`
    resizing trains the first epochs on smaller images. It lists pairs (share of the epochs, share
    of the network's resolution until then). `int8` validates completed finals as int8 networks,
    too: all, none, or by default as many as take 5 % of the training time.
    """

    minutes: Annotated[float, Field(ge=0, le=MOST_MINUTES, allow_inf_nan=False)] | None = None
    networks: Annotated[int, Field(ge=1, le=1000)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    progressive: Annotated[tuple[_Resizing, ...], Field(strict=False)] = ((0.5, 0.5),)
    int8: bool | None = None

    def from_donor(self) -> Self:
        """Return the settings with the defaults for networks that inherit a donor's weights.

        Settings that were given explicitly stay.
        Epochs at half the resolution lose what was inherited (docs/experiments/inheritance.md).
        The candidates' other trainings are too short to set the time of the finals.
        """
        given = self.model_dump(exclude_unset=True)
        return self.model_validate({**_DONOR_DEFAULTS, **given})

    def pixel_scale(self, epoch: int, epochs: int) -> float:
        """Return the share of a network's resolution to train at in an epoch (counted from 0)."""
        done = (epoch + 1) / epochs
        return next((scale for until, scale in self.progressive if done <= until), 1.0)
