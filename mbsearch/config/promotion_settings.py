"""Settings of promotion: a longer training of the best networks of a search."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel


class Promotion(StrictModel):
    """Settings of the longer training of a search's best networks and their references.

    A promoted network sees `longer` times as many images as in the proxy. Promotions take at most
    the `share` of all training work, where pruned trials count as whole ones; 0 turns them off.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    longer: Annotated[int, Field(ge=2, le=1000)] = 3
