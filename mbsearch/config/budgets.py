"""Upper bounds on a network's costs: hard limits, and budgets of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BeforeValidator, PlainSerializer, create_model, model_validator

from mbsearch.cost.metrics import COSTS, METRICS, amount, quantity
from mbsearch.cost.units import Unit
from mbsearch.space.yaml_source import StrictModel

B = TypeVar("B", bound="Bounds")


class Bounds(StrictModel):
    """Inclusive upper bounds on the costs of a network, which must all hold.

    The fields are the rows of `mbsearch.cost.metrics.COSTS`.
    """

    def bounds(self) -> dict[str, int]:
        """Return the bounds that are set, by the key of their cost."""
        limits = {metric.key: getattr(self, name) for name, metric in COSTS.items()}
        return {key: limit for key, limit in limits.items() if limit is not None}

    @property
    def exact(self) -> Self:
        """The bounds on exact costs only, without those on measured or predicted costs."""
        others = [name for name, metric in COSTS.items() if metric.of_layers is None]
        return self.model_copy(update=dict.fromkeys(others))

    def excess(self, costs: Mapping[str, int]) -> str | None:
        """Return a message about the first bound that a network exceeds; None if all hold.

        Raises:
            KeyError: a bounded cost is not among `costs`.
        """
        for key, limit in self.bounds().items():
            if costs[key] > limit:
                return f"{key} {costs[key]:,} is above the limit of {limit:,}"
        return None

    def used_share(self, costs: Mapping[str, int]) -> float:
        """Return the largest ratio of a cost to its bound; 0 without bounds."""
        return max((costs[key] / limit for key, limit in self.bounds().items()), default=0.0)


def _bound_type(unit: Unit) -> Any:
    """Return the pydantic type for a bound in a unit, with parser and serializer."""
    return Annotated[
        int,
        BeforeValidator(unit.parse, json_schema_input_type=unit.parsed_type),
        PlainSerializer(unit.dump, when_used="json"),
    ]


def _one_field_a_cost(model: type[B]) -> type[B]:
    """Return a subclass of a model of bounds, with an optional field for each cost."""
    fields: dict[str, Any] = {
        name: (_bound_type(metric.unit) | None, None) for name, metric in COSTS.items()
    }
    return create_model(
        model.__name__,
        __base__=model,
        __module__=model.__module__,
        __doc__=model.__doc__,
        **fields,
    )


@_one_field_a_cost
class Limits(Bounds):
    """Hard limits: a network above any of them is not trained, even if it is a reference."""

    if TYPE_CHECKING:

        def __init__(self, **bounds: int | str | None) -> None: ...


@_one_field_a_cost
class Budget(Bounds):
    """A budget: the search looks for the best network within these bounds."""

    if TYPE_CHECKING:

        def __init__(self, **bounds: int | str | None) -> None: ...

    @model_validator(mode="after")
    def _require_a_bound(self) -> Self:
        if not self.bounds():
            raise ValueError(f"a bound on one of {', '.join(COSTS)} (mult_adds: 20M)")
        return self

    @staticmethod
    def of(bounds: Mapping[str, int]) -> Budget:
        """Return the budget with bounds by cost key; latency is in microseconds."""
        metrics = [METRICS[key] for key in bounds]
        return Budget.model_validate({m.name: m.unit.dump(bounds[m.key]) for m in metrics})

    @property
    def label(self) -> str:
        """The bounds as text in a sentence: ``20 M Mult-Adds and 500 k parameters``."""
        return " and ".join(amount(key, bound) for key, bound in self.bounds().items())

    def option(self, metric: str) -> str:
        """The bounds as an option's value; a single bound on `metric` needs no name.

        ``20M``, or ``mult_adds=20M,params=500k``.
        """
        values = {METRICS[key]: METRICS[key].unit.option(v) for key, v in self.bounds().items()}
        if [each.key for each in values] == [metric]:
            return next(iter(values.values()))
        return ",".join(f"{each.name}={text}" for each, text in values.items())

    @property
    def slug(self) -> str:
        """The bounds as text in a file name, such as ``20M-500kparams``."""
        return "-".join(
            quantity(key, bound).replace(" ", "") + METRICS[key].slug
            for key, bound in self.bounds().items()
        )
