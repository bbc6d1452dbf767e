"""The objectives of a search: accuracy and one cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator

from mbsearch.cost.metrics import COSTS

if TYPE_CHECKING:
    CostName: TypeAlias = str
else:
    CostName = Literal[tuple(COSTS)]


def _check_objectives(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] != "accuracy":
        raise ValueError(f"accuracy and one of {', '.join(COSTS)} ([accuracy, params])")
    return tuple(value)


Objectives = Annotated[tuple[Literal["accuracy"], CostName], BeforeValidator(_check_objectives)]
"""Accuracy and the name of a cost, as a pair in the YAML."""
