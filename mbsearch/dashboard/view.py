"""The state of a dashboard page, which is stored in its URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mbsearch.cost.metrics import COSTS
from mbsearch.space.size import Size
from mbsearch.study.records import State, TrialRecord

PUBLISHED_AXES = ("mult_adds", "params", "pixel1_ms")
BUDGETS = tuple(metric.key for metric in COSTS.values())


@dataclass(frozen=True, slots=True)
class View:
    """The state of a page; invalid values in a URL are replaced by defaults.

    `metric` is the cost on the axis, by default the study's. `accuracy` is ``int8`` for accuracies
    as int8 on the other axis, else ``float32``. `trial` is the selected network,
    `others` are those compared with it, `other` is the first of them. `rows` are those of the
    comparison. `budgets` are upper bounds on costs. Filters apply to the trials of the search;
    empty ones let all pass.
    """

    study: str | None = None
    trial: int | None = None
    other: int | None = None
    others: tuple[int, ...] = ()
    rows: str = "differences"
    metric: str = ""
    accuracy: str = "float32"
    colour: str | None = None
    budgets: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    resolutions: tuple[Size, ...] = ()
    states: tuple[str, ...] = ()
    against: str = "trials"
    beside: str | None = None
    choice: str | None = None
    axis: str = "mult_adds"

    @staticmethod
    def parse(data: Mapping[str, Any]) -> View:
        """Return the view for the fields of a URL's query."""
        others = tuple(t for text in _list(data.get("other")) if (t := _integer(text)) is not None)
        return View(
            study=data.get("study") or None,
            trial=_integer(data.get("trial")),
            other=others[0] if others else None,
            others=others,
            rows="all" if data.get("rows") == "all" else "differences",
            metric=data.get("metric") or "",
            accuracy="int8" if data.get("accuracy") == "int8" else "float32",
            colour=data.get("colour") or None,
            budgets={
                metric: value
                for metric in BUDGETS
                if (value := _integer(data.get(f"max_{metric}"))) is not None and value > 0
            },
            blocks=_list(data.get("blocks")),
            alphas=tuple(a for text in _list(data.get("alphas")) if (a := _number(text))),
            resolutions=tuple(s for text in _list(data.get("resolutions")) if (s := _size(text))),
            against="time" if data.get("against") == "time" else "trials",
            beside=data.get("beside") or None,
            choice=data.get("choice") or None,
            axis=axis if (axis := str(data.get("axis"))) in PUBLISHED_AXES else "mult_adds",
            states=tuple(s for s in _list(data.get("states")) if s in set(State)),
        )

    def passes(self, record: TrialRecord, *, ignoring: str | None = None) -> bool:
        """Return whether a trial passes all filters and budgets, except a budget on `ignoring`."""
        for metric, budget in self.budgets.items():
            if metric != ignoring and record.costs.get(metric, 0) > budget:
                return False
        if record.is_baseline:
            return True
        architecture = record.architecture
        return (
            (not self.alphas or architecture.alpha in self.alphas)
            and (not self.resolutions or architecture.resolution in self.resolutions)
            and (not self.states or record.state in self.states)
            and (
                not self.blocks or any(stage.block in self.blocks for stage in architecture.stages)
            )
        )


def read_query(search: str | None) -> dict[str, str]:
    """Return the fields of a URL's query."""
    return dict(parse_qsl((search or "").removeprefix("?")))


def query(data: Mapping[str, Any]) -> str:
    """Return a URL's query string with these fields."""
    text = urlencode({k: v for k, v in data.items() if v not in (None, "")}, safe=",")
    return f"?{text}" if text else ""


def _list(text: object) -> tuple[str, ...]:
    return tuple(part for part in str(text or "").split(",") if part)


def _size(text: str) -> Size | None:
    try:
        return Size.read(text)
    except ValueError:
        return None


def _integer(text: object) -> int | None:
    number = _number(text)
    return None if number is None else round(number)


def _number(text: object) -> float | None:
    try:
        number = float(str(text))
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None
