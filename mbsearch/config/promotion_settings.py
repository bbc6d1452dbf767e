"""Settings of promotion: a longer training of the best networks of a search."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mbsearch.space.yaml_source import StrictModel

_DEFAULT_SHARE = 0.25


class Promotion(StrictModel):
    """Settings of the longer training of a search's best networks and their references.

    A promoted network sees `longer` times as many images as in the proxy. Promotions take at most
    the `share` of all training work, where pruned trials count as whole ones; 0 turns them off. By
    default it is 0.25 if a budget has no finals, and 0 if finals decide all answers.
    """

    share: Annotated[float, Field(ge=0, lt=1)] | None = None
    longer: Annotated[int, Field(ge=2, le=1000)] = 3

    @property
    def allowed(self) -> float:
        """The share of the work that promotions may take, where they are not left out."""
        return _DEFAULT_SHARE if self.share is None else self.share
