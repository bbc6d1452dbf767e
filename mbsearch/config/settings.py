"""Settings of a search specification: all YAML keys apart from the architecture's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mbsearch.config.baselines import Baseline
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.finals_settings import Finals
from mbsearch.config.objectives import Objectives
from mbsearch.config.preparation_settings import Teacher
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import EMBEDDED, Proxy
from mbsearch.config.racing_settings import Racing
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.scores import Score
from mbsearch.cost.metrics import COSTS, LATENCY
from mbsearch.space.yaml_source import StrictModel

AUTO, SCRATCH = "auto", "none"
"""Values of `Settings.weights`: a donor chosen by the images, and random weights."""

_BudgetOrBound = Annotated[
    Budget, BeforeValidator(lambda given: given, json_schema_input_type=int | float | str | Budget)
]


class Settings(StrictModel):
    """Settings for searching a space and training its networks.

    `objectives` are the score and the cost that it is weighed against. A budget that is a single
    quantity bounds that cost. With `references: auto` the search also trains the strongest
    MobileNet V1, V2 and V3-small of each budget, scaled freely and as published. `baselines` lists
    further references by hand. `weights` is the donor whose weights networks inherit: the name of a
    packaged one, or a file. ``none`` trains from random weights; ``auto`` takes the packaged donor
    for folders of colour photos.
    """

    objectives: Objectives = ("accuracy", "mult_adds")
    limits: Limits = Limits()
    budgets: Annotated[tuple[_BudgetOrBound, ...], Field(strict=False)] = ()
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False)] = ()
    references: Literal["auto", "none"] = "none"
    weights: Annotated[str, Field(min_length=1)] = AUTO
    teacher: Teacher = Teacher()
    proxy: Proxy = Proxy()
    racing: Racing = Racing()
    promotion: Promotion = Promotion()
    finals: Finals = Finals()
    retrain: Retrain = Retrain()

    @model_validator(mode="before")
    @classmethod
    def _bound_the_objective(cls, given: Any) -> Any:
        """Turn each budget given as a bare quantity into a bound on the cost objective."""
        if not isinstance(given, dict) or not isinstance(given.get("budgets"), list | tuple):
            return given
        objectives = given.get("objectives", ("accuracy", "mult_adds"))
        match objectives:
            case [_, str(metric)]:
                pass
            case _:  # invalid, which the field reports
                metric = "mult_adds"
        budgets = [
            {metric: each} if isinstance(each, int | float | str) else each
            for each in given["budgets"]
        ]
        return {**given, "budgets": budgets}

    @property
    def questions(self) -> tuple[Budget, ...]:
        """The budgets that the study answers; without any, the limits are the only budget."""
        if self.budgets or not self.limits.bounds():
            return self.budgets
        return (Budget.model_validate(self.limits.model_dump(mode="json")),)

    def excess(self, costs: Mapping[str, int]) -> str | None:
        """Return why a network is not trained; None if the limits and at least one budget hold.

        Raises:
            KeyError: a bounded cost is not among `costs`.
        """
        broken = [budget.excess(costs) for budget in self.budgets]
        beyond = broken[-1] if broken and all(broken) else None
        return self.limits.excess(costs) or beyond

    @property
    def exact(self) -> Self:
        """The settings with limits and budgets on exact costs only."""
        budgets = [budget.exact for budget in self.budgets]
        bounded = all(budget.bounds() for budget in budgets)  # else one of them admits any network
        return self.model_copy(
            update={"limits": self.limits.exact, "budgets": tuple(budgets) if bounded else ()}
        )

    def used_share(self, costs: Mapping[str, int]) -> float:
        """Return the largest ratio of a cost to its bound; above 1, a network is not trained.

        Of several budgets, the one with the smallest ratio counts.
        """
        of_budgets = (budget.used_share(costs) for budget in self.budgets)
        return max(self.limits.used_share(costs), min(of_budgets, default=0.0))

    @property
    def score(self) -> Score:
        """The score that is the first objective."""
        return Score(self.objectives[0])

    @property
    def metric(self) -> str:
        """Key of the cost that is the second objective."""
        return COSTS[self.objectives[1]].key

    def final_scale(self, data: str) -> float:
        """Return the scale of a network's resolution in finals and retraining.

        By default it is 1. The embedded images have 28 pixels a side and stand for larger photos,
        so that their default is the proxy's scale.
        """
        return self.retrain.resolution_scale or (
            self.proxy.resolution_scale if data == EMBEDDED else 1.0
        )

    @property
    def needs_latency(self) -> bool:
        """Whether the search needs the latency of its candidates."""
        return LATENCY in {self.metric} | self.bounded

    @property
    def bounded(self) -> frozenset[str]:
        """Keys of the costs that limits or budgets bound."""
        return frozenset().union(*(each.bounds() for each in (self.limits, *self.budgets)))


SETTINGS_KEYS = tuple(Settings.model_fields)


def dump_settings(settings: Settings) -> dict[str, Any]:
    """Return settings as plain data for a YAML file, without default values."""
    data = settings.model_dump(mode="json", exclude_defaults=True)
    with_donor = settings.weights not in (AUTO, SCRATCH)
    kept = settings.proxy.context_dependent(with_donor=with_donor)
    if kept:
        data["proxy"] = data.get("proxy", {}) | kept
    return data
