"""Baselines: reference networks listed in a search specification."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from mbsearch.space.size import Resolution, Size
from mbsearch.space.yaml_source import StrictModel

Alpha = Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)]


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


class Baseline(StrictModel):
    """A reference network at every combination of the given alphas and resolutions."""

    reference: str
    alpha: Annotated[
        tuple[Alpha, ...],
        BeforeValidator(_as_list, json_schema_input_type=Alpha | tuple[Alpha, ...]),
        Field(strict=False, min_length=1),
    ] = (1.0,)
    resolution: Annotated[
        tuple[Resolution, ...],
        BeforeValidator(_as_list, json_schema_input_type=Resolution | tuple[Resolution, ...]),
        Field(strict=False, min_length=1),
    ] = (Size.square(224),)
