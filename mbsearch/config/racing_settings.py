"""Settings of racing: the rule that prunes trials."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel


class Racing(StrictModel):
    """Settings for pruning trials (see `mbsearch.search.racing`); without rungs none is pruned.

    `rungs` are the epochs after which a trial is judged. The incumbent is the best trial of at most
    its cost. A trial is pruned if, with this `confidence`, its final accuracy is less than `gain`
    above the incumbent's. The prediction needs `min_peers` completed trials. Finals correct for
    networks that learn slowly: a search with finals prunes a trial only if its predicted accuracy
    is at least `slack` below the incumbent's.
    """

    rungs: Annotated[tuple[Annotated[int, Field(ge=1, le=10_000)], ...], Field(strict=False)] = (
        1,
        2,
        3,
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.7
    min_peers: Annotated[int, Field(ge=6, le=1_000_000)] = 10
    gain: Annotated[float, Field(ge=0, le=1)] = 0.005
    slack: Annotated[float, Field(ge=0, le=1)] = 0.03
