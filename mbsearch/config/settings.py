"""The keys of a space file that say how to search it: limits, baselines, proxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from mbsearch.cost.units import amount, quantity
from mbsearch.space.blocks import Row

_SUFFIX = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_LEAST_PIXELS = 32  # side of the images that the largest candidates are trained on by default
_FEW_IMAGES = 5_000  # below which a long training has smaller batches
_MICROSECONDS = {"us": 1, "µs": 1, "ms": 10**3, "s": 10**6}


CostName = Literal["mult_adds", "params", "peak_activation_bytes", "latency"]
COSTS: tuple[str, ...] = get_args(CostName)
"""The costs that accuracy can be weighed against, as a space file names them."""
Evaluator = Literal["training", "supernet"]
EVALUATORS: tuple[str, ...] = get_args(Evaluator)
"""What a proxy training can start from."""
LATENCY = "latency_us"
EMBEDDED = "embedded"
"""Name of the images that mbsearch carries with it."""
AUTO, SCRATCH = "auto", "none"
"""Weights to start from: chosen by the images, and fresh ones."""


def cost_of(name: str) -> str:
    """The key of a network's costs that a name in a space file means: latency has a unit there."""
    return LATENCY if name == "latency" else name


def name_of(metric: str) -> str:
    """Inverse of `cost_of`: what a space file calls a cost."""
    return "latency" if metric == LATENCY else metric


def parse_quantity(text: object) -> int:
    """A count as people write it: ``600M``, ``2.5M``, ``512k``, ``1e8`` or a plain number.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    if not isinstance(text, bool) and isinstance(text, int | float | str):
        match = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([kKMG]?)", str(text).strip())
        if match:
            try:
                value = round(float(match[1]) * _SUFFIX[match[2]])
            except (ValueError, OverflowError):
                value = 0
            if value > 0:
                return value
    raise ValueError("a positive number, perhaps with k, M or G (600M)")


def parse_duration(text: object) -> int:
    """A time in microseconds, as people write it: ``5ms``, ``800us``, ``0.01s``.

    Raises:
        ValueError: anything else; the message states what is expected.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(us|µs|ms|s)", str(text).strip())
    value = round(float(match[1]) * _MICROSECONDS[match[2]]) if match else 0
    if value > 0:
        return value
    raise ValueError("a time with its unit, us, ms or s (5ms)")


def parse_cost(metric: str, text: object) -> int:
    """A bound on a cost, in the unit that the cost is counted in.

    Raises:
        ValueError: as `parse_quantity` and `parse_duration`.
    """
    return parse_duration(text) if metric == LATENCY else parse_quantity(text)


Quantity = Annotated[int, BeforeValidator(parse_quantity, json_schema_input_type=int | float | str)]
Duration = Annotated[
    int,
    BeforeValidator(parse_duration, json_schema_input_type=str),
    PlainSerializer("{}us".format, when_used="json"),  # a file reads it back
]


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Alpha = Annotated[float, Field(gt=0, le=16, allow_inf_nan=False)]
Resolution = Annotated[int, Field(ge=1, le=4096)]


class Bounds(Row):
    """Upper bounds on the costs of a network, each inclusive; all of them must hold."""

    mult_adds: Quantity | None = None
    params: Quantity | None = None
    peak_activation_bytes: Quantity | None = None
    latency: Duration | None = None

    def bounds(self) -> dict[str, int]:
        """The bounds that are set, by the costs that they bound."""
        limits = {cost_of(name): getattr(self, name) for name in type(self).model_fields}
        return {metric: limit for metric, limit in limits.items() if limit is not None}

    @property
    def exact(self) -> Self:
        """The bounds that need no measurement."""
        return self.model_copy(update={"latency": None})

    def excess(self, costs: Mapping[str, int]) -> str | None:
        """The first bound that a network breaks, in words; None if it keeps them all.

        Raises:
            KeyError: a bounded cost is not among them.
        """
        for metric, limit in self.bounds().items():
            if costs[metric] > limit:
                return f"{metric} {costs[metric]:,} is above the limit of {limit:,}"
        return None

    def used_share(self, costs: Mapping[str, int]) -> float:
        """The largest share of a bound that a network uses; 0 without bounds."""
        return max((costs[metric] / b for metric, b in self.bounds().items()), default=0.0)


class Limits(Bounds):
    """Hard limits: a network above one of them is never trained, references included."""


