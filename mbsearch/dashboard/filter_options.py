"""Values that the filters of a study's trials offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbsearch.figures.front import trait_names
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.size import Size
from mbsearch.study.records import State, TrialRecord


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """The traits that colour trials, and the values of each filter, of the searched networks."""

    traits: tuple[str, ...]
    blocks: tuple[str, ...]
    alphas: tuple[float, ...]
    resolutions: tuple[Size, ...]
    states: tuple[str, ...] = tuple(sorted(map(str, State)))

    @staticmethod
    def of(records: Sequence[TrialRecord]) -> FilterOptions:
        """Return the options for a study's records."""
        searched = [r for r in records if not r.is_baseline]
        blocks = {stage.block for r in searched for stage in r.architecture.stages}
        return FilterOptions(
            tuple(trait_names(searched)),
            tuple(block for block in BLOCKS if block in blocks),
            tuple(sorted({r.architecture.alpha for r in searched})),
            tuple(sorted({r.architecture.resolution for r in searched})),
        )
