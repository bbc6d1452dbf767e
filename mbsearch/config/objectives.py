"""The objectives of a search: a score and one cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BeforeValidator

from mbsearch.config.scores import Score
from mbsearch.cost.metrics import COSTS

if TYPE_CHECKING:
    CostName: TypeAlias = str
    ScoreName: TypeAlias = str
else:
    CostName = Literal[tuple(COSTS)]
    ScoreName = Literal[tuple(map(str, Score))]


def _check_objectives(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] not in list(Score):
        first, *others, last = Score
        scores = f"{', '.join((first, *others))} or {last}"
        raise ValueError(f"{scores}, and one of {', '.join(COSTS)} ([accuracy, params])")
    return tuple(value)


Objectives = Annotated[tuple[ScoreName, CostName], BeforeValidator(_check_objectives)]
"""The name of a score and that of a cost, as a pair in the YAML."""