class Budget(Bounds):
    """One question to a study: which network is the best within these bounds?"""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not self.bounds():
            raise ValueError(f"a bound on one of {', '.join(COSTS)} (mult_adds: 20M)")
        return self

    @staticmethod
    def of(bounds: Mapping[str, int]) -> Budget:
        """Inverse of `bounds`: latency is in microseconds."""
        return Budget.model_validate(
            {name_of(m): f"{b}us" if m == LATENCY else b for m, b in bounds.items()}
        )

    @property
    def label(self) -> str:
        """The bounds as a sentence has them: ``20 M Mult-Adds and 500 k parameters``."""
        return " and ".join(amount(metric, bound) for metric, bound in self.bounds().items())

    @property
    def slug(self) -> str:
        """The bounds as a part of a file's name: ``20M``, ``20M-500kparams``, ``5ms``."""
        return "-".join(
            quantity(metric, bound).replace(" ", "") + ("params" if metric == "params" else "")
            for metric, bound in self.bounds().items()
        )


class Baseline(Row):
    """Reference networks to train by the same proxy: every alpha with every resolution."""

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
    ] = (224,)


class Recipe(Row):
    """How a network is trained: everything but the network, the images and the seed.

    `epochs` passes over the training images; the learning rate rises over `warmup` of all steps
    and falls to zero along a cosine.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 4
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.012
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    zero_init_residual: bool = True
    flip: bool | None = None  # None: as suits the data set (digits are not mirrored)
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.08
    cutout: Annotated[float, Field(ge=0, le=1)] = 0.0


class Preparation(Row):
    """A training before a search, counted in steps of AdamW, one batch each."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 5000
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.004
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05


class Supernet(Preparation):
    """The one training of shared weights before a search, of which every candidate has a part.

    Each step trains one network: of the baselines for this share of the steps, so that they inherit
    as well as candidates do, else a random candidate.
    """

    baselines: Annotated[float, Field(ge=0, le=1)] = 0.2


class Teacher(Preparation):
    """The donor, fine-tuned on the study's images, and how other networks learn from it.

    It sees images of `pixels` a side. `temperature` and `weight` are those of `distillation`; a
    weight of 0 trains no teacher.
    """

    steps: Annotated[int, Field(ge=1, le=10_000_000)] = 300
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    pixels: Annotated[int, Field(ge=32, le=4096)] = 96
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    weight: Annotated[float, Field(ge=0, lt=1)] = 0.7


GROWTH = 0.1
"""What the weights of a supernet suit as `Proxy.growth`: measured, in docs/proxy.md."""

# What suits a network that takes over trained weights: a shorter and gentler training.
_INHERITING = {
    "epochs": 1,
    "train_images": 3200,
    "learning_rate": 0.002,
    "warmup": 0.1,
    "growth": GROWTH,
}


# What suits one that takes over weights of ImageNet (docs/experiments/inheritance.md).
_TUNING = {**_INHERITING, "epochs": 2, "growth": 0.0, "resolution_scale": 1.0}
_TUNED_SUPERNET = {"steps": 1200, "weight_decay": 0.02}


