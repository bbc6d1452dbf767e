"""Settings of the proxy: the short training that scores every candidate."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from mbsearch.config.preparation_settings import Supernet
from mbsearch.config.recipe import Recipe
from mbsearch.space.size import Size

Evaluator = Literal["training", "supernet"]
EVALUATORS: tuple[str, ...] = get_args(Evaluator)
"""Where a proxy training's first weights come from."""
EMBEDDED = "embedded"
"""Name of the images that the package contains."""
EMBEDDED_TITLE = "Fashion-MNIST (built-in)"
"""Their title."""
GROWTH = 0.1
"""Default of `Proxy.growth` for networks that inherit a supernet's weights."""

_LEAST_PIXELS = 32  # shorter side of the images of a space's largest resolution, by default
# Defaults for networks that inherit trained weights: a shorter training at a lower learning rate.
_SUPERNET_DEFAULTS = {
    "epochs": 1,
    "train_images": 3200,
    "learning_rate": 0.002,
    "warmup": 0.1,
    "growth": GROWTH,
}
# Defaults for networks that inherit a donor's weights (docs/experiments/inheritance.md).
_DONOR_DEFAULTS = {**_SUPERNET_DEFAULTS, "epochs": 2, "growth": 0.0, "resolution_scale": 1.0}
_DONOR_SUPERNET = {"steps": 1200, "weight_decay": 0.02}


class Proxy(Recipe):
    """Settings of the short training that ranks networks: a recipe for fewer, smaller images.

    `evaluator` names where the first weights come from: random (``training``), or the supernet
    (``supernet``). The supernet's defaults are one epoch of 3,200 images, a learning rate of 0.002,
    a warmup of 0.1 and a growth of 0.1. With a donor's weights they are two epochs at the networks'
    own resolution without growth, and 1,200 steps of the supernet with a weight decay of 0.02.
    Classes with fewer than `min_images` training images are left out. `width_scale` multiplies the
    networks' channels in the proxy only. `resolution_scale` multiplies their resolution; if the
    largest resolution of a space is below 128 pixels on its shorter side, the default makes this
    side 32 pixels. `growth` corrects for short trainings, which favour parameters over Mult-Adds:
    it is the expected gain of a long training, in log odds of the accuracy for each e-fold of
    Mult-Adds a parameter.
    """

    evaluator: Evaluator = "training"
    supernet: Supernet = Supernet()
    data: str = EMBEDDED
    min_images: Annotated[int, Field(ge=1)] = 1
    width_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    resolution_scale: Annotated[float, Field(gt=0, le=1)] = 0.25
    train_images: Annotated[int, Field(ge=2, le=1_000_000_000)] | None = 3000
    validation_images: Annotated[int, Field(ge=2, le=1_000_000_000)] | None = 2000
    noise_seeds: Annotated[int, Field(ge=1, le=100)] = 3
    growth: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _apply_supernet_defaults(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("evaluator") == "supernet":
            return {**_SUPERNET_DEFAULTS, **given}
        return given

    def starting_from(self, evaluator: str) -> Proxy:
        """Return the proxy with another `evaluator`, whose defaults fill the settings not given."""
        given = self.model_dump(exclude_unset=True)
        if self.evaluator == "supernet":
            given = {k: v for k, v in given.items() if _SUPERNET_DEFAULTS.get(k) != v}
        return Proxy.model_validate({**given, "evaluator": evaluator})

    def from_donor(self) -> Proxy:
        """Return the proxy with the defaults for networks that inherit a donor's weights.

        Settings that were given explicitly stay.
        """
        given = self.model_dump(exclude_unset=True)
        kept = {} if "supernet" in given else {"supernet": _DONOR_SUPERNET}
        return Proxy.model_validate({"evaluator": "supernet", **_DONOR_DEFAULTS, **kept, **given})

    def from_scratch(self) -> Proxy:
        """Return the default proxy for random weights, with the augmentation of this one."""
        fields = (
            "data",
            "min_images",
            "width_scale",
            "validation_images",
            "flip",
            "shift",
            "cutout",
        )
        return Proxy.model_validate({name: getattr(self, name) for name in fields})

    def scaled_for(self, largest_resolution: Size) -> Proxy:
        """Return the proxy with a `resolution_scale` suited to a space's largest resolution.

        A scale that was given explicitly stays.
        """
        needed = min(1.0, _LEAST_PIXELS / largest_resolution.shorter)
        if "resolution_scale" in self.model_fields_set or needed <= self.resolution_scale:
            return self
        return self.model_copy(update={"resolution_scale": needed})

    def pixels(self, resolution: Size) -> Size:
        """Return the size of the images for a network of this resolution."""
        return resolution.scaled(self.resolution_scale)

    def longer(self, factor: int, images: int) -> Proxy:
        """Return the recipe for training on `factor` times as many images.

        At most `images` are available. It takes new images before it takes more epochs, and
        validates on all validation images.
        """
        each = min(self.train_images or images, images)
        used = min(factor * each, images)
        epochs = max(1, round(factor * self.epochs * each / used))
        changes = {"train_images": used, "epochs": epochs, "validation_images": None}
        return self.model_copy(update=changes)

    def context_dependent(self, *, with_donor: bool) -> dict[str, Any]:
        """Return the settings to write to a file even if they equal the defaults.

        Their defaults depend on the evaluator, on the donor, or on the space's resolutions.
        """
        fields = list(_SUPERNET_DEFAULTS) if self.evaluator == "supernet" else []
        if with_donor:
            donor_fields = {*_DONOR_DEFAULTS, "evaluator", "supernet"}
            fields += [
                key
                for key in type(self).model_fields
                if key in donor_fields & self.model_fields_set
            ]
        fields += {"resolution_scale"} & self.model_fields_set
        dumped = self.model_dump(mode="json", include=set(fields))
        return {key: dumped[key] for key in fields}


def data_title(data: str) -> str:
    """Return the display title of a data set: the built-in one's, or the folder's name."""
    return EMBEDDED_TITLE if data == EMBEDDED else PurePath(data).name