class Proxy(Recipe):
    """A short training that stands for a long one: a recipe on fewer and smaller images.

    The `evaluator` says what a training starts from: fresh weights, or with ``supernet`` the
    network's part of the shared ones, which has defaults of its own. `width_scale` makes networks
    thinner for the proxy only. The default `resolution_scale` of a space whose largest resolution
    is below 128 is larger, to give that 32 pixels. `growth` is what a network is believed to gain
    from there to a whole training, in log odds of the accuracy for each e-fold of Mult-Adds a
    parameter: a short training flatters parameters.
    """

    evaluator: Evaluator = "training"
    supernet: Supernet = Supernet()
    data: str = EMBEDDED
    width_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    resolution_scale: Annotated[float, Field(gt=0, le=1)] = 0.25
    train_images: Annotated[int, Field(ge=2)] | None = 3000
    validation_images: Annotated[int, Field(ge=2)] | None = 2000
    noise_seeds: Annotated[int, Field(ge=1, le=100)] = 3
    growth: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _suited(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("evaluator") == "supernet":
            return {**_INHERITING, **given}
        return given

    def starting_from(self, evaluator: str) -> Proxy:
        """What was given of the proxy, with another evaluator and the defaults that suit it."""
        given = self.model_dump(exclude_unset=True)
        if self.evaluator == "supernet":
            given = {k: v for k, v in given.items() if _INHERITING.get(k) != v}
        return Proxy.model_validate({**given, "evaluator": evaluator})

    def from_donor(self) -> Proxy:
        """What was given of the proxy, with the defaults that suit weights of a donor."""
        given = self.model_dump(exclude_unset=True)
        kept = {} if "supernet" in given else {"supernet": _TUNED_SUPERNET}
        return Proxy.model_validate({"evaluator": "supernet", **_TUNING, **kept, **given})

    def from_scratch(self) -> Proxy:
        """The default recipe for fresh weights, with the same augmentation."""
        fields = ("data", "width_scale", "validation_images", "flip", "shift", "cutout")
        return Proxy.model_validate({name: getattr(self, name) for name in fields})

    def seeing(self, largest_resolution: int) -> Proxy:
        """The proxy with the default scale that suits the largest resolution of a space."""
        needed = min(1.0, _LEAST_PIXELS / largest_resolution)
        if "resolution_scale" in self.model_fields_set or needed <= self.resolution_scale:
            return self
        return self.model_copy(update={"resolution_scale": needed})

    def pixels(self, resolution: int) -> int:
        """Side of the images, in pixels, that a candidate of this resolution is trained on."""
        return max(1, round(resolution * self.resolution_scale))

    def longer(self, factor: int, images: int) -> Proxy:
        """The recipe that sees `factor` times as many of the `images` there are: new ones first.

        It is scored on every validation image.
        """
        each = min(self.train_images or images, images)
        used = min(factor * each, images)
        epochs = max(1, round(factor * self.epochs * each / used))
        changes = {"train_images": used, "epochs": epochs, "validation_images": None}
        return self.model_copy(update=changes)


class Promotion(Row):
    """The longer training that a search ends with, for its best networks and their MobileNets.

    It takes up to this `share` of the work, 0 for none, where trials that were stopped early count
    as whole, and shows a network `longer` times as many images as the proxy does.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    longer: Annotated[int, Field(ge=2, le=1000)] = 3


class Retrain(Recipe):
    """A long training on all images but the test's, whose accuracy is the last word.

    `ema_decay` averages the weights over the steps, by this factor each, by (1 + n) / (10 + n) in
    the first steps n where that is less, and scores the average; `mixup` is the parameter of the
    Beta distribution that mixes pairs of images (arXiv 1710.09412). Both are off at 0.
    `resolution_scale` is by default as `Settings.final_scale` has it. `tuning_rate` is the learning
    rate of a network that inherits a donor's weights.
    """

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    resolution_scale: Annotated[float, Field(gt=0, le=1)] | None = None
    seeds: Annotated[int, Field(ge=1, le=100)] = 3
    tuning_rate: Annotated[float, Field(gt=0, le=100)] = 0.004

    def sized(self, images: int) -> Self:
        """The recipe for so many training images.

        Few images are few steps, so below 5,000 the default batch is half as large, and the default
        rates with it (docs/proxy.md).
        """
        if images >= _FEW_IMAGES or "batch_size" in self.model_fields_set:
            return self
        changes: dict[str, Any] = {"batch_size": self.batch_size // 2}
        for rate in ("learning_rate", "tuning_rate"):
            if rate not in self.model_fields_set:
                changes[rate] = getattr(self, rate) / 2
        return self.model_copy(update=changes)


_Share = Annotated[float, Field(gt=0, le=1)]
_UntilScale = Annotated[tuple[_Share, _Share], Field(strict=False)]


class Finals(Row):
    """The trainings by the full recipe inside a search, which decide its answers.

    `minutes` bounds their time, 0 for none; by default they take as long as the candidates' other
    trainings, at most 15 minutes. `networks` (candidates a budget) and `epochs` are planned from
    that time where they are not given. `progressive` resizing trains the first epochs on smaller
    images: pairs of a share of the epochs, and the share of a network's own pixels until then.
    """

    minutes: Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)] | None = None
    networks: Annotated[int, Field(ge=1, le=1000)] | None = None
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    progressive: Annotated[tuple[_UntilScale, ...], Field(strict=False)] = ((0.5, 0.5),)

    def from_donor(self) -> Self:
        """The finals of networks that inherit weights: at their own pixels from the first epoch.

        On half of the pixels the inherited weights are lost (docs/pretrained.md).
        """
        if "progressive" in self.model_fields_set:
            return self
        return self.model_copy(update={"progressive": ()})

    def pixel_scale(self, epoch: int, epochs: int) -> float:
        """Share of a network's own pixels that an epoch (from 0) of a training uses."""
        done = (epoch + 1) / epochs
        return next((scale for until, scale in self.progressive if done <= until), 1.0)


class Racing(Row):
    """When a trial is stopped early: see `mbsearch.search.racing`. No rungs: never.

    `rungs` are the epochs after which a trial is looked at. It is stopped when it will, with this
    `confidence`, not end `gain` above the best trial of at most its cost, by a forecast that needs
    `min_peers` trials trained to the end. In a search with finals, which correct for networks that
    learn slowly, it is stopped only if it will end `slack` below that trial.
    """

    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = (1, 2, 3)
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.7
    min_peers: Annotated[int, Field(ge=6)] = 10
    gain: Annotated[float, Field(ge=0, le=1)] = 0.005
    slack: Annotated[float, Field(ge=0, le=1)] = 0.03


def _check_objectives(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] != "accuracy":
        raise ValueError(f"accuracy and one of {', '.join(COSTS)} ([accuracy, params])")
    return tuple(value)


_BudgetOrBound = Annotated[
    Budget, BeforeValidator(lambda given: given, json_schema_input_type=int | float | str | Budget)
]


class Settings(Row):
    """Everything in a space file that is not the architecture.

    The `objectives` are accuracy, and the cost that it is weighed against. A budget that is one
    quantity bounds that cost. With `references` at ``auto`` the strongest MobileNet V1, V2 and
    V3-small of each budget, scaled freely and as published, are found and trained beside the
    candidates; `baselines` lists further ones by hand. `weights` names the donor that networks
    inherit from: a packaged one, or a file of weights; ``none`` trains from scratch, and ``auto``
    takes the packaged one for folders of colour photos.
    """

    objectives: Annotated[
        tuple[Literal["accuracy"], CostName], BeforeValidator(_check_objectives)
    ] = ("accuracy", "mult_adds")
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
    def _plain_budgets(cls, given: Any) -> Any:
        """Read a budget that is one quantity as a bound on the study's cost."""
        if not isinstance(given, dict) or not isinstance(given.get("budgets"), list | tuple):
            return given
        objectives = given.get("objectives", ("accuracy", "mult_adds"))
        metric = objectives[1] if len(objectives) == 2 else "mult_adds"
        budgets = [
            {metric: each} if isinstance(each, int | float | str) else each
            for each in given["budgets"]
        ]
        return {**given, "budgets": budgets}

    @property
    def questions(self) -> tuple[Budget, ...]:
        """The budgets; without one, all limits together are the one budget."""
        if self.budgets or not self.limits.bounds():
            return self.budgets
        return (Budget.model_validate(self.limits.model_dump(mode="json")),)

    def excess(self, costs: Mapping[str, int]) -> str | None:
        """Why a network is never trained, in words; None if it is within limits and a budget.

        Raises:
            KeyError: a bounded cost is not among `costs`.
        """
        broken = [budget.excess(costs) for budget in self.budgets]
        beyond = broken[-1] if broken and all(broken) else None
        return self.limits.excess(costs) or beyond

    @property
    def exact(self) -> Self:
        """The same, with the limits and budgets that need no measurement only."""
        budgets = [budget.exact for budget in self.budgets]
        bounded = all(budget.bounds() for budget in budgets)  # else one of them takes any network
        return self.model_copy(
            update={"limits": self.limits.exact, "budgets": tuple(budgets) if bounded else ()}
        )

    def used_share(self, costs: Mapping[str, int]) -> float:
        """The largest share of a bound that a network uses; above 1 it is never trained.

        Of several budgets the one counts that the network keeps best.
        """
        of_budgets = (budget.used_share(costs) for budget in self.budgets)
        return max(self.limits.used_share(costs), min(of_budgets, default=0.0))

    @property
    def metric(self) -> str:
        """The cost that accuracy is weighed against, a key of a network's costs."""
        return cost_of(self.objectives[1])

    def final_scale(self, data: str) -> float:
        """Share of a network's resolution that final trainings and retraining use.

        All of it, unless the recipe says otherwise. The embedded images have 28 pixels a side and
        stand in for larger photos at the proxy's scale.
        """
        return self.retrain.resolution_scale or (
            self.proxy.resolution_scale if data == EMBEDDED else 1.0
        )

    @property
    def needs_latency(self) -> bool:
        """Whether a candidate's latency has to be known."""
        bounded = (self.limits, *self.budgets)
        return self.metric == LATENCY or any(each.latency is not None for each in bounded)


SETTINGS_KEYS = tuple(Settings.model_fields)


def dump_settings(settings: Settings) -> dict[str, Any]:
    """Plain data of the settings that differ from the defaults, or whose defaults may vary."""
    data = settings.model_dump(mode="json", exclude_defaults=True)
    if settings.proxy.evaluator == "supernet":
        data["proxy"] |= {key: getattr(settings.proxy, key) for key in _INHERITING}
    if settings.weights not in (AUTO, SCRATCH):  # the proxy has other defaults with a donor
        given = {*_TUNING, "evaluator", "supernet"} & settings.proxy.model_fields_set
        kept = settings.proxy.model_dump(mode="json", include=given)
        if kept:
            data["proxy"] = data.get("proxy", {}) | kept
    scale = "resolution_scale"  # unless it is given, it follows from the space's resolutions
    if scale in settings.proxy.model_fields_set:
        data["proxy"] = data.get("proxy", {}) | {scale: settings.proxy.resolution_scale}
    return data
